"""From outcomes to futures: results and errors reach the program's calls, and kept results the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from swiftpy.core.events import ReportOutcome
from swiftpy.core.task import TaskState
from swiftpy.errors import TaskError
from swiftpy.flow.calls import because_of, values_of
from swiftpy.flow.future import Future, settle_all

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper


#: Kinds of errors that follow from others, or from the program's will.
_FOLLOWS = frozenset(("cancelled", "interrupted"))


class Settling:
    """Gives outcomes to futures; `untold` collects those whose callbacks are to be called when nobody drives.

    `futures` are those of the program's calls, by id; `keepers` those who keep results, by function; `end_early` asks
    for the end of the job, and gets the reason.
    """

    def __init__(
        self, futures: dict[int, Future], keepers: dict[str, Keeper], end_early: Callable[[str], None]
    ) -> None:
        self.untold: list[Future] = []
        self.keepers = keepers
        self.stop_on_error = False
        self.culprit: TaskError | None = None  # the first error, if it is to stop the program
        self.interrupted = 0  # calls without which the job ends
        self._futures, self._end_early = futures, end_early
        self._unsaved: list[tuple[Keeper, ReportOutcome]] = []
        self._failed: list[Future] = []
        self._failed_in_tasks: dict[tuple[int, int], TaskError] = {}  # calls of tasks: worker, id

    def resolved(self, report: ReportOutcome) -> None:
        """An attempt ended. Futures of kept results are settled when these are safe, see `commit`."""
        task = report.task
        if report.state is TaskState.INTERRUPTED:
            self.interrupted += task.count
        if task.owner is not None:
            task.owner.deliver(report)
        elif report.state is TaskState.DONE and (keeper := self.keepers.get(task.kind.function)) is not None:
            values = values_of(report)
            if isinstance(values, list):
                for index in report.indices:
                    keeper.keep(self._futures[task.id + index], values[index])
            self._unsaved.append((keeper, report))
        else:
            self._settle_all(report)

    def commit(self) -> None:
        """Bring kept results to disk; only then anybody hears of them."""
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, []
        for memo in {keeper.memo for keeper, _ in unsaved}:
            memo.save()
        for _, report in unsaved:
            self._settle_all(report)

    def cancel(self, ids: Iterable[int], culprit: Future) -> None:
        """These calls need the result of one that failed."""
        for id in ids:
            self._settle_one(id, None, because_of(culprit))

    @property
    def unseen(self) -> list[TaskError]:
        """Failures of which neither the program nor a task of it heard, because they did not ask for the results."""
        own = [error for future in self._failed if not future.asked and isinstance(error := future.error(), TaskError)]
        return own + list(self._failed_in_tasks.values())

    def failed_in_task(self, worker: int, id: int, error: TaskError) -> None:
        """A call failed that a task on this worker had submitted."""
        if error.kind not in _FOLLOWS:
            self._failed_in_tasks[worker, id] = error

    def seen_in_task(self, worker: int, id: int) -> None:
        """That task has heard of it."""
        self._failed_in_tasks.pop((worker, id), None)

    def _settle_all(self, report: ReportOutcome) -> None:
        values, first = values_of(report), report.task.id
        if isinstance(values, TaskError):
            for index in report.indices:
                self._settle_one(first + index, None, values)
        elif values is not None and report.failed:  # those are reported by themselves
            for index in report.indices:
                self._settle_one(first + index, values[index], None)
        elif values is not None:
            futures = map(self._futures.pop, range(first, first + len(values)))
            self.untold += settle_all(futures, values)

    def _settle_one(self, id: int, value: Any, error: TaskError | None) -> None:
        future = self._futures.pop(id)
        if future.settle(value, error):
            self.untold.append(future)
        if error is not None and error.kind not in _FOLLOWS:
            self._failed.append(future)
            if self.stop_on_error and self.culprit is None:
                self.culprit = error
                self._end_early("a task failed")
