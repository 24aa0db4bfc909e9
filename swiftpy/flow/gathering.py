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
ENOUGH = 4096


class GatheredRun:
    """Calls of one kind and with the same needs: one task for the scheduler.

    `variant` is the kind, or the kind as a chain when each call needs the one before. The ids begin with `first` once
    the run is taken: only then it is known how long it is, as chains may grow side by side.
    """

    __slots__ = ("calls", "first", "function", "futures", "kind", "needed", "owner", "variant")

    def __init__(self, kind: Kind, function: Function, needed: list[Future]) -> None:
        self.kind, self.function, self.needed = kind, function, needed
        self.variant = kind
        self.calls: list[Any] = []
        self.futures: list[Future] = []  # of the calls; none if there is an owner
        self.owner: Bulk | None = None
        self.first = -1

    def may_chain(self, kind: Kind) -> bool:
        """Whether a call that only waits for this run's last may make it a chain, or go on with it."""
        return self.kind is kind and kind.divisible and (len(self.calls) == 1 or self.variant.chained)


class Gathering:
    """Any thread adds; who drives the server takes.

    `futures` holds those that were taken and have no result, by id; `count` is how many calls were added one by one
    since the last time that somebody took them.
    """

    def __init__(self, engine: Engine) -> None:
        self.futures: dict[int, Future] = {}
        self.count = 0
        self._engine = engine
        self._lock = threading.RLock()  # again for `give`, if a future is done in the moment in which it is adopted
        self._next_id = 0
        self._open: GatheredRun | None = None
        self._last: dict[Future, GatheredRun] = {}  # by the call that a chain may go on with
        self._runs: list[GatheredRun] = []
        self._given: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._runs or self._given)

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
        if future is None:
            future = Future()
        future.engine = self._engine
        future.by_hand = False
        needed = needs(args, kwargs)
        with self._lock:
            if needed is not None:
                self._adopt(needed)
            self.count += 1
            run = self._open
            if run is not None and run.variant is kind and needed is None and not run.needed:
                run.calls.append(args if not kwargs else Deferred(args, kwargs))
                run.futures.append(future)
            else:
                self._add(future, kind, function, args, kwargs, needed, alone)
        return future

    def add_all(
        self, kind: Kind, function: Function, calls: list[Any], drive: Callable[..., None], column: bool
    ) -> Bulk:
        """Add calls that need nothing, in one run if they may travel together; their results."""
        with self._lock:
            bulk = Bulk(len(calls), drive, column)
            size = len(calls) if kind.divisible else 1
            for first in range(0, len(calls), max(size, 1)):
                run = GatheredRun(kind, function, [])
                run.calls, run.owner = calls[first : first + size], bulk
                self._runs.append(run)
            self._open = None  # first in, first out
        return bulk

    def give(self, future: Future) -> None:
        """A future that was made by hand is done."""
        with self._lock:
            self._given.append(future.id)

    def take(self, reserve: int = 0) -> tuple[list[GatheredRun], list[int], int]:
        """The runs and the given ids since the last time, and the first of so many new ids, which come after them."""
        with self._lock:
            for run in self._runs:
                run.first = self._next_id
                self._next_id += len(run.calls)
                if run.owner is not None and run.owner.first < 0:
                    run.owner.first = run.first
                for id, future in enumerate(run.futures, run.first):
                    future.id = id
                    self.futures[id] = future
            runs, self._runs, self._open, self.count = self._runs, [], None, 0
            self._last.clear()
            given, self._given = self._given, []
            first = self._next_id
            self._next_id += reserve
        return runs, given, first

    def _add(
        self,
        future: Future,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        needed: list[Future] | None,
        alone: bool,
    ) -> None:
        """Add a call that does not simply continue the open run."""
        call = Deferred(args, kwargs) if kwargs or needed is not None else args
        needed = [other for other in needed if not other.good()] if needed else []
        run = self._last.get(needed[0]) if len(needed) == 1 and not alone else None
        if run is not None and run.may_chain(kind):
            del self._last[needed[0]]
            if not run.variant.chained:
                run.variant = dataclasses.replace(kind, chained=True)
        else:
            run = self._open
            if run is None or run.variant is not kind or run.needed != needed:
                self._open = run = GatheredRun(kind, function, needed)
                self._runs.append(run)
            if not kind.divisible:
                self._open = None
        run.calls.append(call)
        run.futures.append(future)
        if run.may_chain(kind):
            self._last[future] = run

    def _adopt(self, needed: list[Future]) -> None:
        """Give ids to futures that were made by hand and are met for the first time."""
        for future in needed:
            if future.engine is None and not future.done():
                future.engine, future.id = self._engine, self._next_id
                self.futures[future.id] = future
                self._next_id += 1
                future.add_done_callback(self._engine.given)  # type: ignore[arg-type]  # it is called with this future
