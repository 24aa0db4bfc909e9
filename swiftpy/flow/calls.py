"""Calls on their way: which futures their arguments hold, and their form on the wire (see `runtime.call`)."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pickle
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import cloudpickle

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import TaskState
from swiftpy.errors import TaskError
from swiftpy.flow.future import Future, as_arguments
from swiftpy.runtime.call import ATOMS, PREVIOUS, Payload
from swiftpy.runtime.exceptions import Cancelled, describe
from swiftpy.runtime.store import InArguments, Name, Packed, pack

_PLAIN = ATOMS | {type(PREVIOUS)}
#: What the script itself defines is of a module that workers know by another content: it must go by value.
_MAIN = b"__main__"
_SEQUENCES = (list, tuple, set, frozenset, deque)


class Deferred:
    """A call with keyword arguments. Another is the tuple of its arguments; both may hold futures, which have values by
    the time when the call starts, and is pickled."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs


def needs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Future] | None:
    """The futures in the arguments, also in lists, tuples, deques, sets, dicts, what is derived from them, and
    dataclasses; None if there are none."""
    found: list[Future] | None = None
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) not in ATOMS:
            found = found or []
            if type(value) is Future:
                found.append(value)
            else:
                _collect(value, found, {})
    return found or None


def _collect(value: Any, found: list[Future], seen: dict[int, Any]) -> None:
    """Add the futures in a value. `seen`: its containers by id, as nodes of a tree may know the one they are in."""
    kind = type(value)
    elements: Iterable[Any]
    if issubclass(kind, _SEQUENCES):
        elements = value
    elif issubclass(kind, dict):
        elements = itertools.chain(value, value.values())
    elif dataclasses.is_dataclass(kind):
        elements = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        return
    if id(value) in seen or (kind is list and ATOMS.issuperset(map(type, value))):  # a million numbers, say
        return
    seen[id(value)] = value
    for element in elements:
        if type(element) is Future:
            found.append(element)
        elif type(element) not in ATOMS:
            _collect(element, found, seen)


#: Holds the large arguments of the call with this index; what the call is replaced by.
Hold = Callable[[int, Packed], InArguments]


def pack_calls(
    definition: bytes | None, calls: list[Any], name: Name | None, hold: Hold, column: bool = False
) -> Payload:
    """The payload for these calls. One that cannot be pickled is replaced by one that says so.

    Only calls whose arguments nobody can change are pickled together, which costs a twentieth: others would share what
    was one object here, and a task that sorts a list would sort it for the next.
    """
    if column:
        if ATOMS.issuperset(map(type, calls)):
            return definition, pickle.dumps((calls,), protocol=5), name
        calls = [(argument,) for argument in calls]
    simple = calls
    if not _all_plain(simple):
        simple = [_with_values(call) if type(call) is tuple else call for call in calls]
        if not _all_plain(simple):
            simple = [
                call if type(call) is tuple and _plain(call) else _packed(calls[index], index, hold)
                for index, call in enumerate(simple)
            ]
    return definition, pickle.dumps(simple, protocol=5), name


def _with_values(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with what the futures among them are now; one without a value is the call before, in a chain."""
    return tuple([value.value_or(PREVIOUS) if type(value) is Future else value for value in call])


def _all_plain(calls: list[Any]) -> bool:
    return set(map(type, calls)) == {tuple} and _plain(itertools.chain.from_iterable(calls))


def _plain(args: Iterable[Any]) -> bool:
    return _PLAIN.issuperset(map(type, args))


def _packed(call: Any, index: int, hold: Hold) -> bytes:
    """One call in the form that is opened when its turn has come."""
    if type(call) is bytes:
        return call
    packed = pack_one(*((call, {}) if type(call) is tuple else (call.args, call.kwargs)))
    return pickle.dumps(hold(index, packed)) if isinstance(packed, Packed) else packed


def pack_one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | Packed:
    """One call's arguments, as they are to be sent or held."""
    with as_arguments(lambda: needs(args, kwargs)):
        with contextlib.suppress(BaseException):
            packed = pack((args, kwargs))
            if _MAIN not in (packed.data if isinstance(packed, Packed) else packed):
                return packed
        try:
            return pack((args, kwargs), cloudpickle.dumps)
        except BaseException as exception:  # what is pickled may do anything, such as exit
            return pickle.dumps(_Broken(TypeError(f"the arguments cannot be sent: {exception}")))


class _Broken:
    """Stands for a call's arguments, and raises when they are unpickled."""

    def __init__(self, exception: BaseException) -> None:
        self._exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self._exception,)


def _raise(exception: BaseException) -> None:
    raise exception


#: In the place of a call that was cancelled before it started.
CANCELLED_CALL = pickle.dumps(_Broken(Cancelled("it was cancelled")))


def unpack_values(data: bytes | list[bytes] | None) -> list[Any] | TaskError:
    """The results of a run of calls; an error for all of them if they could be pickled, and cannot be unpickled."""
    try:
        if isinstance(data, list):
            return [value for part in data for value in pickle.loads(part)]
        values: list[Any] = pickle.loads(data or b"")
        return values
    except BaseException as exception:
        error = describe(exception)
        error.message = f"the result cannot be unpickled: {error.message}"
        return error


class Owner(Protocol):
    """Whose the calls of a task are, if they have no futures here: of a `Bulk`, or of a task on a worker (`Relay`)."""

    #: Whether large results may stay with the worker that makes them.
    may_be_held: bool
    #: Whether each call has one argument, which stands for the call.
    column: bool

    def begin(self, command: StartTask) -> list[Any]:
        """The calls as they are to be sent."""
        ...

    def deliver(self, report: ReportOutcome) -> None:
        """How an attempt ended, or some of its calls."""
        ...


def values_of(report: ReportOutcome) -> list[Any] | TaskError | None:
    """What a report says of its calls: the list of their values, or why none has one; None if they are tried again."""
    if report.state is TaskState.READY:
        return None
    if report.state is not TaskState.DONE:
        return error_of(report)
    values = unpack_values(report.value)
    if isinstance(values, TaskError):
        values.task = report.task.kind.name
    return values


def error_of(report: ReportOutcome) -> TaskError:
    """Why calls that will not be tried again have no results."""
    return report.error or TaskError("interrupted", "the job ended before it")


def failure_of(future: Future) -> TaskError:
    """Why a future that failed, or was cancelled, has no result."""
    error = future.error() or Cancelled("it was cancelled")
    return error if isinstance(error, TaskError) else describe(error)


def because_of(culprit: Future) -> TaskError:
    """Why a call fails that needs the result of a future that failed."""
    return failure_of(culprit).of_dependent()
