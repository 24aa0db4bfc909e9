"""SIGINT and SIGTERM as a request to end early, noticed by the loops and never raised in the middle of them."""

from __future__ import annotations

import atexit
import signal
import time
from types import FrameType

_installed: StopRequest | None = None


def requested() -> str | None:
    """The signal that has asked this process to end early, for what has no StopRequest at hand."""
    return _installed.reason if _installed else None


class StopRequest:
    """`reason` is None until a signal came; `insisted` tells whether another followed.

    Schedulers and launchers deliver one request twice, to the rank itself and through mpiexec, so only a signal that
    comes at least `apart` seconds after the first counts as another.
    """

    def __init__(self, apart: float = 1.0) -> None:
        self.reason: str | None = None
        self.insisted = False
        self._apart = apart
        self._first = 0.0

    def install(self) -> None:
        """Handle SIGINT and SIGTERM in this process from now on."""
        global _installed  # as the handlers themselves are: there is one of each in a process
        _installed = self
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        # CPython notes that a KeyboardInterrupt left an `exec` of a string, and though the script's or a task's was
        # caught, ends the process by SIGINT after all, in the middle of others' MPI_Finalize. The next exec forgets it.
        atexit.register(exec, "", {})

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.reason is None:
            self.reason, self._first = signal.Signals(number).name, now
        elif now - self._first >= self._apart:
            self.insisted = True
