"""`@task`: a function whose calls run on workers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from swiftpy.core.task import ANYWHERE, Kind, Target
from swiftpy.flow import program
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future


class TaskFunction:
    """What `@task` makes of a function: calling it returns a future; `.options(...)` gives a variant; `.function` is
    the function itself."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._options = options
        self._described: Function | None = None
        self._kind: Kind | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Future:
        """Submit a call."""
        engine = program.engine()
        if self._kind is None or self._described is None:
            self._described = engine.functions.find(self.function)
            self._kind = _kind(self._described.name, **self._options)
        return engine.submit(self._kind, self._described, args, kwargs)

    def options(self, **options: Any) -> TaskFunction:
        """The same function with other options, see `task`."""
        return TaskFunction(self.function, {**self._options, **options})

    def __reduce__(self) -> Any:
        return TaskFunction, (self.function, self._options)


@overload
def task(function: Callable[..., Any]) -> TaskFunction: ...
@overload
def task(
    *,
    priority: int = 0,
    rank: int | None = None,
    node: str | None = None,
    kind: str | None = None,
    soft: bool = False,
    ranks: int = 1,
    retries: int = 0,
    timeout: float | None = None,
    isolated: bool | None = None,
    label: str = "",
) -> Callable[[Callable[..., Any]], TaskFunction]: ...
def task(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a task: `@task`, or `@task(priority=1, ...)`. Calls return futures, and run on workers.

    Higher `priority` first. `rank`, `node` or `kind` say where it must run, or, with `soft`, where it should. `ranks`:
    a parallel task, which gets a communicator of so many ranks as its first argument. `retries`: try so many times
    more. `timeout`: seconds; tasks with one are `isolated`: they run in a process of their own beside the worker,
    which may crash or be killed without harm to others. `label` is shown to people in the place of the name.
    """
    if function is None:
        return lambda function: TaskFunction(function, options)
    return TaskFunction(function, options)


def _kind(
    function: str,
    priority: int = 0,
    rank: int | None = None,
    node: str | None = None,
    kind: str | None = None,
    soft: bool = False,
    ranks: int = 1,
    retries: int = 0,
    timeout: float | None = None,
    isolated: bool | None = None,
    label: str = "",
) -> Kind:
    target = Target(rank, node, kind, soft) if (rank, node, kind) != (None, None, None) else ANYWHERE
    if isolated is None:
        isolated = timeout is not None
    return Kind(function, label, priority, 0, target, timeout, retries, isolated, ranks)
