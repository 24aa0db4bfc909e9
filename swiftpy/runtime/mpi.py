"""The only module that imports MPI.

Importing it initializes MPI, so whatever must exist before that (see `spawner`) is made first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from types import TracebackType
from typing import Any

import mpi4py

mpi4py.rc(thread_level="serialized")

from mpi4py import MPI  # noqa: E402  (the options above only count before this import)

from swiftpy.runtime.transport import Backoff  # noqa: E402

_TAG = 7


class MpiTransport:
    """Messages as pickles over MPI, received by polling with pauses (see Backoff for why)."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.rank = comm.rank
        self._comm = comm
        self._backoff = Backoff()

    def send(self, dest: int, message: Any) -> None:
        """See Transport."""
        self._comm.send(message, dest, _TAG)

    def recv(self, timeout: float) -> Any | None:
        """See Transport."""
        message = self._comm.improbe(MPI.ANY_SOURCE, _TAG)
        if message is None and timeout > 0:
            deadline = time.monotonic() + timeout
            self._backoff.reset()
            while message is None and time.monotonic() < deadline:
                self._backoff.wait()
                message = self._comm.improbe(MPI.ANY_SOURCE, _TAG)
        return None if message is None else message.recv()

    def abort(self, code: int) -> None:
        """See Transport."""
        sys.stderr.flush()
        self._comm.Abort(code)


def _affinity() -> frozenset[int]:
    """The cores that this process may run on."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def _share(ranks: list[tuple[int, frozenset[int]]], mine: frozenset[int]) -> int:
    """How many of the cores `mine` are one worker's: some launchers bind each rank to its own, others none.

    `ranks`: rank and cores of all ranks of a node. The server, rank 0, leaves its core to the workers.
    """
    workers = sum(1 for rank, cores in ranks if rank and cores & mine)
    return max(1, len(mine) // max(workers, 1))


class World:
    """All ranks of the job: rank 0 is the server, the others are workers; one rank of each node is its leader."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size
        self.host: str = MPI.Get_processor_name()
        node_comm = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank: int = node_comm.rank
        self.leader: int = node_comm.bcast(self.rank)  # the node's lowest rank
        self.node: str = f"{node_comm.bcast(self.host)}"
        self.cores: int = _share(node_comm.allgather((self.rank, _affinity())), _affinity())
        #: The leaders' communicator on a leader, None elsewhere.
        self.leaders: MPI.Comm | None = None
        leaders = self._comm.Split(int(self.local_rank != 0))
        if self.local_rank == 0:
            self.leaders = leaders
        self.transport = MpiTransport(self._comm.Dup())

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank. Ranks that wait for rank 0 sleep."""
        self._meet()
        return self._comm.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank, in order of rank. Ranks that wait for others sleep."""
        self._meet()
        return self._comm.allgather(value)

    def _meet(self) -> None:
        """A barrier whose waiting ranks sleep: a blocking collective spins while rank 0 checks a UPF for 10 s."""
        request, backoff = self._comm.Ibarrier(), Backoff()
        while not request.Test():
            backoff.wait()


def end_job_on_uncaught() -> None:
    """An exception that nothing caught ends the whole job; without this the other ranks wait for ever.

    It is told where the job was started, too: by then, stderr is this rank's file.
    """
    terminal = os.fdopen(os.dup(2), "w", buffering=1)

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, value, trace))
        for stream in (terminal, sys.stderr):
            with contextlib.suppress(OSError):  # nothing may come between here and the Abort
                print(f"swiftpy: rank {MPI.COMM_WORLD.rank}: a bug in the engine\n{text}", file=stream, flush=True)
        MPI.COMM_WORLD.Abort(1)

    sys.excepthook = hook
