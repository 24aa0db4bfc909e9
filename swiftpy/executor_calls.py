"""The calls of an executor, on the workers."""

from __future__ import annotations

import functools
import pickle
import uuid
from collections.abc import Callable
from typing import Any


class InitializerError(Exception):
    """The initializer raised; the message says what."""


class Initializer:
    """Called in a worker process, it calls the function once, and raises the same error each time if that failed."""

    _done: dict[str, InitializerError | None] = {}  # noqa: RUF012  (this is the process' own)

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self._args = function, args
        self._key = uuid.uuid4().hex

    def __call__(self) -> None:
        """Raises InitializerError."""
        if self._key not in self._done:
            self._done[self._key] = None
            try:
                self._function(*self._args)
            except BaseException as exception:
                problem = f"{type(exception).__name__}: {exception}"
                error = InitializerError(f"the initializer of the executor failed: {problem}")
                self._done[self._key] = error
                raise error from exception
        failure = self._done[self._key]
        if failure is not None:
            raise failure


class Initialized:
    """The function, which is called when the initializer has been."""

    def __init__(self, initializer: Initializer, function: Callable[..., Any]) -> None:
        self._initializer, self._function = initializer, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        self._initializer()
        return self._function(*args, **kwargs)


class ByValue:
    """A function that workers cannot import, pickled once for many calls."""

    def __init__(self, definition: bytes) -> None:
        self.definition = definition

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return call_by_value(self.definition, *args, **kwargs)


_function = functools.lru_cache(maxsize=64)(pickle.loads)


def call_by_value(definition: bytes, /, *args: Any, **kwargs: Any) -> Any:
    """Call the function that was pickled."""
    return _function(definition)(*args, **kwargs)


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call what can be pickled, and is no function that can be found."""
    return function(*args, **kwargs)


def call_each(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """A chunk of `map`."""
    return [function(*args) for args in calls]
