"""The calls of an executor, on the workers."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

import cloudpickle

from swiftpy.runtime.call import ATOMS


class InitializerError(Exception):
    """The initializer raised; the message says what."""


#: Globals that an initializer has made, by its key and the module that they are of. A function that came by value has
#: globals of its own, and so has the initializer: what one of them binds, another would not see.
_made: dict[tuple[str, Any], dict[str, Any]] = {}
#: What nobody changes without binding its name anew.
_FIXED = ATOMS | {types.FunctionType, types.ModuleType, type}


class Initializer:
    """Called in a worker process, it calls the function once, and raises the same error each time if that failed."""

    _done: dict[str, InitializerError | None] = {}  # noqa: RUF012  (this is the process' own)

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self._args = function, args
        self.key = uuid.uuid4().hex

    @functools.cached_property
    def _definition(self) -> bytes:
        """Pickled by itself, its globals are those that it refers to, and not those of a function that it came with."""
        return cloudpickle.dumps((self._function, self._args))  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key, "_definition": self._definition}

    def __call__(self) -> None:
        """Raises InitializerError."""
        if self.key not in self._done:
            self._done[self.key] = None
            try:
                self._initialize()
            except BaseException as exception:
                problem = f"{type(exception).__name__}: {exception}"
                error = InitializerError(f"the initializer of the executor failed: {problem}")
                self._done[self.key] = error
                raise error from exception
        failure = self._done[self.key]
        if failure is not None:
            raise failure

    def _initialize(self) -> None:
        function, args = pickle.loads(self._definition)
        names = _globals_of(function)
        before = dict(names)
        function(*args)
        _made[self.key, names.get("__name__")] = {
            name: value
            for name, value in names.items()
            if type(value) not in _FIXED or name not in before or value is not before[name]
        }


class Initialized:
    """The function, which is called when the initializer has been."""

    def __init__(self, initializer: Initializer, function: Callable[..., Any]) -> None:
        self._initializer, self._function = initializer, function
        self._shown = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        self._initializer()
        if not self._shown:
            show(self._function, self._initializer.key)
            self._shown = True
        return self._function(*args, **kwargs)


def show(function: Callable[..., Any], key: str | None) -> None:
    """Let a function that came by value see what the initializer with this key has made."""
    names = _globals_of(function)
    module = sys.modules.get(names.get("__name__", ""))
    if key is not None and (module is None or vars(module) is not names):
        names.update(_made.get((key, names.get("__name__")), {}))


def _globals_of(function: Any) -> dict[str, Any]:
    """Those of a function, of the one in a method or a partial, or of what calling an object calls."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not isinstance(function, types.FunctionType | types.MethodType):
        function = type(function).__call__
    names: dict[str, Any] = getattr(function, "__globals__", {})
    return names


class ByValue:
    """A function that workers cannot import, pickled once for many calls; `key` is that of the initializer, if any."""

    def __init__(self, definition: bytes, key: str | None) -> None:
        self.definition, self.key = definition, key

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return call_by_value(self.definition, self.key, *args, **kwargs)


@functools.lru_cache(maxsize=64)
def _function(definition: bytes, key: str | None) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(definition)
    show(function, key)
    return function


def call_by_value(definition: bytes, key: str | None, /, *args: Any, **kwargs: Any) -> Any:
    """Call the function that was pickled."""
    return _function(definition, key)(*args, **kwargs)


def call(function: Callable[..., Any], key: str | None, /, *args: Any, **kwargs: Any) -> Any:
    """Call what can be pickled, and is no function that can be found."""
    show(function, key)
    return function(*args, **kwargs)


def call_each(function: Callable[..., Any], key: str | None, calls: list[tuple[Any, ...]]) -> list[Any]:
    """A chunk of `map`."""
    show(function, key)
    return [function(*args) for args in calls]
