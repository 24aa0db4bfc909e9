"""How many calls travel together: few enough for balance, many enough that messages do not count."""

from __future__ import annotations

import math

from swiftpy.core.task import Task

#: A piece shall take about so many seconds: much longer than a message, much shorter than anybody notices.
PIECE_SECONDS = 5e-3
#: ... or so many for each worker of the job, of which half are what the server needs for a piece: with many workers,
#: larger pieces keep it from being busy all the time.
SERVER_SECONDS = 60e-6
#: ... and hold at most so many calls: beyond it, pickles outgrow the caches and get slower for each call.
MOST_CALLS = 1024
#: A worker whose pieces take less than this gets one in advance, so that it need not wait for the next: to report and
#: be sent another takes 1 ms where ranks share cores.
ADVANCE_SECONDS = 50e-3
#: A worker holds so many tasks at most.
MOST_TASKS = 32
#: At the end of a run pieces shrink, so that all workers end together, but not below this.
LEAST_SECONDS = 100e-6
#: What a call takes at least, with what it costs a worker besides its own duration: of the shortest a worker holds
#: several pieces of MOST_CALLS, or it would fall asleep, and have to be woken, while the server makes the next.
_LEAST_CALL = 2e-6
#: Weight of the newest measurement in the mean, when it is longer and when it is shorter than the mean.
_LONGER, _SHORTER = 0.5, 0.25


class Pieces:
    """Measured durations, and the sizes that follow from them.

    A function that was never measured goes one call at a time. The mean follows longer calls faster than shorter ones:
    a piece that is too long makes others wait, one that is too short only costs messages.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # function -> seconds of one call
        #: Function -> the size that somebody said who sees more of what waits.
        self.given: dict[str, int] = {}
        #: Chains go to one worker as they are: their calls were pickled when the results that they need were not known.
        self.whole_chains = False

    def measured(self, function: str, calls: int, seconds: float) -> None:
        """A piece of so many calls took so many seconds."""
        latest = max(seconds / calls, 1e-9)  # the clock may not have moved
        mean = self._seconds.get(function, latest)
        self._seconds[function] = mean + (_LONGER if latest > mean else _SHORTER) * (latest - mean)

    def size(self, function: str, waiting: int, workers: int) -> int:
        """How many calls to send a worker when `waiting` calls are ready for `workers` workers."""
        largest = self.largest(function, workers)
        if largest == 1 or function in self.given:
            return largest
        least = max(LEAST_SECONDS, workers * SERVER_SECONDS / 2) / self._seconds[function]
        return max(1, min(largest, max(waiting // (2 * workers), int(least))))

    def largest(self, function: str, workers: int) -> int:
        """How many calls may travel together at all. Chains always do: nobody else could make the calls that follow."""
        if function in self.given:
            return self.given[function]
        seconds = self._seconds.get(function)
        if seconds is None:
            return 1
        return max(1, int(min(MOST_CALLS, max(PIECE_SECONDS, workers * SERVER_SECONDS) / seconds)))

    def expected(self, task: Task) -> float:
        """How many seconds a worker will be busy with a task; infinity if that is not known, or it must go alone."""
        if not task.kind.divisible:
            return math.inf
        return max(_LEAST_CALL, self._seconds.get(task.kind.function, math.inf)) * task.count
