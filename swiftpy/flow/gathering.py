"""Calls that were submitted and not yet handed to the scheduler, in runs: what follows each other and is alike."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from swiftpy.core.task import Kind
from swiftpy.flow.bulk import Bulk
from swiftpy.flow.calls import Deferred, failure_of, needs
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future

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
    """Any thread adds; who drives the server takes, and makes runs of what it finds.

    `futures` holds those that were taken and have no result, by id.
    """

    def __init__(self) -> None:
        self.futures: dict[int, Future] = {}
        # Runs, and calls: future, kind, function, the call as in a task's payload, and the futures among its arguments,
        # None if there are none. No thread can be amid an append to a deque.
        self.added: deque[Any] = deque()
        self._given: deque[int] = deque()
        self._next_id = 0

    def __bool__(self) -> bool:
        return bool(self.added or self._given)

    def add(
        self, future: Future, kind: Kind, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Add one call, whose future this is."""
        needed = needs(args, kwargs)
        self.added.append((future, kind, function, Deferred(args, kwargs) if kwargs else args, needed))

    def add_all(self, kind: Kind, function: Function, calls: list[Any], bulk: Bulk) -> None:
        """Add calls that need nothing, in one run if they may travel together; `bulk` gets their results."""
        size = len(calls) if kind.divisible else 1
        for first in range(0, len(calls), max(size, 1)):
            run = GatheredRun(kind, function, [])
            run.calls, run.owner = calls[first : first + size], bulk
            self.added.append(run)

    def give(self, future: Future) -> None:
        """A future that was made by hand is done."""
        self._given.append(future.id)

    def take(self, reserve: int = 0) -> tuple[list[GatheredRun], list[int], int]:
        """The runs and the given ids since the last time, and the first of so many new ids, which come after them."""
        runs = self._make_runs()
        for run in runs:
            run.first = self._next_id
            self._next_id += len(run.calls)
            if run.owner is not None and run.owner.first < 0:
                run.owner.first = run.first
            self.futures.update(enumerate(run.futures, run.first))
            for id, future in enumerate(run.futures, run.first):
                future.id = id
        given = [self._given.popleft() for _ in range(len(self._given))]
        first = self._next_id
        self._next_id += reserve
        return runs, given, first

    def _make_runs(self) -> list[GatheredRun]:
        """Make runs of what was added: of calls that follow each other and are alike, and of chains."""
        runs: list[GatheredRun] = []
        open_run: GatheredRun | None = None
        last: dict[Future, GatheredRun] = {}  # by the call that a chain may go on with
        for _ in range(len(self.added)):
            added = self.added.popleft()
            if type(added) is GatheredRun:
                runs.append(added)
                open_run = None  # first in, first out
                continue
            future, kind, function, call, needed = added
            if needed is None and open_run is not None and open_run.variant is kind and not open_run.needed:
                open_run.calls.append(call)
                open_run.futures.append(future)
                continue
            waits_for = needed or []
            run = last.get(waits_for[0]) if len(waits_for) == 1 else None
            if run is None and waits_for:  # else it has no value: nobody was given its call
                waits_for = self._adopt(waits_for, future.engine)
                run = last.get(waits_for[0]) if len(waits_for) == 1 else None
            if run is not None and run.may_chain(kind):
                del last[waits_for[0]]
                if not run.variant.chained:
                    run.variant = dataclasses.replace(kind, chained=True)
            else:
                run = open_run
                if run is None or run.variant is not kind or run.needed != waits_for:
                    run = open_run = GatheredRun(kind, function, waits_for)
                    runs.append(run)
                if not kind.divisible:
                    open_run = None
            run.calls.append(call)
            run.futures.append(future)
            if run.variant.chained or run.may_chain(kind):
                last[future] = run
        return runs

    def _adopt(self, needed: list[Future], engine: Any) -> list[Future]:
        """Those of these futures that have no value yet; in the place of one of another executor's job, one that ends
        when it does."""
        here = [
            future
            if future.engine is engine or future.done() or self._is_known(future, engine)
            else self._stand_in(future, engine)
            for future in needed
        ]
        return [future for future in here if not future.good()]

    def _is_known(self, future: Future, engine: Any) -> bool:
        """Whether a future has a number here. One that was made by hand gets it when it is met for the first time."""
        if future.engine is None and future.adopt(engine, self._next_id):
            self.futures[self._next_id] = future
            self._next_id += 1
            future.add_done_callback(engine.given)  # at once, if another thread has just given it a value
        return future.engine is engine

    def _stand_in(self, theirs: Future, engine: Any) -> Future:
        """A future of our own, without a value: calls that wait for it find that in theirs."""
        ours = Future()
        self._is_known(ours, engine)

        def end(done: Any) -> None:
            error = None if done.good() else failure_of(done)
            if error is not None:
                error.task = error.task or "another executor's call"
            if ours.settle(None, error):
                ours.tell()

        theirs.add_done_callback(end)
        return ours
