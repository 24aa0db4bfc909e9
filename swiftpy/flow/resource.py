"""`@resource`: what every process loads once and all its tasks use, such as a model or a table."""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from swiftpy.flow import program
from swiftpy.flow.nested import NestedEngine

T = TypeVar("T")

_loaded: dict[str, Any] = {}
_lock = threading.RLock()
_loader = 0  # the thread that has it
#: Seconds between two looks whether the loader waits for tasks.
_LOOK = 0.05


class Resource(Generic[T]):
    """A function without arguments that is called at most once in each process; called again, it gives the same."""

    def __init__(self, function: Callable[[], T], key: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._key = key or uuid.uuid4().hex

    def __call__(self) -> T:
        """What the function returned in this process. If it raises, the next call tries again."""
        if self._key not in _loaded:
            with _turn():
                if self._key not in _loaded:
                    _loaded[self._key] = self._function()
        return _loaded[self._key]  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        # Functions that use it carry it along by value, each in a copy of its own: the key is what they share.
        return Resource, (self._function, self._key)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One thread loads at a time. It may wait for tasks, during which its worker runs another, which needs the same: to
    wait for the lock would be to keep the worker from ever going on with the first."""
    global _loader
    while not _lock.acquire(timeout=_LOOK):
        if isinstance(engine := program.current(), NestedEngine):
            engine.make_way(_loader)
    before, _loader = _loader, threading.get_ident()
    try:
        yield
    finally:
        _loader = before
        _lock.release()


def resource(function: Callable[[], T]) -> Resource[T]:
    """Make a function a resource: `@resource`. Tasks call it to get what it loads, once in each worker process."""
    return Resource(function)
