"""What the scheduler hears (events, past tense) and what it wants done (commands, imperative).

Both are plain values. Those that concern a worker are also the messages between server and workers: a worker sends
events, the server sends commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from swiftpy.core.task import Task, TaskState
from swiftpy.errors import TaskError


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A client added a task."""

    task: Task


@dataclass(frozen=True, slots=True)
class SubmissionClosed:
    """No client will add tasks any more: the job ends when the present ones are resolved."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker is up and waits for its first task."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone, with whatever it was running."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """An attempt returned; `value` is its pickled result, `seconds` what it took on the worker."""

    worker: int
    task_id: int
    attempt: int
    value: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An attempt raised, died, or ran out of time. `seconds` is what it took."""

    worker: int
    task_id: int
    attempt: int
    error: TaskError
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskKilled:
    """An attempt was ended because the scheduler asked for it (KillTask)."""

    worker: int
    task_id: int
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The job shall end early: start nothing more, let the running tasks be."""

    reason: str


@dataclass(frozen=True, slots=True)
class InterruptRequested:
    """Running tasks shall come to an end, too: each is asked to save its state and stop."""


@dataclass(frozen=True, slots=True)
class GraceExpired:
    """The time is up that running tasks had to end by themselves after InterruptRequested."""


@dataclass(frozen=True, slots=True)
class StartTask:
    """Run an attempt of a task on a worker."""

    worker: int
    task: Task
    attempt: int


@dataclass(frozen=True, slots=True)
class InterruptTask:
    """Ask an attempt to save its state and stop. One that cannot do so goes on."""

    worker: int
    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class KillTask:
    """End an attempt now. A worker that no longer runs it ignores this."""

    worker: int
    task_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """There is nothing more to do for this worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """Tell the client how an attempt ended, before anything that follows from it is done.

    `state` is the task's new state: READY means that a failed attempt will be tried again. `attempt` and `worker` are
    0 and None for a task that never started. `value` comes with DONE, `error` with a failed attempt.
    """

    task: Task
    state: TaskState
    attempt: int
    worker: int | None
    seconds: float = 0.0
    value: bytes | None = None
    error: TaskError | None = None


Event = (
    TaskSubmitted
    | SubmissionClosed
    | WorkerReady
    | WorkerLost
    | TaskFinished
    | TaskFailed
    | TaskKilled
    | DrainRequested
    | InterruptRequested
    | GraceExpired
)
Command = StartTask | InterruptTask | KillTask | StopWorker | ReportOutcome
