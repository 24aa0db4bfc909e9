"""The scheduler: which task runs where, what a failure costs, and when the job is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swiftpy.core.events import (
    Command,
    DrainRequested,
    Event,
    GraceExpired,
    InterruptRequested,
    InterruptTask,
    KillTask,
    ReportOutcome,
    StartTask,
    StopWorker,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskSubmitted,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.queue import IdleWorkers, ReadyQueue
from swiftpy.core.task import FINAL_STATES, TRANSITIONS, Target, Task, TaskState
from swiftpy.errors import TaskError


@dataclass(slots=True)
class _Running:
    task: Task
    attempt: int


class Scheduler:
    """Matches ready tasks with waiting workers.

    `workers` maps the rank of every worker of the job to the name of its node; a worker takes tasks once it is
    ready. An illegal event (a task id used twice, a worker that does not exist) raises ValueError and changes
    nothing. An event of an attempt that is over is dropped: it crossed a KillTask or a WorkerLost on its way.
    """

    def __init__(self, workers: Mapping[int, str]) -> None:
        self.workers = dict(workers)
        self.draining = False
        self._closed = False
        self._stopped = False
        self._ready = ReadyQueue()
        self._idle = IdleWorkers()
        self._running: dict[int, _Running] = {}  # worker -> its attempt
        self._states: dict[int, TaskState] = {}
        self._attempts: dict[int, int] = {}
        self._handlers: dict[type, Callable[[Any], list[Command]]] = {
            TaskSubmitted: self._task_submitted,
            SubmissionClosed: self._submission_closed,
            WorkerReady: self._worker_ready,
            WorkerLost: self._worker_lost,
            TaskFinished: self._task_finished,
            TaskFailed: self._task_failed,
            TaskKilled: self._task_killed,
            DrainRequested: self._drain_requested,
            InterruptRequested: self._interrupt_requested,
            GraceExpired: self._grace_expired,
        }

    def step(self, event: Event) -> list[Command]:
        """Take in one event; return what must be done about it, in this order."""
        commands = self._handlers[type(event)](event)
        return commands + self._stop_when_over()

    @property
    def over(self) -> bool:
        """All tasks are resolved and the workers were told to stop."""
        return self._stopped

    @property
    def running(self) -> dict[int, Task]:
        """worker -> the task that it runs."""
        return {worker: running.task for worker, running in self._running.items()}

    @property
    def waiting(self) -> int:
        """How many tasks wait for a worker."""
        return len(self._ready)

    # -- events ------------------------------------------------------------------------------------------------

    def _task_submitted(self, event: TaskSubmitted) -> list[Command]:
        task = event.task
        if task.id in self._states:
            raise ValueError(f"task {task.id} was submitted before")
        if self._closed:
            raise ValueError(f"task {task.id} was submitted after SubmissionClosed")
        self._states[task.id] = TaskState.READY
        if self.draining:
            return [self._interrupt(task)]
        return self._place(task)

    def _submission_closed(self, event: SubmissionClosed) -> list[Command]:
        self._closed = True
        return []

    def _worker_ready(self, event: WorkerReady) -> list[Command]:
        self._node_of(event.worker)
        if event.worker in self._idle or event.worker in self._running:
            raise ValueError(f"worker {event.worker} was ready before")
        return self._next_task_for(event.worker)

    def _worker_lost(self, event: WorkerLost) -> list[Command]:
        node = self._node_of(event.worker)
        del self.workers[event.worker]
        self._idle.discard(event.worker)
        commands: list[Command] = []
        running = self._running.pop(event.worker, None)
        if running:
            error = TaskError("lost", event.reason, host=node, rank=event.worker)
            commands += self._settle_failure(running, event.worker, error, 0.0)
        orphans = [Target(rank=event.worker)]
        if node not in self.workers.values():
            orphans.append(Target(node=node))
        tasks = [task for target in orphans for task in self._ready.pop_all(target)]
        if not self.workers:
            tasks += self._ready.pop_all()
        return commands + [self._reject(task) for task in tasks]

    def _task_finished(self, event: TaskFinished) -> list[Command]:
        running = self._take_current(event)
        if running is None:
            return []
        self._move(running.task, TaskState.DONE)
        report = ReportOutcome(
            running.task, TaskState.DONE, event.attempt, event.worker, event.seconds, value=event.value
        )
        return [report, *self._next_task_for(event.worker)]

    def _task_failed(self, event: TaskFailed) -> list[Command]:
        running = self._take_current(event)
        if running is None:
            return []
        commands = self._settle_failure(running, event.worker, event.error, event.seconds)
        return commands + self._next_task_for(event.worker)

    def _task_killed(self, event: TaskKilled) -> list[Command]:
        running = self._take_current(event)
        if running is None:
            return []
        return [
            self._interrupt(running.task, event.attempt, event.worker, event.seconds),
            *self._next_task_for(event.worker),
        ]

    def _drain_requested(self, event: DrainRequested) -> list[Command]:
        self.draining = True
        self._closed = True
        return [self._interrupt(task) for task in self._ready.pop_all()]

    def _interrupt_requested(self, event: InterruptRequested) -> list[Command]:
        if not self.draining:
            raise ValueError("InterruptRequested without DrainRequested")
        return [InterruptTask(worker, running.task.id, running.attempt) for worker, running in self._running.items()]

    def _grace_expired(self, event: GraceExpired) -> list[Command]:
        if not self.draining:
            raise ValueError("GraceExpired without DrainRequested")
        return [KillTask(worker, running.task.id, running.attempt) for worker, running in self._running.items()]

    # -- what follows from them --------------------------------------------------------------------------------

    def _place(self, task: Task) -> list[Command]:
        """Start a ready task on a waiting worker, or queue it, or reject it if it can run nowhere."""
        if not self._can_run(task.target):
            return [self._reject(task)]
        worker = self._idle.take(task.target)
        if worker is None:
            self._ready.push(task)
            return []
        return [self._start(task, worker)]

    def _can_run(self, target: Target) -> bool:
        if target.rank is not None:
            return target.rank in self.workers
        return bool(self.workers) if target.node is None else target.node in self.workers.values()

    def _next_task_for(self, worker: int) -> list[Command]:
        node = self.workers[worker]
        task = self._ready.pop_for(worker, node)
        if task is None:
            self._idle.add(worker, node)
            return []
        return [self._start(task, worker)]

    def _start(self, task: Task, worker: int) -> StartTask:
        self._move(task, TaskState.RUNNING)
        attempt = self._attempts[task.id] = self._attempts.get(task.id, 0) + 1
        self._running[worker] = _Running(task, attempt)
        return StartTask(worker, task, attempt)

    def _settle_failure(self, running: _Running, worker: int, error: TaskError, seconds: float) -> list[Command]:
        """Report a failed attempt; try again while attempts are left. When draining, the restart tries again."""
        task, attempt = running.task, running.attempt
        if attempt > task.retries:
            state = TaskState.FAILED
        else:
            state = TaskState.INTERRUPTED if self.draining else TaskState.READY
        self._move(task, state)
        report = ReportOutcome(task, state, attempt, worker, seconds, error=error)
        return [report, *(self._place(task) if state is TaskState.READY else [])]

    def _interrupt(
        self, task: Task, attempt: int = 0, worker: int | None = None, seconds: float = 0.0
    ) -> ReportOutcome:
        self._move(task, TaskState.INTERRUPTED)
        return ReportOutcome(task, TaskState.INTERRUPTED, attempt, worker, seconds)

    def _reject(self, task: Task) -> ReportOutcome:
        self._move(task, TaskState.FAILED)
        error = TaskError("rejected", f"there is no worker for it: it wants {task.target}")
        return ReportOutcome(task, TaskState.FAILED, self._attempts.get(task.id, 0), None, error=error)

    def _stop_when_over(self) -> list[Command]:
        if self._stopped or not self._closed or self._running or len(self._ready):
            return []
        self._stopped = True
        return [StopWorker(worker) for worker in self.workers]

    # -- bookkeeping -------------------------------------------------------------------------------------------

    def _take_current(self, event: TaskFinished | TaskFailed | TaskKilled) -> _Running | None:
        """The attempt that the event speaks of, if it is what the worker runs; else the event is stale."""
        running = self._running.get(event.worker)
        if running is None or (running.task.id, running.attempt) != (event.task_id, event.attempt):
            return None
        return self._running.pop(event.worker)

    def _node_of(self, worker: int) -> str:
        if worker not in self.workers:
            raise ValueError(f"there is no worker {worker}")
        return self.workers[worker]

    def _move(self, task: Task, state: TaskState) -> None:
        if state not in TRANSITIONS[self._states[task.id]]:
            raise ValueError(f"task {task.id} cannot go from {self._states[task.id]} to {state}")
        self._states[task.id] = state

    def check(self) -> None:
        """Assert every invariant (for tests and the simulator)."""
        states = self._states.values()
        assert len(self._running) == sum(s is TaskState.RUNNING for s in states)
        assert len(self._ready) == sum(s is TaskState.READY for s in states)
        assert not any(worker in self._idle for worker in self._running)
        assert set(self._running) <= set(self.workers)
        assert not self._stopped or all(state in FINAL_STATES for state in states)
        for worker, node in self.workers.items():
            if worker in self._idle:  # nobody waits while there is something for them to do
                task = self._ready.pop_for(worker, node)
                assert task is None, f"worker {worker} waits while task {task} is ready"
