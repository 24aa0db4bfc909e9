"""`@task`: a function whose calls run on workers."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from swiftpy.core.task import ANYWHERE, Kind, Target
from swiftpy.flow import program
from swiftpy.flow.calls import needs
from swiftpy.flow.functions import Function, name_of
from swiftpy.flow.future import Promise, results

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    from swiftpy.flow.engine import Engine
    from swiftpy.flow.nested import NestedEngine

    class Options(TypedDict, total=False):
        """The options of a task, see `task`."""

        priority: float
        rank: int | None
        node: str | None
        kind: str | None
        soft: bool
        retries: int
        timeout: float | None
        isolated: bool | None
        label: str


P = ParamSpec("P")
Q = ParamSpec("Q")
Self = TypeVar("Self")
R = TypeVar("R")

_RETURN_NO_RESULT = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)


class TaskFunction(Generic[P, R]):
    """What `@task` makes of a function: calling it returns a future; `.options(...)` gives a variant; `.function` is
    the function itself."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        if not callable(function):
            raise TypeError(f"a task is made of a function, not of {function!r}")
        if any(check(function) for check in _RETURN_NO_RESULT):
            raise TypeError(f"a task returns its result: {name_of(function)} is a generator or coroutine function")
        functools.update_wrapper(self, function, updated=())  # an object's attributes are no business of ours
        self.function = function
        self._options = options
        task_kind("", **options)  # what is wrong with them is said where they are written
        self._description: tuple[Kind, Function] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        """Submit a call."""
        engine = program.engine()
        kind, function = self._description or self.described(engine)
        return engine.submit(kind, function, args, kwargs)  # type: ignore[return-value]  # see Promise

    @overload
    def __get__(self, instance: None, owner: type) -> TaskFunction[P, R]: ...
    @overload
    def __get__(
        self: TaskFunction[Concatenate[Self, Q], R], instance: Self, owner: type | None = None
    ) -> TaskFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """In a class, what its function would be: a method, whose `self` is an argument as others are."""
        if instance is None or not isinstance(self.function, types.FunctionType):
            return self
        return BoundTask(self, instance)  # type: ignore[arg-type]  # its function has a first parameter

    def described(self, engine: Engine | NestedEngine) -> tuple[Kind, Function]:
        """What is submitted to an engine for a call of this."""
        if self._description is None:
            function = engine.functions.find(self.function)
            self._description = task_kind(function.name, **self._options), function
        return self._description

    def submit_all(self, calls: list[Any], column: bool = False) -> Iterable[Any]:
        """See `map`, and `Engine.submit_all` for a `column`."""
        if needs((calls,), {}):
            return self._submit_each(calls, column)
        engine = program.engine()
        kind, function = self.described(engine)
        if column and kind.ranks > 1:  # each call gets a communicator, too
            calls, column = [(argument,) for argument in calls], False
        return engine.submit_all(kind, function, calls, column)

    def _submit_each(self, calls: list[Any], column: bool) -> Iterable[Any]:
        return results([self(call) if column else self(*call) for call in calls])  # type: ignore[call-arg]

    @overload
    def options(self, **options: Unpack[Options]) -> TaskFunction[P, R]: ...
    @overload
    def options(self, *, ranks: int, **options: Unpack[Options]) -> TaskFunction[..., R]: ...
    def options(self, **options: Any) -> TaskFunction[..., R]:
        """The same function with other options, see `task`."""
        return self._variant({**self._options, **options})

    def _variant(self, options: dict[str, Any]) -> TaskFunction[P, R]:
        return TaskFunction(self.function, options)

    def __reduce__(self) -> Any:
        return TaskFunction, (self.function, self._options)


class BoundTask(TaskFunction[P, R]):
    """A task as a method of an object, which is the first argument of its calls."""

    def __init__(self, task: TaskFunction[Concatenate[Any, P], R], instance: Any) -> None:
        self.__func__, self.__self__ = task, instance
        self.function = self.__wrapped__ = types.MethodType(task.function, instance)
        self.__doc__, self.__module__ = task.__doc__, task.__module__  # which this class has, too

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)  # its name and the like: to copy them each time costs more

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        """Submit a call."""
        return self.__func__(self.__self__, *args, **kwargs)

    def submit_all(self, calls: list[Any], column: bool = False) -> Iterable[Any]:
        """See TaskFunction."""
        return self.__func__.submit_all([(self.__self__, *((call,) if column else call)) for call in calls])

    def _variant(self, options: dict[str, Any]) -> TaskFunction[P, R]:
        return BoundTask(self.__func__._variant(options), self.__self__)

    def __eq__(self, other: object) -> bool:
        """As bound methods of plain functions: each access to the method makes another."""
        return type(other) is BoundTask and self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> Any:
        if getattr(self.__self__, self.__func__.function.__name__, None) == self:
            return getattr, (self.__self__, self.__func__.function.__name__)
        return BoundTask, (self.__func__, self.__self__)


@overload
def task(function: Callable[P, R]) -> TaskFunction[P, R]: ...
@overload
def task(**options: Unpack[Options]) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
@overload
def task(
    *, ranks: int, **options: Unpack[Options]
) -> Callable[[Callable[Concatenate[Any, P], R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a task: `@task`, or `@task(priority=1, ...)`. Calls return futures, and run on workers.

    Higher `priority` first. `rank`, `node` or `kind` say where it must run, or, with `soft`, where it should. `ranks`:
    a parallel task, which gets a communicator of so many ranks as its first argument. `retries`: try so many times
    more. `timeout`: seconds; tasks with one are `isolated`: they run in a process of their own beside the worker,
    which may crash or be killed without harm to others; parallel tasks cannot. `label` is shown to people in the place
    of the name, also by the worker when a call begins and when it ends.
    """
    if function is None:
        return lambda function: TaskFunction(function, options)
    return TaskFunction(function, options)


@overload
def map(function: TaskFunction[..., R], *iterables: Iterable[Any]) -> Iterator[R]: ...
@overload
def map(function: Callable[..., R], *iterables: Iterable[Any]) -> Iterator[R]: ...
def map(function: Callable[..., Any], *iterables: Iterable[Any]) -> Iterator[Any]:
    """The results of `function` for the elements of the iterables, in order, like the built-in `map`.

    The calls are submitted at once, and how many of them travel together is found by measuring. A call that failed
    raises its TaskError when its turn comes. `function` may be a plain function or a task with options.
    """
    call = function if isinstance(function, TaskFunction) else TaskFunction(function, {})
    column = len(iterables) == 1
    calls = list(iterables[0] if column else zip(*iterables, strict=False))
    return iter(call.submit_all(calls, column))


def task_kind(
    function: str,
    priority: float = 0,
    rank: int | None = None,
    node: str | None = None,
    kind: str | None = None,
    soft: bool = False,
    ranks: int = 1,
    retries: int = 0,
    timeout: float | None = None,
    isolated: bool | None = None,
    label: str = "",
    **unknown: object,
) -> Kind:
    """The kind of a task with these options, see `task`. Raises TypeError for one that there is not, ValueError for
    wrong ones, alone or together."""
    if unknown:
        _, *known, _ = inspect.signature(task_kind).parameters
        raise TypeError(f"a task has no option {', '.join(unknown)}: it has {', '.join(known)}")
    for name, number, least in (("rank", 1 if rank is None else rank, 1), ("ranks", ranks, 1), ("retries", retries, 0)):
        if not isinstance(number, Integral) or number < least:
            raise ValueError(f"{name} is a whole number from {least} on, not {number!r}")
    if timeout is not None and not (isinstance(timeout, Real) and timeout > 0):
        raise ValueError(f"timeout is a number of seconds above 0, or None, not {timeout!r}")
    if not isinstance(priority, Real):
        raise ValueError(f"priority is a number, not {priority!r}")
    for name, text in (("node", node or ""), ("kind", kind or ""), ("label", label)):
        if not isinstance(text, str):
            raise ValueError(f"{name} is a name, not {text!r}")
    if timeout is not None and isolated is False:
        raise ValueError("a task with a timeout runs in a process of its own, which can be killed: it is isolated")
    if ranks > 1 and (isolated or timeout is not None):
        raise ValueError("a parallel task runs in the ranks themselves: it can neither be isolated nor have a timeout")
    target = Target(rank, node, kind, soft) if (rank, node, kind) != (None, None, None) else ANYWHERE
    if isolated is None:
        isolated = timeout is not None
    return Kind(function, label, priority, 0, target, timeout, retries, isolated, ranks)
