"""Exceptions of tasks: those that the engine raises in them, and any of them as data."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import Any

import cloudpickle

from swiftpy.errors import TaskError

_HALF_A_MESSAGE = 500


class Ended(BaseException):
    """Raised in a task by the engine, past any `except Exception` of the task. `kind` is that of its TaskError."""

    kind: str


class TimeLimitExceeded(Ended):
    """The task's time is up."""

    kind = "timeout"


class Killed(Ended):
    """The task waits for others, and the job ends without them."""

    kind = "interrupted"


class Cancelled(Ended):
    """The program cancelled the call before it began."""

    kind = "cancelled"


def describe(exception: BaseException) -> TaskError:
    """An exception of a task as data."""
    try:
        return _described(exception)
    except BaseException as problem:  # its class' code, or that of an exit code, may do anything when it is asked
        message = f"{type(exception).__name__}, of which nothing can be said, because of {type(problem).__name__}"
        return TaskError("exception", message, "".join(traceback.format_tb(exception.__traceback__)[1:]))


def _described(exception: BaseException) -> TaskError:
    if isinstance(exception, SystemExit):
        message = _short(f"it called exit({exception.code!r})")
    elif isinstance(exception, Ended):
        message = str(exception)
    elif isinstance(exception, TaskError):  # of a task that this one had submitted: a recursion passes it up, cut once
        message = exception.message if exception.kind == "exception" else exception.summary()
    else:
        message = _short("".join(traceback.format_exception_only(exception)).strip().replace("\n", " "))
    trace = exception.__traceback__  # its first frame is ours
    text = "".join(traceback.format_exception(type(exception), exception, trace and trace.tb_next))
    kind = exception.kind if isinstance(exception, Ended) else "exception"
    return TaskError(kind, message, text, exception=_pickled(exception))


def _short(message: str) -> str:
    """The beginning and the end, for a line of a table: pandas names all the columns that it misses, and TensorFlow
    begins with pages of its graph. The traceback has the whole."""
    cut = len(message) - 2 * _HALF_A_MESSAGE
    if cut <= 0:
        return message
    return f"{message[:_HALF_A_MESSAGE]} [... {cut} characters ...] {message[-_HALF_A_MESSAGE:]}"


def _pickled(exception: BaseException) -> bytes:
    """The exception itself if it comes back as what it was, else b""; some cannot, which is no reason to fail."""
    for form in (exception, _Parts(exception)):
        for dumps in (pickle.dumps, cloudpickle.dumps):  # the latter for classes that came by value: the script's own
            with contextlib.suppress(BaseException):  # its class' code may do anything, such as exit
                data: bytes = dumps(form, protocol=5)
                if type(pickle.loads(data)) is type(exception):
                    return data
    return b""


class _Parts:
    """In the place of an exception whose class wants other arguments than those that it gave to `Exception.__init__`,
    with which pickle would call it."""

    def __init__(self, exception: BaseException) -> None:
        self._exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        cls = type(self._exception)
        built_in: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        return _put_together, (cls, built_in, *built_in.__reduce__(self._exception)[1:])


def _put_together(
    cls: type[BaseException], built_in: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None = None
) -> BaseException:
    exception = cls.__new__(cls, *args)
    built_in.__init__(exception, *args)  # sets what is not in its __dict__, such as an OSError's errno
    exception.__setstate__(state)
    return exception
