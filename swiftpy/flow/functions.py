"""How a function gets to the workers: by its name if they can import it, else by value, once for each worker."""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle


class Function(NamedTuple):
    """What a function is called on the wire; and its pickle, None if workers can import it."""

    name: str
    definition: bytes | None


class Functions:
    """The functions that were submitted.

    Functions of the script itself, nested ones and lambdas go by value, with what they refer to as it is when they are
    first submitted; a worker unpickles them once.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, Function] = weakref.WeakKeyDictionary()

    def find(self, function: Callable[..., Any]) -> Function:
        """The function as it is sent. Raises whatever pickling it raises."""
        try:
            found = self._known.get(function)
        except TypeError:  # it can be neither hashed nor weakly referred to: pickled each time
            return self._describe(function)
        if found is None:
            found = self._known[function] = self._describe(function)
        return found

    def _describe(self, function: Callable[..., Any]) -> Function:
        if is_found(function) and function.__module__ != "__main__":
            return Function(f"{function.__module__}:{function.__qualname__}", None)
        import hashlib  # it loads a library for cryptography, and most workers submit nothing

        definition = cloudpickle.dumps(function)
        digest = hashlib.blake2b(definition, digest_size=6).hexdigest()
        return Function(f"{name_of(function)}#{digest}", definition)


def name_of(function: Callable[..., Any]) -> str:
    """What people call it."""
    return getattr(function, "__qualname__", "") or type(function).__name__


def is_found(function: Callable[..., Any]) -> bool:
    """Whether a module has the function under the name that it gives itself: then there is only one of that name."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    if not isinstance(found, types.ModuleType):
        return False
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is function


# -- what cloudpickle cannot send by value -------------------------------------------------------------------------


def _reduce_cached(function: Any) -> Any:
    """Of `functools.cache` and the like: a function of the script goes by value, and each worker has its own cache."""
    if is_found(function) and function.__module__ != "__main__":
        return function.__qualname__
    return _cached, (function.__wrapped__, function.cache_parameters())


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(value: functools.cached_property[Any]) -> Any:
    """Until Python 3.11 it has a lock."""
    return functools.cached_property, (value.func,), {"attrname": value.attrname}


cloudpickle.CloudPickler.dispatch_table.update(
    {functools._lru_cache_wrapper: _reduce_cached, functools.cached_property: _reduce_cached_property}
)
