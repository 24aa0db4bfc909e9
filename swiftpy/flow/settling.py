"""From outcomes to futures: results and errors reach the program's calls, and kept results the disk."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from swiftpy.core.events import ReportOutcome
from swiftpy.core.task import TaskState
from swiftpy.errors import TaskError
from swiftpy.flow.calls import because_of, values_of
from swiftpy.flow.failures import Failures
from swiftpy.flow.future import Future, settle_all

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper


class Settling:
    """Gives outcomes to futures; `untold` collects those whose callbacks are to be called when nobody drives.

    `futures` are those of the program's calls, by id; `keepers` those who keep results, by function.
    """

    def __init__(self, futures: dict[int, Future], keepers: dict[str, Keeper], failures: Failures) -> None:
        self.untold: deque[Future] = deque()  # for whoever comes first: many threads take from it
        self.keepers = keepers
        self.interrupted = 0  # calls without which the job ends
        self._futures, self._failures = futures, failures
        self._unsaved: list[tuple[Keeper, ReportOutcome]] = []

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
        error = because_of(culprit)
        for id in ids:
            self._settle_one(id, None, error, culprit)

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

    def _settle_one(
        self, id: int, value: Any, error: TaskError | None, when_heard: Callable[[], None] | Future | None = None
    ) -> None:
        future = self._futures.pop(id)
        if error is not None and not future.done():  # it may have been cancelled when its call had begun
            self._failures.note(id, error)
            culprit = id if error.culprit is None else error.culprit
            future.when_heard(when_heard or functools.partial(self._failures.heard, culprit))
        if future.settle(value, error):
            self.untold.append(future)
