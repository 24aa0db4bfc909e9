"""SIGINT and SIGTERM as a request to end early, noticed by the loops and never raised in the middle of them."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

_installed: StopRequest | None = None
#: Schedulers and launchers deliver one request twice, to the rank itself and through mpiexec: only a signal that comes
#: so many seconds after the first counts as another.
_APART = 1.0
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def requested() -> str | None:
    """The signal that has asked this process to end early, for what has no StopRequest at hand."""
    return _installed.reason if _installed else None


@contextlib.contextmanager
def limited(grace: float, end: Callable[[], None], told: bool = False) -> Iterator[None]:
    """Call `end`, in a thread, if what is done here goes on `grace` seconds after a signal, or another one comes.

    If it was `told` to end before, now counts as the signal.

    For users' code, which no loop of ours interrupts. While it waits inside MPI, Python calls no handlers of signals,
    but writes their numbers to this descriptor all the same.
    """
    heard, rung = socket.socketpair()
    rung.setblocking(False)
    before = signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
    watching = threading.Thread(target=_watch, args=(heard, grace, end, told), name="signals", daemon=True)
    watching.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        rung.close()
        watching.join()


def _watch(heard: socket.socket, grace: float, end: Callable[[], None], told: bool) -> None:
    """Until the other side is closed."""
    first = time.monotonic() if told else None
    with heard:
        while True:
            heard.settimeout(None if first is None else max(first + grace - time.monotonic(), 0.001))
            try:
                numbers = heard.recv(64)
            except TimeoutError:
                return end()
            if not numbers:
                return None
            now = time.monotonic()
            if not set(_NUMBERS).intersection(numbers):
                continue
            if first is not None and now - first >= _APART:
                return end()
            first = first or now


def in_forks(handlers: Mapping[int, Any], *ours: Callable[..., Any]) -> None:
    """What a task or the script forks from this process has these handlers of signals, in the place of `ours`, which
    only note a signal for loops that are not there: `multiprocessing`'s `terminate()` would do nothing.

    Until it has them, the signals wait: `terminate()` may come before the first instruction.
    """
    before = threading.local()

    def block() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def take_over() -> None:
        for number, handler in handlers.items():
            if signal.getsignal(number) in ours:  # and not the program's own
                signal.signal(number, handler)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=take_over)


class StopRequest:
    """`reason` is None until a signal came; `insisted` tells whether another followed."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.insisted = False
        self._first = 0.0

    def install(self) -> None:
        """Handle SIGINT and SIGTERM in this process from now on."""
        global _installed  # as the handlers themselves are: there is one of each in a process
        _installed = self
        for number in _NUMBERS:
            signal.signal(number, self._handle)
        in_forks({signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}, self._handle)
        # CPython notes that a KeyboardInterrupt left an `exec` of a string, and though the script's or a task's was
        # caught, ends the process by SIGINT after all, in the middle of others' MPI_Finalize. The next exec forgets it.
        atexit.register(exec, "", {})

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.reason is None:
            self.reason, self._first = signal.Signals(number).name, now
        elif now - self._first >= _APART:
            self.insisted = True
