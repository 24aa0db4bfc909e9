"""What processes use: memory, and the processor."""

import contextlib
import os
import time
from pathlib import Path


def megabytes():
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_use(root, seconds):
    """Percent of a core that each process below `root` uses while this one sleeps."""
    before = {pid: _cpu_seconds(pid) for pid in _descendants(root)}
    time.sleep(seconds)
    used = {}
    for pid, then in before.items():
        with contextlib.suppress(OSError):  # it has ended
            used[pid] = 100 * (_cpu_seconds(pid) - then) / seconds
    return used


def _cpu_seconds(pid):
    """To the nanosecond: `stat` counts ticks of 10 ms."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _descendants(pid):
    children = [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    return children + [d for child in children for d in _descendants(child)]
