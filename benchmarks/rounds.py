"""Rounds of measurement that alternate, on a machine where others may be at work too.

What all other processes computed during a round is known from /proc/stat. Of each candidate the rounds count that were
disturbed least; more are made, for a limited time, until enough are quiet.
"""

import os
import statistics
import time
from pathlib import Path

import numpy as np

# Cores that others may use in a quiet round, on average.
QUIET = 0.1


def clocks():
    """Seconds that have passed, and seconds of computing: by all threads of this process, and by the whole machine."""
    ticks = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = ticks[3:5]
    machine = (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    return np.array([time.perf_counter(), time.process_time(), machine])


def others(passed, computed, machine):
    """Cores that others used, on average, from differences of `clocks`; ticks of 10 ms make it a little inexact."""
    return max(0.0, float(machine - computed) / passed)


def per_second(candidates, rounds, limit=150.0):
    """({name: samples/s}, {name: cores that others used}): medians of the `rounds` least disturbed rounds of each.

    Each candidate returns how many samples it has processed, and may say in which time, and how long its children
    computed. A first round of each is not counted. No round begins `limit` seconds after the first.
    """
    taken = {name: [] for name in candidates}
    for work in candidates.values():
        work()
    begin = time.perf_counter()
    while any(_lacking(seen, rounds) for seen in taken.values()):
        if time.perf_counter() - begin > limit and all(taken.values()):
            break
        for name, work in candidates.items():
            if _lacking(taken[name], rounds):
                taken[name].append(_round(work))
    kept = {name: sorted(seen)[:rounds] for name, seen in taken.items()}
    return (
        {name: round(statistics.median(rate for _, rate in rows), 1) for name, rows in kept.items()},
        {name: round(statistics.median(cores for cores, _ in rows), 2) for name, rows in kept.items()},
    )


def compare(one, other, rounds, limit=100.0):
    """How many times as fast `one` is as `other`: quartiles of the `rounds` least disturbed pairs of rounds.

    The two take turns, also in who is first: a virtual machine's speed changes by 10 % within seconds, so that medians
    of a few rounds of each say little about a difference of 5 %.
    """
    pairs = []
    begin = time.perf_counter()
    while _lacking(pairs, rounds) and (len(pairs) < 2 or time.perf_counter() - begin < limit):
        turns = (one, other) if len(pairs) % 2 else (other, one)
        done = {work: _round(work) for work in turns}
        pairs.append((max(cores for cores, _ in done.values()), done[one][1] / done[other][1]))
    cores, ratios = zip(*sorted(pairs)[:rounds], strict=True)
    quartiles = [round(ratio, 3) for ratio in statistics.quantiles(ratios, n=4)]
    return {"quartiles": quartiles, "pairs": len(ratios), "others_used_cores": round(statistics.median(cores), 2)}


def _lacking(seen, rounds):
    return sum(cores <= QUIET for cores, _ in seen) < rounds


def _round(work):
    start = clocks()
    done = work()
    passed, computed, machine = clocks() - start
    count, seconds, children = done if isinstance(done, tuple) else (done, passed, 0.0)
    return others(passed, computed + children, machine), count / seconds
