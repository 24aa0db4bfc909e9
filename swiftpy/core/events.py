"""What the scheduler hears (events, past tense) and what it wants done (commands, imperative).

Named tuples, because the engine makes several for each task: they cost a third of a frozen dataclass. Events that
concern a worker are also the messages that it sends. Their annotations are no texts, as elsewhere, which typing would
compile one by one whenever a rank starts.
"""

from typing import NamedTuple

from swiftpy.core.task import Task, TaskState
from swiftpy.errors import TaskError


class TaskSubmitted(NamedTuple):
    """A client added a task. Its ids must be higher than all ids before."""

    task: Task


class ValueGiven(NamedTuple):
    """The client itself gave the result with this id, which tasks may need, or says why there will be none."""

    id: int
    error: TaskError | None = None


class SubmissionClosed(NamedTuple):
    """No client will add tasks any more: the job ends when the present ones are resolved."""


class WorkerReady(NamedTuple):
    """A worker is up and waits for its first task."""

    worker: int


class WorkerLost(NamedTuple):
    """A worker is gone, with whatever it was running."""

    worker: int
    reason: str


class Share(NamedTuple):
    """What an event is about if a server of others sends it: so many calls from `task_id` on.

    `worker` had them; it is the server itself if several workers had.
    """

    calls: int
    worker: int


class TaskFinished(NamedTuple):
    """An attempt ended on the worker, after `seconds`. `value` is what its calls returned, pickled: a list, or several.

    Of the calls, the first `made` were made (None: all); the others were not begun. `failures` are those that raised:
    (index, error) in order of index. For `waited` of the seconds they waited for other tasks.
    """

    worker: int
    task_id: int
    attempt: int
    value: bytes | list[bytes]
    seconds: float
    made: int | None = None
    failures: tuple[tuple[int, TaskError], ...] = ()
    share: Share | None = None
    waited: float = 0.0


class TaskFailed(NamedTuple):
    """An attempt died or ran out of time, or the whole of it raised. `seconds` is what it took.

    `value`: of a parallel task that failed, though not on its first worker, what it returned on that one. Only a server
    of others says so, which has heard of all of them.
    """

    worker: int
    task_id: int
    attempt: int
    error: TaskError
    seconds: float
    share: Share | None = None
    value: bytes | list[bytes] | None = None


class TaskKilled(NamedTuple):
    """An attempt was ended because the scheduler asked for it (KillTask)."""

    worker: int
    task_id: int
    attempt: int
    seconds: float
    share: Share | None = None


class TaskReturned(NamedTuple):
    """Asked for it (RecallTasks), a worker gave up the calls that it had not begun: it keeps the first `kept`."""

    worker: int
    task_id: int
    attempt: int
    kept: int
    share: Share | None = None


class RecallAnswered(NamedTuple):
    """A worker has given up all that it could."""

    worker: int


class TaskSuspended(NamedTuple):
    """A call of this attempt waits for other tasks; until it goes on the worker can run others.

    `timed`: it goes on some time even if nothing comes.
    """

    worker: int
    task_id: int
    attempt: int
    timed: bool = False


class TaskResumed(NamedTuple):
    """The call goes on: what the worker holds besides must wait for it."""

    worker: int
    task_id: int
    attempt: int


class WorkWanted(NamedTuple):
    """A server of others could do with so many more pieces; `idle`: some of its workers have nothing to do."""

    worker: int
    pieces: int
    idle: bool


class GroupStuck(NamedTuple):
    """All that a server of others holds waits for other tasks; or no longer."""

    worker: int
    stuck: bool


class WithdrawalRequested(NamedTuple):
    """The client takes back the calls that no worker was given, and that it may give to others."""


class DrainRequested(NamedTuple):
    """The job shall end early: start nothing more, let the running tasks be."""

    reason: str


class InterruptRequested(NamedTuple):
    """Running tasks shall come to an end, too: each is asked to save its state and stop."""


class GraceExpired(NamedTuple):
    """The time is up that running tasks had to end by themselves after InterruptRequested."""


class StartTask(NamedTuple):
    """Run an attempt of a task on a worker; on all workers of `gang` if it wants several, of which this is one.

    `pieces`, for a server of others: how many workers' pieces that is, None for a worker.
    """

    worker: int
    task: Task
    attempt: int
    gang: tuple[int, ...] = ()
    pieces: int | None = None


class InterruptTask(NamedTuple):
    """Ask an attempt to save its state and stop. One that cannot do so goes on."""

    worker: int
    task_id: int
    attempt: int


class KillTask(NamedTuple):
    """End an attempt now. A worker that no longer runs it ignores this."""

    worker: int
    task_id: int
    attempt: int


class RecallTasks(NamedTuple):
    """Give back the calls that were not begun: others have nothing to do."""

    worker: int


class PassOn(NamedTuple):
    """Let a server of others take in this event."""

    worker: int
    event: DrainRequested | InterruptRequested | GraceExpired


class StopWorker(NamedTuple):
    """There is nothing more to do for this worker."""

    worker: int


class ReportOutcome(NamedTuple):
    """Tell the client how an attempt ended, before anything that follows from it is done.

    `state` is the task's new state: READY means that a failed attempt will be tried again. `attempt` and `worker` are
    0 and None for a task that never started. `value` comes with DONE, `error` with a failed attempt; both with that of
    a parallel task which failed on other workers than its first. A run of calls is reported in parts: the calls of a
    DONE `task` whose indices are in `failed` have reports of their own. `seconds` is what the attempt took, for
    `waited` of which it waited for other tasks; of several parts, the first has both.
    """

    task: Task
    state: TaskState
    attempt: int
    worker: int | None
    seconds: float = 0.0
    value: bytes | list[bytes] | None = None
    error: TaskError | None = None
    failed: frozenset[int] = frozenset()
    waited: float = 0.0

    @property
    def indices(self) -> list[int]:
        """The calls of the task that this report is about, by index."""
        return [index for index in range(self.task.count) if index not in self.failed]


Event = (
    TaskSubmitted
    | ValueGiven
    | SubmissionClosed
    | WorkerReady
    | WorkerLost
    | TaskFinished
    | TaskFailed
    | TaskKilled
    | TaskReturned
    | RecallAnswered
    | TaskSuspended
    | TaskResumed
    | WorkWanted
    | GroupStuck
    | WithdrawalRequested
    | DrainRequested
    | InterruptRequested
    | GraceExpired
)
Command = StartTask | InterruptTask | KillTask | RecallTasks | PassOn | StopWorker | ReportOutcome
