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

from swiftpy.runtime.group import Group  # noqa: E402
from swiftpy.runtime.transport import Backoff  # noqa: E402

_TAG = 7
#: Where the job was started, also when this rank's stderr has become a file.
_terminal = os.fdopen(os.dup(2), "w", buffering=1)


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


class World:
    """All ranks of the job: rank 0 is the server, the others are workers; one rank of each node is its leader.

    With `ranks_per_node`, so many ranks that follow each other count as a node, wherever they are: one machine can
    pretend to be several.
    """

    def __init__(self, ranks_per_node: int = 0) -> None:
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size
        self.host: str = MPI.Get_processor_name()
        if ranks_per_node:
            node_comm = self._comm.Split(self.rank // ranks_per_node)
        else:
            node_comm = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank: int = node_comm.rank
        self.leader: int = node_comm.bcast(self.rank)  # the node's lowest rank
        self._node = Group(node_comm, self.host)
        #: The leaders' communicator on a leader, None elsewhere.
        self.leaders: MPI.Comm | None = None
        leaders = self._comm.Split(int(self.local_rank != 0))
        if self.local_rank == 0:
            self.leaders = leaders
        #: The node's number among the nodes, and its name.
        self.node_number: int = node_comm.bcast(leaders.rank)
        self.node: str = f"{self.host} node {self.node_number}" if ranks_per_node else node_comm.bcast(self.host)
        self._group = Group(self._comm, self.node)
        self.transport = MpiTransport(self._comm.Dup())

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank. Ranks that wait for rank 0 sleep."""
        return self._group.broadcast(value)

    def share(self, value: Any) -> Any:
        """The leader's value, on every rank of its node."""
        return self._node.broadcast(value)

    def gather(self, value: Any, patience: float | None = None) -> list[Any]:
        """Every rank's value, on every rank, in order of rank. See Group.gather."""
        return self._group.gather(value, patience)

    def abort(self, reason: str) -> None:
        """End the whole job at once, saying why where it was started."""
        with contextlib.suppress(OSError):
            print(f"swiftpy: {reason}", file=_terminal, flush=True)
        self.transport.abort(2)


def end_job_on_uncaught() -> None:
    """An exception that nothing caught ends the whole job; without this the other ranks wait for ever.

    It is told where the job was started, too: by then, stderr is this rank's file.
    """

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, value, trace))
        for stream in (_terminal, sys.stderr):
            with contextlib.suppress(OSError):  # nothing may come between here and the Abort
                print(f"swiftpy: rank {MPI.COMM_WORLD.rank}: a bug in the engine\n{text}", file=stream, flush=True)
        MPI.COMM_WORLD.Abort(1)

    sys.excepthook = hook
