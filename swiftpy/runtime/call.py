"""Calling functions by name: the one place where payloads are unpickled.

A payload is (definition, pickled calls, name), of plain types, for it is pickled again with the message that it is in.
`definition` is None for a function that can be imported, else the function itself, pickled by value, which is kept
under the name that it was sent with. A call is a tuple of positional arguments, or bytes: a pickle of (arguments,
keyword arguments) that is opened only when its turn has come.
A tuple with a list, in the place of the list, is calls with one argument each: a third of the time to pickle.
Instead of the pickled calls there may be a list of (pickled calls, start, stop): of each, those are meant.
In a chained run, the result of the call before is `PREVIOUS` in a tuple, and `previous()` in what is opened.
`name` is what the first call's result is called if it is large and stays with its worker (see `store`), or None if all
results shall be sent.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import cloudpickle

from swiftpy.errors import TaskError
from swiftpy.runtime.exceptions import describe
from swiftpy.runtime.store import Name, Packed, Snapshot, pack, pack_results

Payload = tuple[Any, ...]  # see the module

#: Types of what nobody can change.
ATOMS = frozenset((int, float, str, bytes, bool, type(None), complex))

_defined: dict[str, Callable[..., Any]] = {}
_definitions: dict[str, bytes] = {}  # of functions that were not called yet, see `learn`
_latest: Any = None
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note_fork)


def import_from(folder: str) -> None:
    """What lies in `folder`, beside the script, can be imported as if Python had been started with the script.

    It takes the place of the directory where the user stands, which `-m` puts first. With PYTHONSAFEPATH it does not:
    what is first then is of the user's own PYTHONPATH, and the script may import from there.
    """
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [folder]


class _Previous:
    def __reduce__(self) -> str:
        return "PREVIOUS"


PREVIOUS = _Previous()


class Answer(NamedTuple):
    """What became of a run of calls: the pickled list of values, how many were made, (index, error) of failures, and
    the large values that stay, by their keys."""

    value: bytes
    made: int
    failures: tuple[tuple[int, TaskError], ...] = ()
    held: dict[int, Packed] = {}  # noqa: RUF012  (nobody changes it)


def resolve(function: str) -> Callable[..., Any]:
    """The callable that `package.module:name` names. Raises ImportError or AttributeError, saying what is missing."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{function} is not callable")
    return found  # type: ignore[no-any-return]  # any callable will do


def learn(function: str, payload: Payload) -> None:
    """Keep the definition in a payload that will not be opened: it is sent to a worker only once."""
    if payload[0] is not None:
        _definitions[function] = payload[0]


def forget(function: str) -> None:
    """A function that came by value is needed no more."""
    _defined.pop(function, None)
    _definitions.pop(function, None)


def previous() -> Any:
    """The result of the call before, in a chained run: what its pickled calls refer to."""
    return _latest


def payload_of(*args: Any) -> Payload:
    """Arguments of one call as a payload."""
    return None, pickle.dumps([args], protocol=5), None


class Run:
    """A run of calls in progress. Another thread may take calls off its end (`give_up`)."""

    first: tuple[Any, ...] = ()  # what the function gets before the call's own arguments
    #: Seconds for which its calls waited for other tasks.
    waited = 0.0
    count = 0
    _function: Callable[..., Any] | None = None
    _column = False
    _brought: Any = None
    _result_name: Name | None = None

    def __init__(self, function: str, payload: Payload, chained: bool = False) -> None:
        self._name, self._chained = function, chained
        self._payload: Payload | None = payload
        self._todo: deque[Any] = deque()

    def open(self) -> Callable[..., Any]:
        """Unpickle the payload; return the function."""
        if self._function is not None:
            return self._function
        assert self._payload is not None
        definition, packed, name = self._payload
        function = _defined.get(self._name)
        if function is None or definition is not None:
            definition = definition or _definitions.pop(self._name, None)
            function = resolve(self._name) if definition is None else pickle.loads(definition)
            _defined[self._name] = function
        if type(packed) is bytes:
            calls = pickle.loads(packed)
            if type(calls) is tuple:
                self._column, calls = True, calls[0]
        else:
            calls = load_parts(packed)
        self._payload = None
        self._function, self._result_name = function, name
        self.count = len(calls)
        self._todo.extend(calls)
        return function

    def bring(self) -> None:
        """Get the arguments of the only call now."""
        with contextlib.suppress(BaseException):  # `make` will meet it again, and say so
            self.open()
            if type(self._todo[0]) is bytes:
                self._brought = pickle.loads(self._todo[0])

    def give_up(self) -> int | None:
        """Drop the calls that were not begun; how many are kept, or None if there was nothing to drop."""
        dropped = 0
        while self._todo:
            try:
                self._todo.pop()
            except IndexError:  # the other thread was faster
                break
            dropped += 1
        self.count -= dropped
        return self.count if dropped else None

    def make(self) -> Answer:
        """Make the calls, one after another.

        SystemExit and KeyboardInterrupt are failures of the task like any other: a task cannot end its worker.
        """
        try:
            function = self.open()
        except BaseException as exception:
            return Answer(b"", 1, ((0, describe(exception)),))
        values: list[Any] = []
        failures: list[tuple[int, TaskError]] = []
        todo, first, column, chained = self._todo, self.first, self._column, self._chained
        global _latest
        while True:
            try:
                call = todo.popleft()
            except IndexError:  # another thread may take the last one at any moment
                break
            try:
                if column:
                    value = function(call)
                elif type(call) is tuple:
                    if chained:
                        call = [_latest if argument is PREVIOUS else argument for argument in call]
                    value = function(*first, *call) if first else function(*call)
                else:
                    args, kwargs = self._brought or pickle.loads(call)
                    value = function(*first, *args, **kwargs)
                following = value
                if todo and type(value) not in ATOMS:  # the next call may change it, or what it was made of
                    value, following = _apart(value, chained)
            except BaseException as exception:
                if _forked:
                    leave_fork(_exit_code(exception))
                failures.append((len(values), describe(exception)))
                value = following = None
            if _forked:
                leave_fork(0)
            values.append(value)
            if chained:
                if failures:
                    break
                _latest = following
        return _answer(values, failures, self._result_name)


def _exit_code(exception: BaseException) -> int:
    """That of a process which an exception ends."""
    if isinstance(exception, SystemExit) and isinstance(exception.code, int | None):
        return exception.code or 0
    traceback.print_exception(exception)
    return 1


def leave_fork(code: int) -> NoReturn:
    """End a process that a task, or the script, has forked, and that has come back to us: what we do next would be done
    twice, and with the rank's connections."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have closed it, or put anything in its place
            stream.flush()
    os._exit(code)


def _apart(value: Any, twice: bool) -> tuple[Any, Any]:
    """A result as it is now, whatever its task does with it from now on; and, if `twice`, the same for the next call
    of a chain, which may change it."""
    if type(value) is tuple and ATOMS.issuperset(map(type, value)):
        return value, value
    try:
        packed = pack(value)
    except BaseException:  # of a class that came by value
        packed = pack(value, cloudpickle.dumps)
    if isinstance(packed, Packed):
        return Snapshot(packed), packed.copy().value() if twice else None
    # Not the pickle itself, in which each result of a class that came by value would have the class, too.
    return pickle.loads(packed), pickle.loads(packed) if twice else None


def load_parts(parts: list[tuple[bytes, int, int]]) -> list[Any]:
    """The calls that are meant by a list of (pickled calls, start, stop), each of which may be a column."""
    calls: list[Any] = []
    for packed, start, stop in parts:
        part = pickle.loads(packed)
        calls += [(argument,) for argument in part[0][start:stop]] if type(part) is tuple else part[start:stop]
    return calls


def _answer(values: list[Any], failures: list[tuple[int, TaskError]], name: Name | None) -> Answer:
    try:
        data, held = pack_results(values, name)
    except BaseException:  # of a class that came by value; or one that nobody can send: find out whose it is
        for index, value in enumerate(values):
            try:
                cloudpickle.dumps(value, protocol=5)
            except BaseException as exception:
                values[index] = None
                failures.append((index, describe(exception)))
        failures.sort(key=lambda failure: failure[0])
        data, held = pack_results(values, name, cloudpickle.dumps)
    return Answer(data, len(values), tuple(failures), held)
