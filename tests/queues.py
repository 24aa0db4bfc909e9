"""A transport without MPI: ranks that are threads of one process."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any

from swiftpy.runtime.transport import Transport


class QueueTransport(Transport):
    """See there. Nobody needs to be woken."""

    def __init__(self, rank: int, queues: list[queue.SimpleQueue[Any]]) -> None:
        self.rank = rank
        self._queues = queues

    @classmethod
    def group(cls, size: int) -> list[QueueTransport]:
        """The transports of `size` ranks that can reach each other."""
        queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(size)]
        return [cls(rank, queues) for rank in range(size)]

    def send(self, dest: int, message: Any) -> None:
        self._queues[dest].put(message)

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """Here nothing but a message ends the wait before its time."""
        timeout = min(timeout, 0.01) if also else timeout
        try:
            return self._queues[self.rank].get(timeout=timeout) if timeout else self._queues[self.rank].get(False)
        except queue.Empty:
            return None

    def abort(self, code: int) -> None:
        raise SystemExit(code)
