"""Processes that a model forks, and lets come back out of its `run`."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def forks_end() -> Iterator[None]:
    """Around the code of a user: a process that it has forked ends where it comes out, as a program does at its end.

    What follows is for the RUN itself to do, once: after the `sys.exit(0)` of a fork, result.txt of a RUN that went
    well said RUN_EXCEPTION, and `clean_up()` had removed the data with which it went on.
    """
    process = os.getpid()
    try:
        yield
    except BaseException as exception:
        if os.getpid() == process:
            raise
        _leave(_exit_code(exception))
    if os.getpid() != process:
        _leave(0)


def _exit_code(exception: BaseException) -> int:
    if isinstance(exception, SystemExit) and isinstance(exception.code, int | None):
        return exception.code or 0
    traceback.print_exception(exception)
    return 1


def _leave(code: int) -> NoReturn:
    """Without what the interpreter does at its end: that is of the process that was forked."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the model may have closed it
            stream.flush()
    os._exit(code)
