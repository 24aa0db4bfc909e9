"""What a worker, or a server of others, is told to run: what it needs of a StartTask, in a form quickly pickled."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from swiftpy.core.events import StartTask
from swiftpy.core.task import Kind

if TYPE_CHECKING:
    from swiftpy.runtime.call import Payload

#: Calls that are pickled together for a server of others, at least and at most. What it cuts further it sends uncut.
LEAST_UNIT, UNIT = 8, 100


class Report(NamedTuple):
    """What a server of others has to say, many things at once; the next is sent when this one was `Taken`."""

    server: int
    messages: list[Any]


class Taken(NamedTuple):
    """Rank 0 has taken in a report."""


class FunctionForgotten(NamedTuple):
    """No call of this function is left, which came by value; should there be others, it will come again."""

    function: str


class Order(NamedTuple):
    """One attempt of a task; `payload` is as in `call`, the other fields as in `core.task`."""

    task_id: int
    attempt: int
    function: str
    payload: Payload
    label: str = ""
    timeout: float | None = None
    isolated: bool = False
    chained: bool = False
    gang: tuple[int, ...] = ()
    depth: int = 0


def order(command: StartTask, payload: Payload) -> Order:
    """The order for a command."""
    task, kind = command.task, command.task.kind
    return Order(
        task.id,
        command.attempt,
        kind.function,
        payload,
        kind.label,
        kind.timeout,
        kind.isolated,
        kind.chained,
        command.gang,
        kind.depth,
    )


class Assignment(NamedTuple):
    """What a server of others is told to have run: calls, `size` in each of the `units` (the last may have fewer).

    A unit is a payload as in `call`. `pieces` is how much of what it asked for that is, 0 if it did not ask.
    """

    task_id: int
    attempt: int
    kind: Kind
    calls: int
    units: list[Payload]
    size: int
    pieces: int


def assignment(command: StartTask, pieces: int, payload: Callable[[StartTask], Payload]) -> Assignment:
    """The assignment for a command to a server; `payload` gives the payload of a part of it."""
    task = command.task
    size = max(LEAST_UNIT, min(UNIT, -(-task.count // pieces) if pieces else 1))
    units = [
        payload(command._replace(task=task.part(start, min(start + size, task.count))))
        for start in range(0, task.count, size)
    ]
    return Assignment(task.id, command.attempt, task.kind, task.count, units, size, pieces)


class Calls:
    """The calls of a task, as slices of pickles of several: only a worker opens them."""

    def __init__(self, parts: list[tuple[bytes, int, int]]) -> None:
        self._parts = parts
        self._ends = list(itertools.accumulate(stop - start for _, start, stop in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, which: slice) -> Calls:
        start, stop, _ = which.indices(len(self))
        at = bisect_right(self._ends, start)
        taken = []
        while start < stop:
            data, _, last = self._parts[at]
            ahead = self._ends[at] - start  # calls of this part from `start` on
            count = min(ahead, stop - start)
            taken.append((data, last - ahead, last - ahead + count))
            start += count
            at += 1
        return Calls(taken)

    @property
    def parts(self) -> list[tuple[bytes, int, int]]:
        """(pickled calls, index of the first one meant, index after the last)."""
        return self._parts
