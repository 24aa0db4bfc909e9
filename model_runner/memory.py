"""What glibc does with memory that a RUN has freed, so that a process that runs hundreds of them does not grow.

Where the C library is another one, nothing is done.
"""

import contextlib
import ctypes
from typing import Any

M_ARENA_MAX = -8


def keep_one_heap() -> None:
    """All threads that begin from now on take memory from one heap.

    By default each of TensorFlow's threads gets a heap of its own, up to eight for each core. Each keeps as much as its
    thread once needed (8 MB, where that computes with matrices of 8 MB), and `give_back` cannot reach it.
    """
    _call("mallopt", M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the system what glibc holds back: the gaps between small blocks where arrays of the RUN have been.

    Setting a network of 12.6 M weights back for the next RUN otherwise costs 30 MB more each time.
    """
    _call("malloc_trim", 0)


def _call(name: str, *arguments: Any) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
