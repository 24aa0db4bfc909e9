"""The scheduler: what becomes of each task, what a failure costs, and when the job is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.distribution import Distribution
from swiftpy.core.events import (
    Command,
    DrainRequested,
    Event,
    GraceExpired,
    GroupStuck,
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
    TaskResumed,
    TaskReturned,
    TaskSubmitted,
    TaskSuspended,
    ValueGiven,
    WithdrawalRequested,
    WorkerLost,
    WorkerReady,
    WorkWanted,
)
from swiftpy.core.pieces import Pieces
from swiftpy.core.placement import Placement
from swiftpy.core.task import Site, Task, TaskState
from swiftpy.errors import TaskError


class Scheduler:
    """Matches ready tasks with waiting workers.

    `workers` maps the rank of every worker of the job to where and what it is; a worker takes tasks once it is ready.
    One that was lost may become ready again. With `groups` instead, other servers have the workers: it maps the rank of
    each to what `workers` would be there. An illegal event (a task id used twice, a worker that does not exist)
    raises ValueError and changes nothing. An event of an attempt that is over is dropped: it crossed a KillTask or a
    WorkerLost on its way. A task's state is where it is held: in `_dependencies` (BLOCKED), in `_placement.ready`, or
    by a worker (RUNNING); what is resolved is forgotten, so that memory does not grow with what was done.
    """

    def __init__(self, workers: Mapping[int, Site], groups: Mapping[int, Mapping[int, Site]] | None = None) -> None:
        self.draining = False
        self._closed = False
        self._stopped = False
        self._last_id = -1
        self._refused: dict[int, TaskError] = {}  # call that was submitted in vain -> why what needs it is, too
        self._dependencies = Dependencies()
        self._placement: Placement | Distribution
        if groups:
            self._placement = Distribution(groups, self._dependencies)
        else:
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
            TaskSuspended: self._task_suspended,
            TaskResumed: self._task_resumed,
            WorkWanted: self._work_wanted,
            WithdrawalRequested: self._withdrawal_requested,
            GroupStuck: self._group_stuck,
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
        place = self._placement
        return not (place.running or place.ready or place.suspended or self._dependencies)

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return self._placement.size

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return len(self._own.idle)

    @property
    def pieces(self) -> Pieces:
        """What is known of how long calls take."""
        return self._placement.pieces

    @property
    def recalling(self) -> bool:
        """Whether workers were asked to give back calls, and have not answered."""
        return self._own.recalling

    @property
    def stuck(self) -> list[Task]:
        """Tasks that wait for others, when nothing runs or is ready that they could wait for."""
        place = self._placement
        if isinstance(place, Distribution):
            if place.ready or not place.stuck.issuperset(place.running):
                return []
            return [*self._dependencies, *(task for _, task in place.held())]
        if place.running or place.ready:
            return []
        return [*self._dependencies, *(task for tasks in place.suspended.values() for task in tasks)]

    @property
    def running(self) -> dict[int, Task]:
        """worker -> the last task that was sent to it, of those that have not ended."""
        return dict(self._placement.held())

    @property
    def busy(self) -> list[int]:
        """The workers that have begun something, be it only to wait for other tasks."""
        return list(dict.fromkeys([*self._placement.running, *self._placement.suspended]))

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
        if task.count > 1 and not task.kind.divisible:
            raise ValueError(f"task {task.id} has {task.count} calls, of a kind of which each must go alone")
        if task.after and max(task.after) >= task.id:
            raise ValueError(f"task {task.id} needs the result of call {max(task.after)}, which is not before it")
        self._last_id = task.id + task.count - 1
        if self.draining:
            return [_interrupted(task)]
        if task.after:
            # The client may not know yet that what it names was refused: it hears of it when it has submitted all.
            reason = next((self._refused[call] for call in task.after if call in self._refused), None)
            if reason is None:
                self._dependencies.add(task)
                return []
            self._refuse(task, reason)
            return [ReportOutcome(task, TaskState.FAILED, task.attempt, None, error=reason)]
        if self._placement.lacks(task):
            self._refuse(task, _because_of(task, self._lack(task)))
            return self._reject(task)
        return self._placement.add(task)

    def _value_given(self, event: ValueGiven) -> list[Command]:
        return [command for task in self._dependencies.resolved(event.id, 1) for command in self._place(task)]

    def _submission_closed(self, event: SubmissionClosed) -> list[Command]:
        self._closed = True
        return []

    def _worker_ready(self, event: WorkerReady) -> list[Command]:
        place, worker = self._placement, event.worker
        if worker in place.lost:
            place.come_back(worker)
            if self._stopped:
                return [StopWorker(worker)]
        self._must_exist(worker)
        if place.waits(worker) or worker in place.running:
            raise ValueError(f"worker {worker} was ready before")
        return place.feed(worker)

    def _worker_lost(self, event: WorkerLost) -> list[Command]:
        self._must_exist(event.worker)
        node = self._placement.workers[event.worker].node
        begun, held = self._placement.lose(event.worker)
        commands: list[Command] = []
        for task in begun:
            error = TaskError("lost", event.reason, host=node, rank=event.worker)
            commands += self._attempt_failed(task, event.worker, error, 0.0)
        for task in held:
            commands += self._again(task)
        orphans = self._placement.orphans(event.worker)
        for task in orphans:
            commands += self._reject(task)
        return commands + self._placement.disband(orphans)

    def _task_finished(self, event: TaskFinished) -> list[Command]:
        task, worker = self._release(event)
        if task is None:
            return []
        failed = {index for index, _ in event.failures}
        if task.kind.ranks > 1:
            error = event.failures[0][1] if event.failures else None
            return self._part_ended(task, event.worker, event.seconds, event.value, error) + self._feed(event.worker)
        calls = task.count if event.made is None else event.made
        if not calls:
            return self._again(task) + self._feed(event.worker)
        self._placement.pieces.measured(task.kind.function, calls, event.seconds)
        commands: list[Command] = []
        done, rest = (task, None) if calls == task.count else (task.part(0, calls), task.part(calls, task.count))
        if len(failed) < calls:
            report = ReportOutcome(done, TaskState.DONE, event.attempt, worker, event.seconds, value=event.value)
            commands.append(report._replace(failed=frozenset(failed)) if failed else report)
        if rest is not None:
            if rest.kind.chained and calls - 1 in failed and not self.draining:
                rest.after = (rest.id - 1,)
                self._dependencies.add(rest)
            else:
                commands += self._again(rest)
        for index, error in event.failures:
            part = done if done.count == 1 else done.part(index, index + 1)
            commands += self._settle_failure(part, worker, error, event.seconds)
        return commands + self._feed(event.worker, self._dependencies.resolved(done.id, calls, failed))

    def _task_failed(self, event: TaskFailed) -> list[Command]:
        task, worker = self._release(event)
        if task is None:
            return []
        if task.kind.ranks > 1:
            commands = self._part_ended(task, event.worker, event.seconds, error=event.error)
        else:
            commands = self._settle_failure(task, worker, event.error, event.seconds)
        return commands + self._feed(event.worker)

    def _task_killed(self, event: TaskKilled) -> list[Command]:
        task, worker = self._release(event)
        if task is None:
            return []
        if task.kind.ranks > 1:
            commands = self._part_ended(task, event.worker, event.seconds, killed=True)
        else:
            commands = [_interrupted(task, worker, event.seconds)]
        return commands + self._feed(event.worker)

    def _task_returned(self, event: TaskReturned) -> list[Command]:
        if event.share is not None:
            return self._share_returned(event)
        rest = self._own.shrink(event.worker, event.task_id, event.attempt, event.kept)
        if rest is None:
            return []
        commands = self._again(rest)
        if event.worker in self._placement.running or self._placement.waits(event.worker):
            return commands
        return commands + self._feed(event.worker)  # what it had been running ended meanwhile

    def _share_returned(self, event: TaskReturned) -> list[Command]:
        """A server gave calls back. If they are of a chain, one before them has failed, of which it will tell next."""
        task, _ = self._release(event)
        if task is None:
            return []
        if not task.kind.chained or self.draining:
            return self._again(task)
        task.after = (task.id - 1,)
        self._dependencies.add(task)
        return []

    def _recall_answered(self, event: RecallAnswered) -> list[Command]:
        return self._placement.recall_answered(event.worker)

    def _task_suspended(self, event: TaskSuspended) -> list[Command]:
        freed = self._own.suspend(event.worker, event.task_id, event.attempt)
        return self._feed(event.worker) if freed else []

    def _task_resumed(self, event: TaskResumed) -> list[Command]:
        return self._own.resume(event.worker, event.task_id, event.attempt)

    def _work_wanted(self, event: WorkWanted) -> list[Command]:
        assert isinstance(self._placement, Distribution), "workers do not ask"
        return self._placement.want(event.worker, event.pieces, event.idle)

    def _group_stuck(self, event: GroupStuck) -> list[Command]:
        assert isinstance(self._placement, Distribution), "workers are not asked"
        (self._placement.stuck.add if event.stuck else self._placement.stuck.discard)(event.worker)
        return []

    def _withdrawal_requested(self, event: WithdrawalRequested) -> list[Command]:
        ready = self._own.ready
        waiting = [task for task in ready if task.kind.anywhere and not task.kind.chained]
        for task in waiting:
            ready.remove(task)
        return [_interrupted(task) for task in waiting] or self._own.recall_all()

    def _drain_requested(self, event: DrainRequested) -> list[Command]:
        self.draining = True
        self._closed = True
        waiting = self._placement.ready.pop_all()
        commands = [_interrupted(task) for task in waiting + self._dependencies.pop_all()]
        return commands + self._placement.disband(waiting) + self._placement.recall_all()

    def _interrupt_requested(self, event: InterruptRequested) -> list[Command]:
        if not self.draining:
            raise ValueError("InterruptRequested without DrainRequested")
        return self._placement.end(InterruptTask)

    def _grace_expired(self, event: GraceExpired) -> list[Command]:
        if not self.draining:
            raise ValueError("GraceExpired without DrainRequested")
        return self._placement.end(KillTask)

    # -- what follows from them --------------------------------------------------------------------------------

    @property
    def _own(self) -> Placement:
        """The placement of a server that has workers itself."""
        assert isinstance(self._placement, Placement), "other servers have the workers"
        return self._placement

    def _release(self, event: TaskFinished | TaskFailed | TaskKilled | TaskReturned) -> tuple[Task | None, int]:
        """What an event ends, None if its sender does not have it (any more), and the worker that had it."""
        share = event.share
        if share is None:
            return self._own.release(event.worker, event.task_id, event.attempt), event.worker
        assert isinstance(self._placement, Distribution), "workers have no share in a task"
        return self._placement.release(event.worker, event.task_id, event.attempt, share.calls), share.worker

    def _place(self, task: Task) -> list[Command]:
        """A task is ready: start or queue it, or reject it if it can run nowhere."""
        return self._reject(task) if self._placement.lacks(task) else self._placement.add(task)

    def _again(self, task: Task) -> list[Command]:
        """Calls that were sent to a worker and not begun are ready again, unless the job is ending."""
        return [_interrupted(task)] if self.draining else self._place(task)

    def _feed(self, worker: int, freed: list[Task] | None = None) -> list[Command]:
        """A worker has room; these tasks became ready by what it did."""
        if not freed:
            return self._placement.feed(worker)
        commands: list[Command] = []
        possible = []
        for task in freed:
            if self._placement.lacks(task):
                commands += self._reject(task)
            else:
                possible.append(task)
        return commands + self._placement.feed_after(worker, possible)

    def _part_ended(
        self,
        task: Task,
        worker: int,
        seconds: float,
        value: bytes | list[bytes] | None = None,
        error: TaskError | None = None,
        killed: bool = False,
    ) -> list[Command]:
        """A parallel task ended on one of its workers; it has ended when it has on all.

        Its value is what its first worker returned.
        """
        gang = self._placement.gangs[task.id]
        gang.unfinished.discard(worker)
        gang.error = gang.error or error
        gang.killed = gang.killed or killed
        if worker == gang.first:
            gang.value = value
        if gang.unfinished:
            return []
        del self._placement.gangs[task.id]
        if gang.killed:
            return [_interrupted(task, worker, seconds)]
        if gang.error is not None:
            return self._settle_failure(task, worker, gang.error, seconds)
        report = ReportOutcome(task, TaskState.DONE, task.attempt, gang.first, seconds, value=gang.value)
        freed = self._dependencies.resolved(task.id, 1)
        return [report, *(command for task in freed for command in self._place(task))]

    def _attempt_failed(self, task: Task, worker: int, error: TaskError, seconds: float) -> list[Command]:
        """All that a worker ran of a task failed."""
        if task.kind.ranks > 1:
            return self._part_ended(task, worker, seconds, error=error)
        return self._settle_failure(task, worker, error, seconds)

    def _settle_failure(self, task: Task, worker: int, error: TaskError, seconds: float) -> list[Command]:
        """Report a failed attempt; try again while attempts are left. When draining, the restart tries again."""
        task.failures += 1
        if task.failures > task.kind.retries:
            report = ReportOutcome(task, TaskState.FAILED, task.attempt, worker, seconds, error=error)
            return [report, *self._cancel_dependents(task, error)]
        state = TaskState.INTERRUPTED if self.draining else TaskState.READY
        report = ReportOutcome(task, state, task.attempt, worker, seconds, error=error)
        return [report] if self.draining else [report, *self._place(task)]

    def _cancel_dependents(self, task: Task, error: TaskError) -> list[Command]:
        """Whatever needs a result that will never be there fails, too, and says because of whom."""
        reason = _because_of(task, error)
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
        error = self._lack(task)
        report = ReportOutcome(task, TaskState.FAILED, task.attempt, None, error=error)
        return [report, *self._cancel_dependents(task, error)]

    def _lack(self, task: Task) -> TaskError:
        return TaskError("rejected", f"there is no worker for it: {self._placement.lacks(task)}")

    def _refuse(self, task: Task, reason: TaskError) -> None:
        self._refused.update(dict.fromkeys(range(task.id, task.id + task.count), reason))

    def _must_exist(self, worker: int) -> None:
        if worker not in self._placement.workers:
            raise ValueError(f"there is no worker {worker}")


def _because_of(task: Task, error: TaskError) -> TaskError:
    """Why what needs the result of a task that failed fails, too."""
    name = task.label or task.kind.function
    return TaskError("cancelled", f"it needs the result of {name}, which failed: {error.summary()}")


def _interrupted(task: Task, worker: int | None = None, seconds: float = 0.0) -> ReportOutcome:
    return ReportOutcome(task, TaskState.INTERRUPTED, task.attempt, worker, seconds)
