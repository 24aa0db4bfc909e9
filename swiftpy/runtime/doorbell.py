"""Waking a rank of the same node that sleeps, so that waiting costs nothing and answers come at once.

Each rank has a datagram socket that others ring, and a byte in memory that the node's ranks share, which says that it
sleeps: a rank that is awake need not be rung, so a busy one costs its peers nothing.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Mapping, Sequence

#: Descriptors from this one on are too high for `select` (Linux).
_FD_SETSIZE = 1024


class Doorbell:
    """One rank's own bell, and its way to ring others.

    `token` names the job; `flags` is memory shared by the node's ranks with a byte for each; `local` maps their ranks
    to their places in it. The sockets' names are abstract (Linux), so that nothing is left on any disk.
    """

    def __init__(self, token: str, rank: int, flags: memoryview, local: Mapping[int, int]) -> None:
        self._flags = flags
        self._own = local[rank]
        self._addresses = {peer: (place, f"\0swiftpy-{token}-{peer}") for peer, place in local.items()}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._address = self._addresses[rank][1]
        self._socket.bind(self._address)

    def ring(self, rank: int) -> None:
        """Wake a rank, if it sleeps on this node. Called after the message to it was sent."""
        place, address = self._addresses.get(rank, (None, ""))
        if place is not None and self._flags[place]:
            self._flags[place] = 0  # one ring is enough
            with contextlib.suppress(OSError):  # it has ended, or has been rung a hundred times
                self._socket.sendto(b"!", address)

    def ring_own(self) -> None:
        """Wake another thread of this rank, or let its next sleep end at once."""
        with contextlib.suppress(OSError):
            self._socket.sendto(b"!", self._address)

    def lie_down(self) -> None:
        """Say that this rank will sleep. It must look for messages once more before it does: whoever sent one just
        before saw the flag down, and will not ring."""
        self._flags[self._own] = 1

    def sleep(self, seconds: float, also: Sequence[int] = ()) -> bool:
        """Sleep until somebody rings or one of the descriptors `also` is readable (True), or the time is up."""
        readable = _readable([self._socket.fileno(), *also], seconds)
        if self._socket.fileno() in readable:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(64)
        return bool(readable)

    def get_up(self) -> None:
        """This rank is awake."""
        self._flags[self._own] = 0


def _readable(descriptors: Sequence[int], seconds: float) -> list[int]:
    """Those that are readable, as soon as one is; [] when the time is up.

    A task may leave a thousand files open, and MPI over TCP has a connection for each peer: so a child's channel can
    have a number that `select` does not take. `poll` takes any, but no pauses of less than a millisecond.
    """
    if max(descriptors) < _FD_SETSIZE:
        return select.select(descriptors, [], [], seconds)[0]
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(1000 * seconds)]
