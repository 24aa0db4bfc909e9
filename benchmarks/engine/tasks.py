"""What the tasks do: functions that every system's workers can import."""

import ctypes
import os
import time

_PR_SET_TIMERSLACK = 29
_libc = ctypes.CDLL(None)  # once: to make it takes longer than to call it


def same(value):
    return value


def second(first, value):
    return value


def add(a, b):
    return a + b


def increment(value):
    return value + 1


def total(values):
    return sum(values)


def total_of_all(*values):
    return sum(values)


def each(function, values):
    return [function(value) for value in values]


def size(data):
    return len(data)


def make(count):
    return b"x" * count


def nap(seconds):
    """Sleep. By default the kernel adds 50 us so that wake-ups coincide: 5 % of a sleep of 1 ms."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    time.sleep(seconds)


def hold(path):
    """Keep a worker busy until there is such a file."""
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(5e-3)


def command(argv):
    """Run an external command in the cheapest way that Python has."""
    pid = os.posix_spawn(argv[0], argv, os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
