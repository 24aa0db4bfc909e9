"""Parallel tasks, which run on several workers at once and share an MPI communicator, among ordinary ones.

Each parallel task solves a heat equation on a rod that is cut into as many pieces as it has ranks.

    mpiexec -n 5 python -m swiftpy examples/parallel_task.py 4
"""

import sys
from typing import Any

import numpy as np

import swiftpy


@swiftpy.task(ranks=2)
def heat(comm: Any, length: int, steps: int) -> float | None:
    """The temperature in the middle of a rod whose left end is kept at 1; what rank 0 returns is the result."""
    piece = length // comm.size
    u = np.zeros(piece + 2)  # with a point of each neighbour
    left, right = comm.rank - 1, comm.rank + 1
    for _ in range(steps):
        if left >= 0:
            u[0] = comm.sendrecv(u[1], left, source=left)
        else:
            u[0] = 1.0
        if right < comm.size:
            u[-1] = comm.sendrecv(u[-2], right, source=right)
        u[1:-1] += 0.4 * (u[:-2] - 2 * u[1:-1] + u[2:])
    rod = comm.gather(u[1:-1])
    return float(np.concatenate(rod)[length // 2]) if rod is not None else None


@swiftpy.task
def heat_alone(length: int, steps: int) -> float:
    u = np.zeros(length + 2)
    for _ in range(steps):
        u[0], u[-1] = 1.0, u[-2]
        u[1:-1] += 0.4 * (u[:-2] - 2 * u[1:-1] + u[2:])
    return float(u[1:-1][length // 2])


ranks = int(sys.argv[1])
lengths = [16, 24, 32, 48]
together = {length: heat.options(ranks=ranks)(length, 200) for length in lengths}
alone = {length: heat_alone(length, 200) for length in lengths}
for length in lengths:
    print(f"length {length}: {together[length].result():.6f} on {ranks} ranks, {alone[length].result():.6f} on one")
