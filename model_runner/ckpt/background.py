"""One thread that writes the checkpoint while training goes on; at most one save is in flight in a process.

Whoever ends a RUN calls `wait`: a thread that lives on would write into the directory of a RUN that is over.
"""

import os
import threading
from collections.abc import Callable

_thread: threading.Thread | None = None
_error: BaseException | None = None


def start(job: Callable[[], object]) -> None:
    """Run `job` in the background, as soon as the one before it has ended; raises what that one raised."""
    global _thread
    wait()
    # Not a daemon: a process that exits in the ordinary way finishes what it writes.
    _thread = threading.Thread(target=_run, args=(job,), name="checkpoint")
    _thread.start()


def wait() -> None:
    """Return when no save is in flight; raises what the last one raised, once."""
    global _thread, _error
    if _thread is not None:
        _thread.join()
        _thread = None
    error, _error = _error, None
    if error is not None:
        raise error


def _run(job: Callable[[], object]) -> None:
    global _error
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # of this thread alone
    try:
        job()
    except BaseException as error:
        _error = error
