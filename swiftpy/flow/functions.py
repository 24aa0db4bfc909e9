"""How a function gets to the workers: by its name if they can import it, else by value, once for each worker."""

from __future__ import annotations

import hashlib
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
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        if module not in (None, "__main__") and _lookup(module, name) is function:
            return Function(f"{module}:{name}", None)
        definition = cloudpickle.dumps(function)
        digest = hashlib.blake2b(definition, digest_size=6).hexdigest()
        return Function(f"{name or type(function).__name__}#{digest}", definition)


def _lookup(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    if not isinstance(found, types.ModuleType):
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
