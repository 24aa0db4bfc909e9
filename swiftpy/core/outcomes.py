"""What becomes of tasks as their attempts end: who goes on because of it, what is tried again, what fails with them."""

from __future__ import annotations

from collections.abc import Iterable

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.distribution import Distribution
from swiftpy.core.events import (
    Command,
    ReportOutcome,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskReturned,
    TaskSubmitted,
    ValueGiven,
    WorkerLost,
)
from swiftpy.core.placement import Placement
from swiftpy.core.task import Task, TaskState
from swiftpy.errors import TaskError

_NONE: frozenset[int] = frozenset()


class Outcomes:
    """Takes tasks through their states; the public methods are what the scheduler does about the events of these names.

    A task goes from `dependencies` (BLOCKED) to `placement` (READY, RUNNING), perhaps back, and is forgotten when it is
    resolved. While `draining` nothing becomes ready any more.
    """

    def __init__(self, dependencies: Dependencies, placement: Placement | Distribution) -> None:
        self.draining = False
        self._dependencies = dependencies
        self._placement = placement
        self._refused: dict[int, TaskError] = {}  # call that was submitted in vain -> why what needs it is, too

    def task_submitted(self, event: TaskSubmitted) -> list[Command]:
        """See the class."""
        task = event.task
        if self.draining:
            return [interrupted(task)]
        if task.after:
            # The client may not know yet that what it names was refused: it hears of it when it has submitted all.
            reason = next((self._refused[call] for call in task.after if call in self._refused), None)
            if reason is None:
                self._dependencies.add(task)
                return []
            self._refuse(task, reason)
            return [ReportOutcome(task, TaskState.FAILED, task.attempt, None, error=reason)]
        if self._placement.lacks(task):
            self._refuse(task, self._lack(task).of_dependent(task.id))
            return self._reject(task)
        return self._placement.add(task)

    def value_given(self, event: ValueGiven) -> list[Command]:
        """See the class."""
        if event.error is not None:
            event.error.task = event.error.task or "a future set by hand"
            return self._cancel_dependents([event.id], event.error)
        return self._place_all(self._dependencies.resolved(event.id, 1))

    def worker_lost(self, event: WorkerLost) -> list[Command]:
        """See the class."""
        node = self._placement.workers[event.worker].node
        begun, held = self._placement.lose(event.worker)
        commands: list[Command] = []
        for task in begun:
            error = TaskError("lost", event.reason, host=node, rank=event.worker)
            if task.kind.ranks > 1:
                commands += self._part_ended(task, event.worker, 0.0, error=error)
            else:
                commands += self._failed(task, event.worker, error, 0.0)
        for task in held:
            commands += self._again(task)
        orphans = self._placement.orphans(event.worker)
        for task in orphans:
            commands += self._reject(task)
        return commands + self._placement.disband(orphans)

    def task_finished(self, event: TaskFinished) -> list[Command]:
        """See the class."""
        task, worker = self._release(event)
        if task is None:
            return []
        failed = frozenset([index for index, _ in event.failures]) if event.failures else _NONE
        if task.kind.ranks > 1:
            error = event.failures[0][1] if event.failures else None
            return self._part_ended(task, event.worker, event.seconds, event.value, error) + self._feed(event.worker)
        calls = task.count if event.made is None else event.made
        if not calls:
            return self._again(task) + self._feed(event.worker)
        self._placement.pieces.measured(task.kind.function, calls, event.seconds)
        commands: list[Command] = []
        done, rest = (task, None) if calls == task.count else (task.part(0, calls), task.part(calls, task.count))
        took = event.seconds, event.waited
        if len(failed) < calls:
            seconds, waited = took
            report = ReportOutcome(
                done, TaskState.DONE, event.attempt, worker, seconds, event.value, None, failed, waited
            )
            commands.append(report)
            took = 0.0, 0.0
        if rest is not None:
            if rest.kind.chained and calls - 1 in failed and not self.draining:
                self._dependencies.add_rest(rest)
            else:
                commands += self._again(rest)
        for index, error in event.failures:
            part = done if done.count == 1 else done.part(index, index + 1)
            commands += self._failed(part, worker, error, *took)
            took = 0.0, 0.0
        return commands + self._feed(event.worker, self._dependencies.resolved(done.id, calls, failed))

    def task_failed(self, event: TaskFailed) -> list[Command]:
        """See the class."""
        task, worker = self._release(event)
        if task is None:
            return []
        if task.kind.ranks > 1:
            commands = self._part_ended(task, event.worker, event.seconds, event.value, event.error)
        else:
            commands = self._failed(task, worker, event.error, event.seconds)
        return commands + self._feed(event.worker)

    def task_killed(self, event: TaskKilled) -> list[Command]:
        """See the class."""
        task, worker = self._release(event)
        if task is None:
            return []
        if task.kind.ranks > 1:
            commands = self._part_ended(task, event.worker, event.seconds, killed=True)
        else:
            commands = [interrupted(task, worker, event.seconds)]
        return commands + self._feed(event.worker)

    def task_returned(self, event: TaskReturned) -> list[Command]:
        """See the class."""
        if event.share is not None:
            return self._share_returned(event)
        place = self._placement
        assert isinstance(place, Placement), "a server says what share of a task it returns"
        rest = place.shrink(event.worker, event.task_id, event.attempt, event.kept)
        if rest is None:
            return []
        commands = self._again(rest)
        if event.worker in place.running or event.worker in place.waiting:
            return commands
        return commands + self._feed(event.worker)  # what it had been running ended meanwhile

    def _share_returned(self, event: TaskReturned) -> list[Command]:
        """A server gave calls back. If they are of a chain, one before them has failed, of which it will tell next."""
        task, _ = self._release(event)
        if task is None:
            return []
        if not task.kind.chained or self.draining:
            return self._again(task)
        self._dependencies.add_rest(task)
        return []

    # -- what follows from them --------------------------------------------------------------------------------

    def _release(self, event: TaskFinished | TaskFailed | TaskKilled | TaskReturned) -> tuple[Task | None, int]:
        """What an event ends, None if its sender does not have it (any more), and the worker that had it."""
        place, share = self._placement, event.share
        if share is None:
            assert isinstance(place, Placement), "other servers have the workers"
            return place.release(event.worker, event.task_id, event.attempt), event.worker
        assert isinstance(place, Distribution), "workers have no share in a task"
        return place.release(event.worker, event.task_id, event.attempt, share.calls), share.worker

    def _place(self, task: Task) -> list[Command]:
        """A task is ready: start or queue it, or reject it if it can run nowhere."""
        return self._reject(task) if self._placement.lacks(task) else self._placement.add(task)

    def _place_all(self, tasks: list[Task]) -> list[Command]:
        return [command for task in tasks for command in self._place(task)]

    def _again(self, task: Task) -> list[Command]:
        """Calls that were sent to a worker and not begun are ready again, unless the job is ending."""
        return [interrupted(task)] if self.draining else self._place(task)

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
        """A parallel task ended on one of its workers; it has ended when it has on all."""
        gang = self._placement.gangs[task.id]
        if not gang.ended(worker, value, error, killed):
            return []
        del self._placement.gangs[task.id]
        if gang.killed:
            return [interrupted(task, worker, seconds)]
        if gang.error is not None:
            return self._failed(task, worker, gang.error, seconds, value=gang.value)
        report = ReportOutcome(task, TaskState.DONE, task.attempt, gang.first, seconds, value=gang.value)
        return [report, *self._place_all(self._dependencies.resolved(task.id, 1))]

    def _failed(
        self,
        task: Task,
        worker: int,
        error: TaskError,
        seconds: float,
        waited: float = 0.0,
        value: bytes | list[bytes] | None = None,
    ) -> list[Command]:
        """Report a failed attempt; try again while attempts are left. When draining, the restart tries again.

        A call that the client cancelled after it was sent is not tried again.

        `value`: what a parallel task returned all the same on its first worker, which may hold something for it.
        """
        task.failures += 1
        error.task = task.kind.name
        final = task.failures > task.kind.retries or error.kind == "cancelled"
        state = TaskState.FAILED if final else TaskState.INTERRUPTED if self.draining else TaskState.READY
        report = ReportOutcome(task, state, task.attempt, worker, seconds, value, error, waited=waited)
        if final:
            return [report, *self._cancel_dependents(task.ids, error)]
        return [report] if self.draining else [report, *self._place(task)]

    def _cancel_dependents(self, calls: Iterable[int], error: TaskError) -> list[Command]:
        """Whatever needs a result that will never be there fails, too, and says because of whom."""
        commands: list[Command] = []
        failed = [(call, call) for call in calls] if self._dependencies else []
        for call, culprit in failed:  # it grows meanwhile
            for dependent in self._dependencies.failed(call):
                reason = error.of_dependent(culprit)
                commands.append(ReportOutcome(dependent, TaskState.FAILED, dependent.attempt, None, error=reason))
                failed += [(call, culprit) for call in dependent.ids]
        return commands

    def _reject(self, task: Task) -> list[Command]:
        """No worker can ever run a task."""
        error = self._lack(task)
        report = ReportOutcome(task, TaskState.FAILED, task.attempt, None, error=error)
        return [report, *self._cancel_dependents(task.ids, error)]

    def _lack(self, task: Task) -> TaskError:
        error = TaskError("rejected", f"there is no worker for it: {self._placement.lacks(task)}")
        error.task = task.kind.name
        return error

    def _refuse(self, task: Task, reason: TaskError) -> None:
        self._refused.update(dict.fromkeys(task.ids, reason))


def interrupted(task: Task, worker: int | None = None, seconds: float = 0.0) -> ReportOutcome:
    """The report that the job ends before a task has; it was on this worker, if it ran."""
    return ReportOutcome(task, TaskState.INTERRUPTED, task.attempt, worker, seconds)
