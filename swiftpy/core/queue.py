"""The two duals of a task server: tasks that wait for a worker, workers that wait for a task."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from swiftpy.core.task import ANYWHERE, Site, Target, Task

#: What a heap is ordered by: priority, then depth (both falling), then submission.
Order = tuple[int, int, int]


def _order(task: Task) -> Order:
    return -task.kind.priority, -task.kind.depth, task.id


class ReadyQueue:
    """Tasks that wait for a worker: one heap for each target, ordered by priority, depth, and submission.

    A task with a soft target lies in the heap of its target and in that for anywhere: whichever hands it out first
    forgets it, and the other heap's entry is dropped when it comes up.
    """

    def __init__(self) -> None:
        self._heaps: dict[Target, list[Order]] = {}
        self._tasks: dict[int, Task] = {}
        self.calls = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __contains__(self, task: Task) -> bool:
        return task.id in self._tasks

    def push(self, task: Task) -> None:
        """Add a task. One that comes back for another attempt takes its old place, since ids grow by submission."""
        self._tasks[task.id] = task
        self.calls += task.count
        target = task.kind.target
        heappush(self._heaps.setdefault(target, []), _order(task))
        if target.soft:
            heappush(self._heaps.setdefault(ANYWHERE, []), _order(task))

    def first_for(self, rank: int, site: Site) -> Task | None:
        """The first of the tasks that may run on this worker; None if there is none."""
        best: Order | None = None
        for target in self._heaps if len(self._heaps) <= 2 else _targets(rank, site):
            order = self._top(target) if target is ANYWHERE or site.matches(rank, target) else None
            if order is not None and (best is None or order < best):
                best = order
        return None if best is None else self._tasks[best[2]]

    def remove(self, task: Task) -> None:
        """Take a task out."""
        del self._tasks[task.id]
        self.calls -= task.count

    def pop_all(self) -> list[Task]:
        """Take every task, in order of submission."""
        tasks = [self._tasks[task_id] for task_id in sorted(self._tasks)]
        self._heaps.clear()
        self._tasks.clear()
        self.calls = 0
        return tasks

    def _top(self, target: Target) -> Order | None:
        heap = self._heaps.get(target)
        while heap:
            if heap[0][2] in self._tasks:
                return heap[0]
            heappop(heap)
        return None


def _targets(rank: int, site: Site) -> Iterator[Target]:
    """Every target that a worker serves."""
    yield ANYWHERE
    for soft in (False, True):
        yield Target(rank=rank, soft=soft)
        yield Target(node=site.node, soft=soft)
        if site.kind is not None:
            yield Target(kind=site.kind, soft=soft)
            yield Target(node=site.node, kind=site.kind, soft=soft)


class IdleWorkers:
    """Workers that wait for a task; the one that has waited longest is taken first."""

    def __init__(self) -> None:
        self._all: dict[int, Site] = {}  # dicts keep insertion order
        self._by_node: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, rank: int) -> bool:
        return rank in self._all

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def add(self, rank: int, site: Site) -> None:
        """A worker begins to wait."""
        self._all[rank] = site
        self._by_node.setdefault(site.node, {})[rank] = None

    def discard(self, rank: int) -> None:
        """A worker no longer waits, if it did."""
        site = self._all.pop(rank, None)
        if site is not None:
            del self._by_node[site.node][rank]

    def find(self, target: Target) -> Iterator[int]:
        """The workers on which a task with this target may run."""
        if target.rank is not None:
            ranks = [target.rank] if target.rank in self._all else []
            return iter(ranks)
        waiting = self._all if target.node is None else self._by_node.get(target.node, {})
        if target.kind is None:
            return iter(waiting)
        return (rank for rank in waiting if self._all[rank].kind == target.kind)
