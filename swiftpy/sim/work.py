"""What is to be done: how long calls take, what needs what, and how fast that could be done at best."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from swiftpy.core.task import Kind, Task
from swiftpy.errors import UserError


@dataclass(frozen=True)
class Work:
    """`tasks` of which call i takes `seconds[i]`.

    `longest` is the sum of the longest chain of calls that need each other; `ranks` on how many workers each call runs.
    """

    seconds: Sequence[float]
    tasks: Callable[[], Iterator[Task]]
    longest: float
    ranks: int = 1

    def bound(self, workers: int) -> float:
        """No schedule ends earlier: every worker is busy, or the longest chain is the longest."""
        return max(sum(self.seconds) * self.ranks / workers, self.longest)


def durations(text: str, count: int, seed: int) -> array[float]:
    """`count` durations: "10" (all the same), "5:20" (uniform), "exp:10" (mean), "lognormal:10:0.5" (median, sigma).

    ValueError or ArithmeticError: `text` is none of these.
    """
    chance = random.Random(seed)
    name, _, rest = text.partition(":")
    if name == "exp":
        mean = float(rest)
        return array("d", (chance.expovariate(1 / mean) for _ in range(count)))
    if name == "lognormal":
        median, sigma = map(float, rest.split(":"))
        return array("d", (median * chance.lognormvariate(0.0, sigma) for _ in range(count)))
    shortest = float(name)
    longest = float(rest) if rest else shortest
    return array("d", (chance.uniform(shortest, longest) for _ in range(count)))


def work(shape: str, seconds: array[float], kind: Kind, gathered: int) -> Work:
    """Calls of these durations: "independent", "chains:L" (of L calls), "fans:W" or "parallel:K" (on K workers each).

    A fan is W calls that one call needs, which the W of the next fan need. Independent calls are submitted `gathered`
    in a run.
    """
    name, _, number = shape.partition(":")
    shapes = {"chains": _chains, "fans": _fans, "parallel": _parallel}
    if name == "independent":
        return _independent(seconds, kind, gathered)
    if name not in shapes or not number.isdecimal() or int(number) < 1:
        raise UserError(f"--shape {shape}: there are independent, chains:L, fans:W and parallel:K, such as chains:10")
    return shapes[name](seconds, kind, int(number))


def _runs(kind: Kind, count: int, length: int) -> Iterator[Task]:
    for first in range(0, count, length):
        calls = range(first, min(first + length, count))
        yield Task(first, kind, calls, len(calls))


def _independent(seconds: array[float], kind: Kind, gathered: int) -> Work:
    return Work(seconds, lambda: _runs(kind, len(seconds), gathered), max(seconds))


def _chains(seconds: array[float], kind: Kind, length: int) -> Work:
    chained = Kind(kind.function, retries=kind.retries, chained=True)
    longest = max(sum(seconds[first : first + length]) for first in range(0, len(seconds), length))
    return Work(seconds, lambda: _runs(chained, len(seconds), length), longest)


def _fans(seconds: array[float], kind: Kind, width: int) -> Work:
    size = width + 1

    def tasks() -> Iterator[Task]:
        for first in range(0, len(seconds), size):
            needed = (first - 1,) if first else ()
            members = range(first, min(first + width, len(seconds)))
            for call in members:
                yield Task(call, kind, range(call, call + 1), 1, needed)
            if members.stop < len(seconds):
                yield Task(members.stop, kind, range(members.stop, members.stop + 1), 1, members)

    fans = [seconds[first : first + size] for first in range(0, len(seconds), size)]
    return Work(seconds, tasks, sum(max(fan[:width]) + sum(fan[width:]) for fan in fans))


def _parallel(seconds: array[float], kind: Kind, ranks: int) -> Work:
    wide = Kind(kind.function, retries=kind.retries, ranks=ranks)
    return Work(seconds, lambda: _runs(wide, len(seconds), 1), max(seconds), ranks)
