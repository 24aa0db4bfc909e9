"""`@resource`: what every process loads once and all its tasks use, such as a model or a table."""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_loaded: dict[str, Any] = {}
_lock = threading.RLock()


class Resource(Generic[T]):
    """A function without arguments that is called at most once in each process; called again, it gives the same."""

    def __init__(self, function: Callable[[], T], key: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._key = key or uuid.uuid4().hex

    def __call__(self) -> T:
        """What the function returned in this process. If it raises, the next call tries again."""
        if self._key not in _loaded:
            with _lock:
                if self._key not in _loaded:
                    _loaded[self._key] = self._function()
        return _loaded[self._key]  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        # Functions that use it carry it along by value, each in a copy of its own: the key is what they share.
        return Resource, (self._function, self._key)


def resource(function: Callable[[], T]) -> Resource[T]:
    """Make a function a resource: `@resource`. Tasks call it to get what it loads, once in each worker process."""
    return Resource(function)
