"""Estimate pi from random points, and add up the parts in a tree of tasks.

A sum of futures is a future: the tree is built at once, and each addition runs as soon as both of its parts are there.

    mpiexec -n 4 python -m swiftpy examples/reduce_tree.py 64 100000
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import swiftpy


@swiftpy.task
def hits(seed: int, points: int) -> int:
    """How many of these random points of the unit square lie in the circle."""
    rng = random.Random(seed)
    return sum(rng.random() ** 2 + rng.random() ** 2 < 1 for _ in range(points))


@swiftpy.task
def add(a: int, b: int) -> int:
    return a + b


def reduce_tree(combine: Callable[[Any, Any], swiftpy.Future], futures: list[swiftpy.Future]) -> swiftpy.Future:
    while len(futures) > 1:
        pairs = [combine(a, b) for a, b in zip(futures[::2], futures[1::2])]
        futures = pairs + futures[2 * len(pairs) :]
    return futures[0]


parts, points = int(sys.argv[1]), int(sys.argv[2])
total = reduce_tree(add, [hits(seed, points) for seed in range(parts)])
print(f"pi is about {4 * total.result() / (parts * points):.4f}")
