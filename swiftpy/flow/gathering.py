"""Calls that were submitted and not yet handed to the scheduler, in runs: what follows each other and is alike."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swiftpy.core.task import Kind
from swiftpy.flow.bulk import Bulk
from swiftpy.flow.calls import Deferred, needs
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future

if TYPE_CHECKING:
    from swiftpy.flow.engine import Engine

#: Calls that are gathered before they are handed over without anybody waiting.
ENOUGH = 1024


class GatheredRun:
    """Calls of one kind with consecutive ids and the same needs: one task for the scheduler.

    `variant` is the kind, or the kind as a chain when each call needs the one before.
    """

    __slots__ = ("calls", "first", "function", "kind", "needed", "owner", "variant")

    def __init__(self, first: int, kind: Kind, function: Function, needed: list[Future]) -> None:
        self.first, self.kind, self.function, self.needed = first, kind, function, needed
        self.variant = kind
        self.calls: list[Any] = []
        self.owner: Bulk | None = None

    def may_chain(self, kind: Kind, needed: list[Future], id: int) -> bool:
        """Whether a call only waits for this run's last, and so may make it a chain, or go on with it."""
        last = len(needed) == 1 and needed[0].id == id - 1
        return last and self.kind is kind and kind.divisible and (len(self.calls) == 1 or self.variant.chained)


class Gathering:
    """Any thread adds; who drives the server takes. `futures` holds those that have no result yet, by id."""

    def __init__(self, engine: Engine) -> None:
        self.futures: dict[int, Future] = {}
        self._engine = engine
        self._lock = threading.Lock()
        self._next_id = 0
        self._open: GatheredRun | None = None
        self._runs: list[GatheredRun] = []
        self._given: list[int] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._runs or self._given)

    @property
    def enough(self) -> bool:
        """Whether it is time to hand over."""
        return self._count >= ENOUGH

    def add(
        self,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        alone: bool,
        future: Future | None = None,
    ) -> Future:
        """Add one call; its future. One that must be `alone` becomes no part of a chain."""
        future = future or Future()
        future.engine = self._engine
        future.by_hand = False
        needed = needs(args, kwargs)
        with self._lock:
            if needed is not None:
                self._adopt(needed)
            future.id = id = self._next_id
            self._next_id = id + 1
            self.futures[id] = future
            self._count += 1
            run = self._open
            if run is not None and run.variant is kind and needed is None and not run.needed:
                run.calls.append(args if not kwargs else Deferred(args, kwargs))
            else:
                self._add(id, kind, function, args, kwargs, needed, alone)
        return future

    def add_all(
        self, kind: Kind, function: Function, calls: list[Any], drive: Callable[..., None], column: bool
    ) -> Bulk:
        """Add calls that need nothing, in one run if they may travel together; their results."""
        with self._lock:
            bulk = Bulk(self._next_id, len(calls), drive, column)
            size = len(calls) if kind.divisible else 1
            for first in range(0, len(calls), max(size, 1)):
                run = GatheredRun(self._next_id + first, kind, function, [])
                run.calls, run.owner = calls[first : first + size], bulk
                self._runs.append(run)
            self._next_id += len(calls)
            self._open = None  # the ids of a run follow each other
        return bulk

    def give(self, future: Future) -> None:
        """A future that was made by hand got its value."""
        with self._lock:
            self._given.append(future.id)

    def take(self, reserve: int = 0) -> tuple[list[GatheredRun], list[int], int]:
        """The runs and the given ids since the last time, and the first of so many new ids, which come after them."""
        with self._lock:
            runs, self._runs, self._open, self._count = self._runs, [], None, 0
            given, self._given = self._given, []
            first = self._next_id
            self._next_id += reserve
        return runs, given, first

    def _add(
        self,
        id: int,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        needed: list[Future] | None,
        alone: bool,
    ) -> None:
        """Add a call that does not simply continue the open run."""
        call = Deferred(args, kwargs) if kwargs or needed is not None else args
        needed = [future for future in needed if not future.good()] if needed else []
        run = self._open
        if run is not None and not alone and run.may_chain(kind, needed, id):
            if not run.variant.chained:
                run.variant = dataclasses.replace(kind, chained=True)
        elif run is None or run.variant is not kind or run.needed != needed:
            self._open = run = GatheredRun(id, kind, function, needed)
            self._runs.append(run)
        run.calls.append(call)
        if not kind.divisible:
            self._open = None

    def _adopt(self, needed: list[Future]) -> None:
        """Give ids to futures that were made by hand and are met for the first time."""
        for future in needed:
            if future.engine is None and not future.done():
                future.engine, future.id = self._engine, self._next_id
                self.futures[future.id] = future
                self._next_id += 1
                self._open = None
