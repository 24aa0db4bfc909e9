"""Calling a function by its name: the one place where payloads are unpickled and exceptions become values."""

from __future__ import annotations

import importlib
import pickle
import traceback
from collections.abc import Callable
from typing import Any


def resolve(function: str) -> Callable[..., Any]:
    """The callable that `package.module:name` names. Raises ImportError or AttributeError, saying what is missing."""
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{function} is not callable")
    return found  # type: ignore[no-any-return]  # any callable will do


def pack(*args: Any, **kwargs: Any) -> bytes:
    """Arguments as a payload."""
    return pickle.dumps((args, kwargs), protocol=5)


def call(function: str, payload: bytes) -> tuple[bool, bytes]:
    """Call a function by name: (True, its pickled result) or (False, pickled (message, traceback)).

    SystemExit and KeyboardInterrupt are failures of the task like any other: a task cannot end its worker.
    """
    try:
        args, kwargs = pickle.loads(payload)
        return True, pickle.dumps(resolve(function)(*args, **kwargs), protocol=5)
    except BaseException as exception:
        if isinstance(exception, SystemExit):
            message = f"it called exit({exception.code!r})"
        else:
            message = "".join(traceback.format_exception_only(exception)).strip().replace("\n", " ")
        return False, pickle.dumps((message, _remote_part(exception)), protocol=5)


def _remote_part(exception: BaseException) -> str:
    """The traceback as text, less the frame of `call` itself."""
    trace = exception.__traceback__
    return "".join(traceback.format_exception(type(exception), exception, trace and trace.tb_next))
