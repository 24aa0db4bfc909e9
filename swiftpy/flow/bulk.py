"""Many calls of one function at once, without a future for each: `swiftpy.map`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.errors import TaskError
from swiftpy.flow.calls import Owner, values_of
from swiftpy.flow.failures import Failures

#: Drives the engine until a condition holds.
Drive = Callable[[Callable[[], bool]], None]


class Bulk(Owner):
    """Results of a run of calls in their order, as an iterator; each piece is forgotten when it was handed out.

    A call that failed raises its TaskError in its place and ends the iteration, as `map` does. Whoever hears of that
    one has asked for all.
    """

    may_be_held = False  # by workers: all results come here anyway

    def __init__(self, count: int, drive: Drive, column: bool, failures: Failures) -> None:
        self.first = -1  # the id of its first call, once it has one
        self._count, self._drive, self._failures = count, drive, failures
        self._heard = False
        self.column = column  # the calls are their only arguments
        self._pieces: dict[int, list[Any] | TaskError] = {}  # by their first index
        self._results = self._generate()

    def __iter__(self) -> Iterator[Any]:
        return self._results

    def begin(self, command: StartTask) -> list[Any]:
        """See Owner."""
        calls: list[Any] = command.task.payload
        return calls

    def deliver(self, report: ReportOutcome) -> None:
        """See Owner."""
        values, start = values_of(report), report.task.id - self.first
        if isinstance(values, TaskError):
            self._pieces.update({start + index: values for index in report.indices})
            for index in report.indices:
                self._failures.note(report.task.id + index, values)
            if self._heard:
                self._hear()
        elif values is not None and report.failed:  # those are reported by themselves
            self._pieces.update({start + index: [values[index]] for index in report.indices})
        elif values is not None:
            self._pieces[start] = values

    def _generate(self) -> Iterator[Any]:
        at = 0
        while at < self._count:
            if at not in self._pieces:
                self._drive(lambda at=at: at in self._pieces)  # type: ignore[misc]  # a default binds the index
            values = self._pieces.pop(at)
            if isinstance(values, TaskError):
                self._hear()
                raise values
            yield from values
            at += len(values)

    def _hear(self) -> None:
        self._heard = True
        for id in range(self.first, self.first + self._count):
            self._failures.heard(id)
