"""How a function gets to the workers: by its name if they can import it, else by value, once for each worker."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle


@dataclass(frozen=True, slots=True)
class Function:
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
        name = getattr(function, "__qualname__", "")
        if is_found(function) and function.__module__ != "__main__":
            return Function(f"{function.__module__}:{name}", None)
        import hashlib  # it loads a library for cryptography, and most workers submit nothing

        definition = cloudpickle.dumps(function)
        digest = hashlib.blake2b(definition, digest_size=6).hexdigest()
        return Function(f"{name or type(function).__name__}#{digest}", definition)


def is_found(function: Callable[..., Any]) -> bool:
    """Whether a module has the function under the name that it gives itself: then there is only one of that name."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    if not isinstance(found, types.ModuleType):
        return False
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is function
