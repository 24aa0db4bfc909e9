"""The scheduler: takes in events one by one, and knows when the job is over."""

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
from swiftpy.core.gang import Gang
from swiftpy.core.outcomes import Outcomes, interrupted
from swiftpy.core.pieces import Pieces
from swiftpy.core.placement import Placement
from swiftpy.core.task import Seat, Task


class Scheduler:
    """Matches ready tasks with waiting workers.

    `workers` maps the rank of every worker of the job to where and what it is; a worker takes tasks once it is ready.
    One that was lost may become ready again. With `groups` instead, other servers have the workers: it maps the rank of
    each to what `workers` would be there. An illegal event (a task id used twice, an unknown worker that is ready or
    lost) raises ValueError and changes nothing. What a worker says of an attempt that it does not hold is dropped: the
    attempt is over, and this crossed a KillTask or a WorkerLost on its way. A task's state is where it is held: in
    `_dependencies` (BLOCKED), in `_placement.ready`, or by a worker (RUNNING); what is resolved is forgotten, so that
    memory does not grow with what was done.
    """

    def __init__(self, workers: Mapping[int, Seat], groups: Mapping[int, Mapping[int, Seat]] | None = None) -> None:
        self._closed = False
        self._stopped = False
        self._last_id = -1
        self._dependencies = Dependencies()
        self._placement: Placement | Distribution
        if groups:
            self._placement = Distribution(groups, self._dependencies)
        else:
            self._placement = Placement(workers, self._dependencies)
        self._outcomes = outcomes = Outcomes(self._dependencies, self._placement)
        self._handlers: dict[type, Callable[[Any], list[Command]]] = {
            TaskSubmitted: self._task_submitted,
            ValueGiven: outcomes.value_given,
            SubmissionClosed: self._submission_closed,
            WorkerReady: self._worker_ready,
            WorkerLost: self._worker_lost,
            TaskFinished: outcomes.task_finished,
            TaskFailed: outcomes.task_failed,
            TaskKilled: outcomes.task_killed,
            TaskReturned: outcomes.task_returned,
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
    def draining(self) -> bool:
        """The job is ending early: nothing is started any more."""
        return self._outcomes.draining

    @property
    def over(self) -> bool:
        """All tasks are resolved and the workers were told to stop."""
        return self._stopped

    @property
    def quiet(self) -> bool:
        """No task is unresolved."""
        return self._placement.empty and not self._dependencies

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return self._placement.size

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return len(self._own.waiting.idle)

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
        stalled = self._placement.stalled
        return [] if stalled is None else [*self._dependencies, *stalled]

    @property
    def forsaken(self) -> dict[Task, Gang]:
        """Parallel tasks whose last workers may wait for ever, inside of MPI, for those on which it failed.

        Empty if anything else runs, and if other servers have the workers: these would have to say so.
        """
        return self._placement.forsaken if isinstance(self._placement, Placement) else {}

    @property
    def busy(self) -> list[int]:
        """The workers that have begun something, be it only to wait for other tasks."""
        return self._placement.busy

    @property
    def queued(self) -> int:
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
        return self._outcomes.task_submitted(event)

    def _submission_closed(self, event: SubmissionClosed) -> list[Command]:
        self._closed = True
        return []

    def _worker_ready(self, event: WorkerReady) -> list[Command]:
        place, worker = self._own, event.worker
        if worker in place.lost:
            place.come_back(worker)
            if self._stopped:
                return [StopWorker(worker)]
        self._must_exist(worker)
        if worker in place.waiting or worker in place.running:
            raise ValueError(f"worker {worker} was ready before")
        return place.feed(worker)

    def _worker_lost(self, event: WorkerLost) -> list[Command]:
        self._must_exist(event.worker)
        return self._outcomes.worker_lost(event)

    def _recall_answered(self, event: RecallAnswered) -> list[Command]:
        return self._placement.recall_answered(event.worker)

    def _task_suspended(self, event: TaskSuspended) -> list[Command]:
        is_free = self._own.suspend(event.worker, event.task_id, event.attempt, event.timed)
        return self._placement.feed(event.worker) if is_free else []

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
        return [interrupted(task) for task in waiting] or self._own.recall_all()

    def _drain_requested(self, event: DrainRequested) -> list[Command]:
        self._outcomes.draining = True
        self._closed = True
        waiting = self._placement.ready.pop_all()
        commands = [interrupted(task) for task in waiting + self._dependencies.pop_all()]
        return commands + self._placement.disband(waiting) + self._placement.recall_all()

    def _interrupt_requested(self, event: InterruptRequested) -> list[Command]:
        if not self.draining:
            raise ValueError("InterruptRequested without DrainRequested")
        return self._placement.end(InterruptTask)

    def _grace_expired(self, event: GraceExpired) -> list[Command]:
        if not self.draining:
            raise ValueError("GraceExpired without DrainRequested")
        return self._placement.end(KillTask)

    @property
    def _own(self) -> Placement:
        """The placement of a server that has workers itself."""
        assert isinstance(self._placement, Placement), "other servers have the workers"
        return self._placement

    def _must_exist(self, worker: int) -> None:
        if worker not in self._placement.workers:
            raise ValueError(f"there is no worker {worker}")
