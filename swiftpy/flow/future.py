"""The result of a call that may not be there yet: a `concurrent.futures.Future` that costs a tenth of one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

from swiftpy.flow import program
from swiftpy.runtime.call import previous
from swiftpy.runtime.store import Stored

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from swiftpy.flow.engine import Engine
    from swiftpy.flow.nested import NestedEngine

    T = TypeVar("T", default=Any)  # so that `Future` alone is one of anything
    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

_thread = threading.local()
_FINAL = frozenset((CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED))
#: Held while a future becomes one that others share, and while one that nobody shares changes its state.
_sharing = threading.RLock()
os.register_at_fork(after_in_child=_sharing._at_fork_reinit)  # type: ignore[attr-defined]  # not in typeshed


class _OnDemand:
    """What the standard class' methods need, made all at once when the first of it is asked for; from then on it is an
    attribute of the future itself. Not by `__getattr__`, which makes every attribute of a class slow."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, future: Future | None, owner: type | None = None) -> Any:
        if future is None:
            return self
        with _sharing:
            if not future._shared:
                made = {"_waiters": [], "_done_callbacks": [], "_condition": threading.Condition()}
                future.__dict__.update(made)
                future._shared = True
        return future.__dict__[self._name]


class Future(concurrent.futures.Future[T]):
    """A call's future result. Given to another task as an argument, it makes that task wait for it.

    The standard class makes a condition, a lock and two lists for each future, which is nine tenths of its cost; here
    they are made when somebody needs them, such as who waits in another thread or adds a callback (`_shared`). From
    then on the state changes under the condition, as in the standard class, and those who wait are told at the same
    time: `as_completed` takes futures that are done as it finds them, and stumbles over one of which it is told once
    more. Until then the state is a plain attribute, and one lock (`_sharing`) serves a thousand futures that change
    together.
    """

    _waiters: Any = _OnDemand()
    _done_callbacks: Any = _OnDemand()
    _condition: Any = _OnDemand()
    _shared = False
    _state = PENDING
    _result: Any = None
    _exception = None

    engine: Engine | NestedEngine | None = None
    id = -1
    by_hand = False  # made by the program, and an argument of a call
    asked = False
    _tell_heard: Callable[[], None] | Future | None = None
    may_be_held = True  # where it was made, if it is large: the result may come when it is asked for
    #: What the future raises in the place of the error that it is settled with.
    translate: Callable[[BaseException], BaseException] | None = None
    key: bytes | None = None  # see `memo`
    _stored: Stored | None = None

    def __init__(self) -> None:
        pass  # the standard class' would make what is made when it is needed

    def done(self) -> bool:
        """Whether the result, an exception or a cancellation is there."""
        return self._state in _FINAL

    def good(self) -> bool:
        """Whether the result is there."""
        return self._state == FINISHED and self._exception is None

    def error(self) -> BaseException | None:
        """What went wrong, if something did and it is known already."""
        return self._exception

    def failed(self) -> bool:
        """Whether there will never be a result."""
        return self._state in _FINAL and not self.good()

    def result(self, timeout: float | None = None) -> T:
        """The result; waits for it. Raises the TaskError that describes how the task failed, or TimeoutError."""
        if self._state not in _FINAL:
            timeout = self._wait(timeout)
        if self._state == FINISHED and self._exception is None:
            if type(self._result) is Stored:
                assert self.engine is not None
                self.engine.fetch(self)
            if self._exception is None:
                return self._result  # type: ignore[no-any-return]  # or what is stored
        self.ask()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """How the task failed, None if it did not; waits for its end."""
        if self._state not in _FINAL:
            timeout = self._wait(timeout)
        self.ask()
        return super().exception(timeout)

    def cancel(self) -> bool:
        """See the standard class, whose `map` asks this of each future that it is done with."""
        return self._state != FINISHED and super().cancel()

    def when_heard(self, tell: Callable[[], None] | Future) -> None:
        """Call this once when the program hears how it ended; at once, if it has asked. A future, because of which this
        one failed, is asked."""
        self._tell_heard = tell
        if self.asked:
            self.ask()

    def ask(self) -> None:
        """Somebody hears how it ended, if only that others ended so, too."""
        future: Any = self
        while isinstance(future, Future):  # no recursion: a chain of a thousand calls may have failed
            future.asked = True
            tell, future._tell_heard = future._tell_heard, None
            future = tell
        if future is not None:
            future()

    def _wait(self, timeout: float | None) -> float | None:
        """Let the engine work until this is done; how long the standard class may wait after that."""
        engine = self.engine or program.current()
        if engine is None:
            return timeout
        engine.wait_for(self, timeout)
        return 0

    def set(self, value: T) -> None:
        """Give the value of a future that was made by hand, `Future()`. Raises InvalidStateError if it has one."""
        if self._state in _FINAL or (self.engine is not None and not self.by_hand):
            raise concurrent.futures.InvalidStateError(f"{self!r} cannot be set")
        if self.settle(value, None):
            self.tell()
        self._wake()

    def adopt(self, engine: Engine, id: int) -> bool:
        """An engine has met this one, which the program made, as an argument; False if another was faster."""
        with _sharing:
            if self.engine is not None:
                return False
            self.by_hand = True  # first: another thread may set it at this moment
            self.engine, self.id = engine, id
            return True

    def value_or(self, other: Any) -> Any:
        """The result of a good one, or the `Stored` that names it for other ranks; something else if it is not good."""
        if self._state != FINISHED or self._exception is not None:
            return other
        return self._result if self._stored is None else self._stored

    @property
    def elsewhere(self) -> Stored | None:
        """The name of a result that must be fetched, if it must."""
        return self._result if type(self._result) is Stored else None

    def bring(self, value: Any) -> None:
        """The result was fetched. Its name lives on: tasks that were given it may not have fetched it yet."""
        self._stored, self._result = self._result, value

    def lose(self, error: BaseException) -> None:
        """The result cannot be fetched, though it was there."""
        self._stored, self._result, self._exception = self._result, None, error

    def settle(self, value: Any, exception: BaseException | None) -> bool:
        """The engine's way to set the outcome; whether `tell` has callbacks to call. A cancelled one stays so."""
        if self._state in _FINAL:
            return False
        if exception is not None and self.translate is not None:
            exception = self.translate(exception)
        with _sharing:
            if not self._shared:
                self._exception, self._result, self._state = exception, value, FINISHED
                return False
        with self._condition:
            if self._state in _FINAL:
                return False
            self._exception, self._result, self._state = exception, value, FINISHED
            for waiter in self._waiters:
                waiter.add_result(self) if exception is None else waiter.add_exception(self)
            self._condition.notify_all()
            return bool(self._done_callbacks)

    def tell(self) -> None:
        """Call the callbacks."""
        self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        """Once. A nested call's callback holds its arguments, among which is this future: a large result would stay
        until Python looks for cycles."""
        super()._invoke_callbacks()  # type: ignore[misc]  # not in typeshed
        self._done_callbacks.clear()
        self._wake()

    def _wake(self) -> None:
        """Of one that was made by hand the engine does not know that it is done, and may be asleep."""
        if (self.engine is None or self.by_hand) and (engine := program.current()) is not None:
            engine.wake()

    def begin(self) -> bool:
        """The call is on its way to a worker; False if it was cancelled, and must not be made."""
        with _sharing:
            if not self._shared:
                if self._state == PENDING:
                    self._state = RUNNING
                return self._state == RUNNING
        with self._condition:
            if self._state in (PENDING, CANCELLED):
                return self.set_running_or_notify_cancel()
            return self._state == RUNNING

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        from swiftpy.flow.nested import NestedEngine

        if isinstance(self.engine, NestedEngine):  # beside an event loop, what comes is taken in only now and then
            self.engine.wait_for(self)
        return asyncio.wrap_future(self).__await__()

    def __reduce__(self) -> tuple[Any, ...]:
        """A future is pickled as its value, for which this waits.

        As an argument, one without a value is the result of the call before (`chained`), and a value that lies with
        another rank is fetched from there when the argument is unpickled.
        """
        find = getattr(_thread, "find", None)
        if find is None:
            return _value, (self.result(),)
        if _thread.found is None:
            _thread.found = frozenset(find() or ())
        if self not in _thread.found:  # so nothing waited for it
            raise TypeError(
                "a future is found only in lists, tuples, sets, dicts and dataclasses, not in other objects:"
                " give its result(), or the future as an argument of its own"
            )
        if self.good():
            return _value, (self.value_or(None),)
        return previous, ()


if TYPE_CHECKING:

    class Promise(Future[T_co], Any):  # type: ignore[misc, type-var]
        """What programs know as `swiftpy.Future`. To a type checker it goes for a value of any type, because a call
        takes it in the place of one, and no type says so of each parameter. We ourselves use what is checked."""

        def add_done_callback(self, fn: Callable[[Promise[T_co]], object]) -> None:
            """See `concurrent.futures.Future`."""
else:
    Promise = Future


def when_good(futures: Iterable[Future], then: Callable[[], None], otherwise: Callable[[Future], None]) -> None:
    """Call `then` as soon as all futures have results; `otherwise` for each that fails."""
    pending = [future for future in futures if not future.good()]
    left = itertools.count(len(pending) - 1, -1)  # no lock: it counts in one step, whichever threads call

    def one_less(done: Any) -> None:
        if done.failed():
            otherwise(done)
        elif next(left) == 0:
            then()

    for future in pending:
        future.add_done_callback(one_less)
    if not pending:
        then()


def results(futures: list[Future]) -> Iterator[Any]:
    """Their results, in order. The first failure ends it, and whoever hears of that one has asked for all."""
    try:
        for future in futures:
            yield future.result()
    except Exception:
        for future in futures:
            future.ask()
        raise


def begin_all(futures: Iterable[Future]) -> list[int]:
    """`Future.begin` for each; the indices of those that must not be made."""
    others = []
    with _sharing:
        for index, future in enumerate(futures):
            if future._state is PENDING and not future._shared:
                future._state = RUNNING
            else:
                others.append((index, future))
    return [index for index, future in others if not future.begin()]


def settle_all(futures: Iterable[Future], values: Iterable[Any]) -> list[Future]:
    """`Future.settle` for each; those that have callbacks to be called."""
    others = []
    with _sharing:
        for future, value in zip(futures, values, strict=True):
            if future._shared:
                others.append((future, value))
            elif future._state not in _FINAL:
                future._result = value
                future._state = FINISHED
    return [future for future, value in others if future.settle(value, None)]


@contextlib.contextmanager
def as_arguments(find: Callable[[], list[Future] | None]) -> Iterator[None]:
    """What this thread pickles are arguments of a call, which waited for the futures that `find` finds in them: see
    Future.__reduce__."""
    _thread.find, _thread.found = find, None
    try:
        yield
    finally:
        _thread.find = _thread.found = None


def _value(value: Any) -> Any:
    return value
