"""Ranks that agree: collectives whose waiting ranks sleep, and after which all know who failed and why."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from swiftpy.runtime.transport import Backoff

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

#: Of the time that a rank has waited, what it waits on before it looks again. Each round of a barrier waits for another
#: rank's pause: were these as long as the wait so far, it could take several times what it must.
_PAUSES = 0.1
#: Times that a rank looks for others before it pauses.
_LOOKS = 4


class GroupError(Exception):
    """It failed on at least one rank; all ranks raise this, with the node and the reason of each that failed."""


class UnansweredError(Exception):
    """Others did not come to the meeting in time."""


class Group:
    """The ranks of a communicator, which stays the caller's: no other traffic may use it meanwhile.

    `name` is this rank's node, as messages call it; by default the host, with the rank where several share it.
    """

    def __init__(self, comm: MPI.Comm, name: str = "") -> None:
        self.comm = comm
        self.rank: int = comm.rank
        self.size: int = comm.size
        self.name = name or self._node_name()

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The root's value, on every rank."""
        self.meet()
        return self.comm.bcast(value, root)

    def gather(self, value: Any, patience: float | None = None) -> list[Any]:
        """Every rank's value, on every rank, in order of rank.

        UnansweredError if others are not there within `patience` seconds: the job can then only be aborted.
        """
        self.meet(patience)
        return self.comm.allgather(value)

    def together(self, what: str, action: Callable[[], T]) -> T:
        """Do something on every rank; if it fails on one, raise GroupError on all.

        Without this, the ranks that succeeded would wait in the next collective for one that never comes.
        """
        result, reason = None, None
        try:
            result = action()
        except Exception as error:
            reason = self.reason(what, error)
        self.agree(reason)
        return result  # type: ignore[return-value]  # None only when T is

    def reason(self, what: str, error: Exception) -> str:
        """One line on what could not be done on this node, and why."""
        if isinstance(error, OSError):
            named = f" ({error.filename})" if error.filename and str(error.filename) not in what else ""
            return f"{self.name}: cannot {what}: {error.strerror or error}{named}"
        return f"{self.name}: cannot {what}: {type(error).__name__}: {error}"

    def agree(self, reason: str | None) -> None:
        """Raise GroupError on all ranks if one has a reason."""
        reasons = [r for r in self.gather(reason) if r]
        if reasons:
            more = f"; and {len(reasons) - 5} more nodes" if len(reasons) > 5 else ""
            raise GroupError("; ".join(reasons[:5]) + more)

    def meet(self, patience: float | None = None) -> None:
        """A barrier whose waiting ranks sleep: a blocking collective spins while rank 0 checks a UPF for 10 s.

        UnansweredError if others are not there within `patience` seconds.
        """
        request, backoff = self.comm.Ibarrier(), Backoff(_PAUSES)
        deadline = None if patience is None else time.monotonic() + patience
        # A barrier has several rounds, and MPICH goes on with one at a time: a pause before each would make us late.
        while not any(request.Test() for _ in range(_LOOKS)):
            if deadline is not None and time.monotonic() > deadline:
                raise UnansweredError
            backoff.wait()

    def _node_name(self) -> str:
        host = os.uname().nodename
        return f"{host} node {self.rank}" if self.gather(host).count(host) > 1 else host
