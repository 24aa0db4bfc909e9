"""Where the ranks of a job are, and what each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swiftpy.core.task import Seat
from swiftpy.errors import UserError
from swiftpy.runtime.transport import SERVER


@dataclass(frozen=True)
class Layout:
    """Where the ranks are: the host of each rank, and where and what each worker is.

    `servers` are the ranks that are servers beside rank 0, each with the ranks of its workers.
    """

    hosts: list[str]
    workers: dict[int, Seat]
    servers: dict[int, list[int]] = field(default_factory=dict)

    @property
    def groups(self) -> dict[int, dict[int, Seat]]:
        """The workers of each server."""
        return {server: {rank: self.workers[rank] for rank in ranks} for server, ranks in self.servers.items()}

    @property
    def size(self) -> int:
        """Number of ranks, server included."""
        return len(self.hosts)

    def count_workers(self) -> int:
        """How many there are. Raises UserError if nobody is there but the server.

        So it is with each of many processes, too, which were started by a launcher that their MPI does not know, such
        as `srun` with a default of `--mpi=none`.
        """
        if not self.workers:
            raise UserError(
                "there is one process only, and the server needs a worker: start with mpiexec -n 2 or more; if"
                " you did, its mpiexec (or srun --mpi=...) is not the one of mpi4py's MPI: see docs/sites.md"
            )
        return len(self.workers)

    def assign(self, kinds: Mapping[str, int]) -> None:
        """Make so many workers of each node of each kind, in order of rank; those that are left have none."""
        left: dict[str, list[str]] = {}
        for rank, seat in self.workers.items():
            names = left.setdefault(seat.node, [name for name, count in kinds.items() for _ in range(count)])
            self.workers[rank] = Seat(seat.node, names.pop(0) if names else None)

    def divide(self, servers: int) -> None:
        """Make servers of so many workers, each for those that follow it. Raises UserError if there are too few."""
        ranks = sorted(self.workers)
        if len(ranks) < 2 * servers:
            least = 2 * servers + 1
            raise UserError(f"--servers {servers}: each needs a rank and a worker: start {least} processes or more")
        for number in range(servers):
            first, *others = ranks[number * len(ranks) // servers : (number + 1) * len(ranks) // servers]
            del self.workers[first]
            self.servers[first] = others

    def describe(self) -> list[str]:
        """A line for each rank: its host, its node, and its kind."""
        lines = [f"rank {SERVER}: host {self.hosts[SERVER]}, server"]
        for rank, workers in self.servers.items():
            lines.append(f"rank {rank}: host {self.hosts[rank]}, server of ranks {workers[0]} to {workers[-1]}")
        for rank, seat in self.workers.items():
            kind = f", {seat.kind}" if seat.kind else ""
            lines.append(f"rank {rank}: host {self.hosts[rank]}, node {seat.node}{kind}")
        return lines
