"""`memo`: results of tasks that are kept on disk, so that a script that is started again makes no call twice."""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, overload

import cloudpickle

from swiftpy.flow import fingerprint, program
from swiftpy.flow.calls import Deferred, needs
from swiftpy.flow.engine import Engine
from swiftpy.flow.functions import name_of
from swiftpy.flow.future import Future, Promise
from swiftpy.flow.records import Records
from swiftpy.flow.tasks import P, R, TaskFunction
from swiftpy.runtime.call import ATOMS


class Memo:
    """Results kept in a directory; `len` counts them. A decorator for tasks, or for functions, which become tasks::

        memo = swiftpy.memo("results")

        @memo
        @swiftpy.task(priority=1)
        def simulate(temperature, seed): ...

    A call with the same function (see `fingerprint.of_function`) and arguments as one that ended, also in an earlier
    job, is not made again: its future has the result at once. Of files the names count, not what is in them. A result
    is on disk before its future is done, so what was reported done survives whatever kills the job. Failures are not
    kept, nor are results of calls that tasks make. Several jobs may use a directory at once.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._place = self.directory.absolute()  # records are read later, and the script may go elsewhere
        self._warned = False

    @overload
    def __call__(self, function: TaskFunction[P, R]) -> TaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> TaskFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> Any:
        """The task with kept results."""
        if isinstance(function, KeptFunction):
            raise TypeError(f"the results of {name_of(function.function)} are kept already")
        if isinstance(function, TaskFunction):
            return KeptFunction(function.function, function._options, self)
        return KeptFunction(function, {}, self)

    def __len__(self) -> int:
        return len(self.records)

    @functools.cached_property
    def records(self) -> Records:
        """What is on disk; read when it is first needed, and not by workers that merely import the script's modules."""
        return Records(self._place)

    def find(self, key: bytes) -> tuple[Any, bool]:
        """(the result, True) if it is there. One that cannot be read any more, of a class that is gone, is not, and
        makes room for that of the call that is made again."""
        data = self.records.get(key)
        if data is None:
            return None, False
        try:
            return pickle.loads(data), True
        except Exception:
            self.records.forget(key)
            return None, False

    def keep(self, key: bytes, value: Any) -> None:
        """Add a result, which is safe after `save`. One that came pickled, and cannot be again, is lost alone."""
        if key in self.records:
            return
        try:
            self.records.add(key, _pickled(value))
        except Exception as error:
            self._warn(error)

    def save(self) -> None:
        """Bring all results to disk. A full disk costs those of this moment, not the job."""
        try:
            self.records.save()
        except OSError as error:
            self._warn(error.strerror)

    def _warn(self, problem: object) -> None:
        if not self._warned:
            print(f"swiftpy: some results were not kept in {self.directory}: {problem}", file=sys.stderr)
        self._warned = True


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # of a class or function without a name
        data: bytes = cloudpickle.dumps(value, protocol=5)
        return data


class KeptFunction(TaskFunction[P, R]):
    """A task whose results are kept."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any], memo: Memo) -> None:
        super().__init__(function, options)
        self._memo = memo
        self._sent: TaskFunction[P, R] | None = None
        self._keeper: Keeper | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        """The result that is there, or a call."""
        engine = program.engine()
        if not isinstance(engine, Engine):  # within a task
            return super().__call__(*args, **kwargs)
        if self._sent is None or self._keeper is None:
            body = _Body(self.function)
            self._sent = TaskFunction(body, self._options)
            self._keeper = Keeper(self._memo, self.function)
            engine.settling.keepers[engine.functions.find(body).name] = self._keeper
        needed = needs(args, kwargs)
        future = Future()
        if needed and not all(other.good() for other in needed):
            keeper, future.engine = self._keeper, engine
            submit = functools.partial(self._submit, engine, future, args, kwargs)
            engine.held_back.add(future, needed, lambda: submit(keeper.key_of_values(args, kwargs)))
        else:
            self._submit(engine, future, args, kwargs, self._keeper.key(args, kwargs))
        return future  # type: ignore[return-value]  # see Promise

    def _submit(
        self, engine: Engine, future: Future, args: tuple[Any, ...], kwargs: dict[str, Any], key: bytes
    ) -> None:
        """Give a future the result that is there, or submit its call."""
        value, found = self._memo.find(key)
        if not found:
            assert self._sent is not None
            engine.submit(*self._sent.described(engine), (key, *args), kwargs, future)
        elif future.settle(value, None):
            future.tell()

    def submit_all(self, calls: list[Any], column: bool = False) -> Iterable[Any]:
        """See TaskFunction: one by one, because each may be there."""
        return self._submit_each(calls, column)

    def _variant(self, options: dict[str, Any]) -> TaskFunction[P, R]:
        return KeptFunction(self.function, options, self._memo)


class Keeper:
    """What the engine asks about calls of one function: before they start, and with their results."""

    def __init__(self, memo: Memo, function: Callable[..., Any]) -> None:
        self.memo = memo
        # Now, in the script's thread: where the directory cannot be read, its call says so, and not the engine.
        _ = memo.records
        self._function = function
        self._fingerprint = fingerprint.of_function(function)
        self._warned = False

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of a call. Raises TypeError if an argument has no value that could be compared."""
        try:
            return fingerprint.key_of_call(self._fingerprint, args, kwargs)
        except Exception as error:  # what is pickled may raise anything
            name = name_of(self._function)
            raise TypeError(f"a result of {name} cannot be kept: an argument cannot be compared: {error}") from None

    def key_of_values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The same when values came from other tasks: too late to refuse the call. An empty one keeps nothing."""
        try:
            return self.key(args, kwargs)
        except TypeError as error:
            if not self._warned:
                print(f"swiftpy: {error}", file=sys.stderr)
            self._warned = True
            return b""

    def begin(self, future: Future, call: Any) -> Any:
        """The call as it is to be sent, without the key that goes before its arguments so far."""
        (key, *rest), kwargs = (call.args, call.kwargs) if type(call) is Deferred else (call, {})
        if key and not ATOMS.issuperset(map(type, (*rest, *kwargs.values()))):
            # Whoever fills one dict again and again, for one call after another, gets the results of what it has when
            # they are sent. For what it had before, which may come in another job, these must not be kept.
            key = self.key_of_values(tuple(rest), kwargs)
        future.key = key
        return Deferred(tuple(rest), kwargs) if type(call) is Deferred else tuple(rest)

    def keep(self, future: Future, value: Any) -> None:
        """A call has this result, which is safe after `memo.save`."""
        if future.key:
            self.memo.keep(future.key, value)


class _Body:
    """What a worker calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


memo = Memo
