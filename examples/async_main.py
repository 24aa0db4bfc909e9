"""Several searches at once, each a coroutine that decides from its results what to compute next.

mpiexec -n 4 python -m swiftpy examples/async_main.py
"""

import asyncio
import math

import swiftpy


@swiftpy.task
def potential(x: float, depth: float) -> float:
    return (x - 2) ** 2 - depth * math.exp(-((x - 4) ** 2))


async def minimum(depth: float, low: float = 0.0, high: float = 6.0) -> tuple[float, float]:
    """Narrow the interval around the lowest of eleven points, again and again."""
    while high - low > 1e-6:
        points = [low + (high - low) * i / 10 for i in range(11)]
        values = await asyncio.gather(*[potential(x, depth) for x in points])  # in parallel
        best = points[values.index(min(values))]
        low, high = best - (high - low) / 8, best + (high - low) / 8
    return best, min(values)


async def main() -> None:
    depths = [0.0, 2.0, 4.0, 8.0]
    results = await asyncio.gather(*[minimum(depth) for depth in depths])  # the searches, too
    for depth, (x, value) in zip(depths, results):
        print(f"depth {depth}: minimum {value:.4f} at {x:.4f}")


swiftpy.run(main)
