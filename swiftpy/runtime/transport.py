"""How server and workers exchange messages: the interface, and a pause between polls."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

#: The server's rank.
SERVER = 0
#: Seconds that a rank waits at most for a message before it looks at its signals, and the server at the clock.
TICK = 0.2
#: Seconds after which Python makes a thread that computes let another go on, where one of the engine's is beside it.
SWITCH = 0.2e-3


class Transport(Protocol):
    """A rank's way to the others. Messages between two ranks arrive in the order in which they were sent.

    Those that derive from it leave out `wake` and `abort` where nobody needs them.
    """

    rank: int

    def send(self, dest: int, message: Any) -> None:
        """Send a message; returns when `message` may be changed again."""

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """The next message; None if none came within `timeout` seconds (0 looks once).

        None, too, as soon as one of the descriptors `also` is readable, or somebody calls `wake`.
        """

    def wake(self) -> None:
        """End this rank's wait in `recv`; any thread may call it."""
        return

    def abort(self, code: int) -> None:
        """End the whole job at once."""
        return


def share_interpreter() -> None:
    """Let the engine's thread get on while the program, or a task, computes in this process.

    Each call of MPI lets other threads go on, and has to get back in, for which it waits 5 ms by default: 300 tasks of
    10 ms took eight times as long when the program computed instead of waiting (python -m benchmarks.engine --cases
    computing).
    """
    sys.setswitchinterval(min(SWITCH, sys.getswitchinterval()))


class Backoff:
    """Pauses between polls, where nothing can wake who waits: yields for 300 us, then sleeps, longer and longer.

    A waiting rank must not spin, because a TensorFlow worker needs the core; nor may it block inside MPI, where
    MPICH spins. A rank that waits so costs 0.2 % of a core; with a doorbell, and all else that a waiting worker does,
    at most 0.65 % (benchmarks/idle.py).

    A pause takes `share` of the time waited so far, which is by how much too long the wait may be.
    """

    #: Several times what a rank needs for an answer: to be woken takes as long.
    SPIN = 300e-6
    #: The shortest and the longest pause, in seconds.
    SHORTEST, LONGEST = 20e-6, 20e-3

    def __init__(self, share: float) -> None:
        self._share = share
        self._since = time.perf_counter()

    @property
    def _waited(self) -> float:
        return time.perf_counter() - self._since

    def pause(self) -> float:
        """Seconds to sleep now."""
        return min(max(self.SHORTEST, self._share * self._waited), self.LONGEST)

    def wait(self) -> None:
        """Pause once."""
        os.sched_yield() if self._waited < self.SPIN else time.sleep(self.pause())
