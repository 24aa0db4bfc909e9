"""The scheduler: what becomes of each task, what a failure costs, and when the job is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.events import (
    Command,
    DrainRequested,
    Event,
    GraceExpired,
    InterruptRequested,
    InterruptTask,
    KillTask,
    RecallAnswered,
    ReportOutcome,
    StopWorker,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskReturned,
    TaskSubmitted,
    ValueGiven,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.placement import Placement
from swiftpy.core.task import Site, Task, TaskState
from swiftpy.errors import TaskError


class Scheduler:
    """Matches ready tasks with waiting workers.

    `workers` maps the rank of every worker of the job to where and what it is; a worker takes tasks once it is ready.
    An illegal event (a task id used twice, a worker that does not exist) raises ValueError and changes nothing. An
    event of an attempt that is over is dropped: it crossed a KillTask or a WorkerLost on its way. A task's state is
    where it is held: in `_dependencies` (BLOCKED), in `_placement.ready` or in `_placement.running`; what is resolved
    is forgotten, so that memory does not grow with what was done.
    """

    def __init__(self, workers: Mapping[int, Site]) -> None:
        self.draining = False
        self._closed = False
        self._stopped = False
        self._last_id = -1
        self._dependencies = Dependencies()
        self._placement = Placement(workers, self._dependencies)
        self._handlers: dict[type, Callable[[Any], list[Command]]] = {
            TaskSubmitted: self._task_submitted,
            ValueGiven: self._value_given,
            SubmissionClosed: self._submission_closed,
            WorkerReady: self._worker_ready,
            WorkerLost: self._worker_lost,
            TaskFinished: self._task_finished,
            TaskFailed: self._task_failed,
            TaskKilled: self._task_killed,
            TaskReturned: self._task_returned,
            RecallAnswered: self._recall_answered,
            DrainRequested: self._drain_requested,
            InterruptRequested: self._interrupt_requested,
            GraceExpired: self._grace_expired,
        }

    def step(self, event: Event) -> list[Command]:
        """Take in one event; return what must be done about it, in this order."""
        commands = self._handlers[type(event)](event)
        if self._closed and not self._stopped and self.quiet:
            self._stopped = True
            commands += [StopWorker(worker) for worker in self._placement.workers]
        return commands

    @property
    def over(self) -> bool:
        """All tasks are resolved and the workers were told to stop."""
        return self._stopped

    @property
    def quiet(self) -> bool:
        """No task is unresolved."""
        return not (self._placement.running or self._placement.ready or self._dependencies)

    @property
    def stuck(self) -> list[Task]:
        """Blocked tasks, when nothing runs or is ready that could ever free them."""
        return [] if self._placement.running or self._placement.ready else list(self._dependencies)

    @property
    def running(self) -> dict[int, Task]:
        """worker -> the task that it runs."""
        return {worker: held[0] for worker, held in self._placement.running.items()}

    @property
    def waiting(self) -> int:
        """How many calls wait for a worker."""
        return self._placement.ready.calls

    # -- events ------------------------------------------------------------------------------------------------

    def _task_submitted(self, event: TaskSubmitted) -> list[Command]:
        task = event.task
        if task.id <= self._last_id:
            raise ValueError(f"task {task.id} was submitted after task {self._last_id}")
        if self._closed and not self.draining:
            raise ValueError(f"task {task.id} was submitted after SubmissionClosed")
        self._last_id = task.id + task.count - 1
        if self.draining:
            return [_interrupted(task)]
        if task.after:
            self._dependencies.add(task)
            return []
        return self._place(task)

    def _value_given(self, event: ValueGiven) -> list[Command]:
        return [command for task in self._dependencies.resolved(event.id, 1) for command in self._place(task)]

    def _submission_closed(self, event: SubmissionClosed) -> list[Command]:
        self._closed = True
        return []

    def _worker_ready(self, event: WorkerReady) -> list[Command]:
        self._must_exist(event.worker)
        if event.worker in self._placement.idle or event.worker in self._placement.running:
            raise ValueError(f"worker {event.worker} was ready before")
        return self._placement.feed(event.worker)

    def _worker_lost(self, event: WorkerLost) -> list[Command]:
        self._must_exist(event.worker)
        node = self._placement.workers[event.worker].node
        held = self._placement.lose(event.worker)
        commands: list[Command] = []
        for task in held[:1]:
            error = TaskError("lost", event.reason, host=node, rank=event.worker)
            commands += self._attempt_failed(task, event.worker, error, 0.0)
        for task in held[1:]:  # it had not begun
            commands += self._again(task, charged=False)
        orphans = [task for task in self._placement.ready if self._placement.lacks(task)]
        self._placement.withdraw(orphans)
        return commands + [command for task in orphans for command in self._reject(task)]

    def _task_finished(self, event: TaskFinished) -> list[Command]:
        task = self._placement.release(event.worker, event.task_id, event.attempt)
        if task is None:
            return []
        if task.kind.ranks > 1:
            return self._gang_finished(task, event)
        calls = task.count if event.made is None else event.made
        if not calls:
            return self._again(task, charged=False) + self._placement.feed(event.worker)
        self._placement.pieces.measured(task.kind.function, calls, event.seconds)
        commands: list[Command] = []
        done, rest = (task, None) if calls == task.count else (task.part(0, calls), task.part(calls, task.count))
        if len(event.failures) < calls:
            commands.append(_done(done, event))
        if rest is not None:
            if event.failures and task.kind.chained:
                rest.after = (done.id + event.failures[-1][0],)
                self._dependencies.add(rest)
            else:
                commands += self._again(rest, charged=False)
        for index, error in event.failures:
            failed = done if done.count == 1 else done.part(index, index + 1)
            commands += self._settle_failure(failed, event.worker, error, event.seconds)
        freed = self._dependencies.resolved(done.id, calls, {index for index, _ in event.failures})
        return commands + self._placement.feed_after(event.worker, freed)

    def _task_failed(self, event: TaskFailed) -> list[Command]:
        task = self._placement.release(event.worker, event.task_id, event.attempt)
        if task is None:
            return []
        commands = self._attempt_failed(task, event.worker, event.error, event.seconds)
        return commands + self._placement.feed(event.worker)

    def _task_killed(self, event: TaskKilled) -> list[Command]:
        task = self._placement.release(event.worker, event.task_id, event.attempt)
        if task is None:
            return []
        gang = self._placement.leave_gang(task, event.worker)
        commands = [_interrupted(task, event.worker, event.seconds)] if gang is None or not gang.unfinished else []
        return commands + self._placement.feed(event.worker)

    def _task_returned(self, event: TaskReturned) -> list[Command]:
        rest = self._placement.shrink(event.worker, event.task_id, event.attempt, event.kept)
        if rest is None:
            return []
        commands = self._again(rest, charged=False)
        if event.worker in self._placement.running or event.worker in self._placement.idle:
            return commands
        return commands + self._placement.feed(event.worker)  # what it had been running ended meanwhile

    def _recall_answered(self, event: RecallAnswered) -> list[Command]:
        self._placement.recall_answered(event.worker)
        return []

    def _drain_requested(self, event: DrainRequested) -> list[Command]:
        self.draining = True
        self._closed = True
        tasks = self._placement.ready.pop_all() + self._dependencies.pop_all()
        return [_interrupted(task) for task in tasks]

    def _interrupt_requested(self, event: InterruptRequested) -> list[Command]:
        if not self.draining:
            raise ValueError("InterruptRequested without DrainRequested")
        return [
            InterruptTask(worker, task.id, task.attempt)
            for worker, held in self._placement.running.items()
            for task in held
        ]

    def _grace_expired(self, event: GraceExpired) -> list[Command]:
        if not self.draining:
            raise ValueError("GraceExpired without DrainRequested")
        return [
            KillTask(worker, task.id, task.attempt) for worker, held in self._placement.running.items() for task in held
        ]

    # -- what follows from them --------------------------------------------------------------------------------

    def _place(self, task: Task) -> list[Command]:
        """A task is ready: start or queue it, or reject it if it can run nowhere."""
        return self._reject(task) if self._placement.lacks(task) else self._placement.add(task)

    def _again(self, task: Task, charged: bool) -> list[Command]:
        """Calls that were begun in vain, or not at all (not `charged`), are ready again, unless the job is ending."""
        task.attempt -= not charged
        return [_interrupted(task)] if self.draining else self._place(task)

    def _gang_finished(self, task: Task, event: TaskFinished) -> list[Command]:
        """One of the workers of a parallel task returned. The task's value is what its first worker returned."""
        gang = self._placement.leave_gang(task, event.worker)
        assert gang is not None
        for _, error in event.failures:
            gang.error = gang.error or error
        if event.worker == gang.first:
            gang.value = event.value
        commands: list[Command] = []
        freed: list[Task] = []
        if not gang.unfinished and gang.error is not None:
            commands += self._settle_failure(task, event.worker, gang.error, event.seconds)
        elif not gang.unfinished:
            report = ReportOutcome(task, TaskState.DONE, task.attempt, gang.first, event.seconds, value=gang.value)
            commands.append(report)
            freed = self._dependencies.resolved(task.id, 1)
        return commands + self._placement.feed_after(event.worker, freed)

    def _attempt_failed(self, task: Task, worker: int, error: TaskError, seconds: float) -> list[Command]:
        """All that a worker ran of a task failed. A parallel task fails when the last of its workers has ended."""
        gang = self._placement.leave_gang(task, worker)
        if gang is not None:
            error = gang.error = gang.error or error
            if gang.unfinished:
                return []
        return self._settle_failure(task, worker, error, seconds)

    def _settle_failure(self, task: Task, worker: int, error: TaskError, seconds: float) -> list[Command]:
        """Report a failed attempt; try again while attempts are left. When draining, the restart tries again."""
        if task.attempt > task.kind.retries:
            report = ReportOutcome(task, TaskState.FAILED, task.attempt, worker, seconds, error=error)
            return [report, *self._cancel_dependents(task, error)]
        state = TaskState.INTERRUPTED if self.draining else TaskState.READY
        report = ReportOutcome(task, state, task.attempt, worker, seconds, error=error)
        return [report] if self.draining else [report, *self._place(task)]

    def _cancel_dependents(self, task: Task, error: TaskError) -> list[Command]:
        """Whatever needs a result that will never be there fails, too, and says because of whom."""
        name = task.label or task.kind.function
        reason = TaskError("cancelled", f"it needs the result of {name}, which failed: {error.summary()}")
        commands: list[Command] = []
        failed = [task]
        while failed:
            task = failed.pop()
            for call in range(task.id, task.id + task.count):
                for dependent in self._dependencies.failed(call):
                    commands.append(ReportOutcome(dependent, TaskState.FAILED, dependent.attempt, None, error=reason))
                    failed.append(dependent)
        return commands

    def _reject(self, task: Task) -> list[Command]:
        error = TaskError("rejected", f"there is no worker for it: {self._placement.lacks(task)}")
        report = ReportOutcome(task, TaskState.FAILED, task.attempt, None, error=error)
        return [report, *self._cancel_dependents(task, error)]

    def _must_exist(self, worker: int) -> None:
        if worker not in self._placement.workers:
            raise ValueError(f"there is no worker {worker}")

    def check(self) -> None:
        """Assert every invariant (for tests and the simulator)."""
        place = self._placement
        assert not self._stopped or self.quiet
        assert not any(worker in place.idle for worker in place.running)
        assert set(place.running) | set(place.idle) <= set(place.workers)
        assert all(1 <= len(held) <= 2 for held in place.running.values())
        assert place.ready.calls == sum(task.count for task in place.ready)
        assert all(not task.after or task.id not in place.running for task in self._dependencies)
        for gang in place.gangs.values():
            assert all(place.running[worker][0].kind.ranks > 1 for worker in gang.unfinished)
        for worker in place.idle:  # nobody waits while there is something for them to do
            task = place.ready.first_for(worker, place.workers[worker])
            assert task is None or task.kind.ranks > 1, f"worker {worker} waits while {task} is ready"


def _done(task: Task, event: TaskFinished) -> ReportOutcome:
    failed = frozenset(index for index, _ in event.failures)
    return ReportOutcome(
        task, TaskState.DONE, event.attempt, event.worker, event.seconds, value=event.value, failed=failed
    )


def _interrupted(task: Task, worker: int | None = None, seconds: float = 0.0) -> ReportOutcome:
    return ReportOutcome(task, TaskState.INTERRUPTED, task.attempt, worker, seconds)
