"""Large results that lie with workers and are wanted on rank 0, and calls that are held back until they are here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from swiftpy.flow.calls import because_of, needs
from swiftpy.flow.future import Future, when_good
from swiftpy.runtime.store import Exchange, Reference


class Fetching:
    """Results on their way to rank 0. Any thread may ask for them; who drives the server calls `advance`."""

    def __init__(self) -> None:
        #: To be called by a thread that does not drive meanwhile: they may do anything.
        self.due: deque[Callable[[], None]] = deque()
        self._requested: deque[Future] = deque()
        self._coming: dict[Reference, Future] = {}
        self._calls: deque[tuple[list[Future], Callable[[], None]]] = deque()

    def __bool__(self) -> bool:
        """Whether there is anything to do or to wait for."""
        return bool(self._requested or self._coming or self._calls or self.due)

    def request(self, futures: Iterable[Future]) -> None:
        """Fetch those of these results that are not here."""
        self._requested.extend(future for future in futures if future.elsewhere is not None)

    def call(self, futures: list[Future], then: Callable[[], None]) -> None:
        """Fetch these results; `then` is due when all are here."""
        self._calls.append((futures, then))
        self.request(futures)

    def advance(self, data: Exchange) -> bool:
        """Ask for what is wanted, take what has arrived, and find out what is due; whether any of that is news."""
        while self._requested:
            future = self._requested.popleft()
            if (stored := future.elsewhere) is not None and stored.reference not in self._coming:
                data.request(stored.reference)
                self._coming[stored.reference] = future
        news = False
        for reference in data.arrivals:
            if (arrived := self._coming.pop(reference, None)) is not None:
                _bring(arrived, data, reference)
                news = True
        for _ in range(len(self._calls)):
            futures, then = self._calls.popleft()
            if any(future.elsewhere is not None for future in futures):
                self._calls.append((futures, then))
            else:
                self.due.append(then)
        return news or bool(self.due)


def _bring(future: Future, data: Exchange, reference: Reference) -> None:
    """Give a future its result, which has arrived."""
    try:
        future.bring(data.take(reference).value())
    except (Exception, SystemExit) as error:  # its class may do anything when it is unpickled
        future.lose(error)


class HeldBack:
    """Calls that are not submitted before the values of other futures are here, because these say what is to be called.

    The scheduler does not know them: once it starts a call there is no time to fetch anything. The holder may be inside
    of MPI, with a parallel task that waits for just those calls which the server would then leave lying. As it takes no
    call before those that it needs, calls that need one of these are held back, too.
    """

    def __init__(self, fetching: Fetching) -> None:
        #: The futures of the calls, with those that they wait for.
        self.futures: dict[Future, list[Future]] = {}
        self._fetching = fetching

    def among(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Future]:
        """The futures in a call's arguments whose own calls are held back."""
        return [future for future in needs(args, kwargs) or () if future in self.futures and not future.done()]

    def add(self, future: Future, needed: list[Future], submit: Callable[[], object], fetch: bool = True) -> None:
        """Call `submit`, which submits the call of a future or settles it, when what it needs is there and, if it is
        to be fetched, here.

        If that fails, so does the future.
        """
        self.futures[future] = needed

        def fail(culprit: Future) -> None:
            self.futures.pop(future, None)
            future.when_heard(culprit)
            if future.settle(None, because_of(culprit)):
                self._fetching.due.append(future.tell)  # not in here: a chain of a thousand would be as deep

        def go_on() -> None:
            if culprit := next((other for other in needed if other.failed()), None):  # it has gone on its way here
                fail(culprit)
            elif not future.done():
                submit()
            self.futures.pop(future, None)  # now: a call that needs it, and finds it gone, comes after it

        when_good(needed, lambda: self._fetching.call(needed if fetch else [], go_on), fail)
