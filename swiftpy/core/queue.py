"""Tasks that wait for a worker; `waiting` has the workers that wait for a task."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from swiftpy.core.task import EVERYWHERE, Place, Seat, Task

#: What a heap is ordered by: priority, then depth (both falling), then submission.
Position = tuple[float, int, int]


def position(task: Task) -> Position:
    """A task's place in the line of those that wait."""
    return -task.kind.priority, -task.kind.depth, task.id


class ReadyQueue:
    """Tasks that wait for a worker: one heap for each place, ordered by priority, depth, and submission.

    A task with a soft target lies in the heap of its place and in that of everywhere: whichever hands it out first
    forgets it, and the other heap's entry is dropped when it comes up.
    """

    def __init__(self) -> None:
        self._heaps: dict[Place, list[Position]] = {}
        self._tasks: dict[int, Task] = {}
        self._widest: dict[Place, int] = {}  # at least the most workers that a task wants of a place
        self.calls = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def push(self, task: Task) -> None:
        """Add a task. One that comes back for another attempt takes its old place, since ids grow by submission."""
        self._tasks[task.id] = task
        self.calls += task.count
        target, entry = task.kind.target, position(task)
        place = target.place
        if target.soft:
            heappush(self._heaps.setdefault(place, []), entry)
            place = EVERYWHERE
        heappush(self._heaps.setdefault(place, []), entry)
        if task.kind.ranks > self._widest.get(place, 0):
            self._widest[place] = task.kind.ranks

    def first_for(self, rank: int, seat: Seat) -> Task | None:
        """The first of the tasks that may run on this worker; None if there is none."""
        best: Position | None = None
        heaps, tasks = self._heaps, self._tasks
        if tasks:
            for place in (*seat.places, (rank, None, None)):
                heap = heaps.get(place)
                while heap and heap[0][2] not in tasks:  # it was handed out by another heap
                    heappop(heap)
                if heap and (best is None or heap[0] < best):
                    best = heap[0]
        return None if best is None else tasks[best[2]]

    def remove(self, task: Task) -> None:
        """Take a task out."""
        del self._tasks[task.id]
        self.calls -= task.count

    def beyond(self, place: Place, workers: int) -> list[Task]:
        """The tasks that want more workers of this place than so many."""
        if workers >= self._widest.get(place, 0):
            return []
        ids = sorted({entry[2] for entry in self._heaps[place]})
        tasks = [self._tasks[task_id] for task_id in ids if task_id in self._tasks]
        if place != EVERYWHERE:
            tasks = [task for task in tasks if not task.kind.target.soft]
        self._widest[place] = max((task.kind.ranks for task in tasks if task.kind.ranks <= workers), default=0)
        return [task for task in tasks if task.kind.ranks > workers]

    def pop_all(self) -> list[Task]:
        """Take every task, in order of submission."""
        tasks = [self._tasks[task_id] for task_id in sorted(self._tasks)]
        self._heaps.clear()
        self._tasks.clear()
        self._widest.clear()
        self.calls = 0
        return tasks
