"""The two duals of a task server: tasks that wait for a worker, workers that wait for a task."""

from __future__ import annotations

from heapq import heappop, heappush

from swiftpy.core.task import ANYWHERE, Target, Task


class ReadyQueue:
    """Tasks that wait for a worker: one heap for each target, ordered by priority, then by submission."""

    def __init__(self) -> None:
        self._heaps: dict[Target, list[tuple[int, int]]] = {}
        self._tasks: dict[int, Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def push(self, task: Task) -> None:
        """Add a task. One that comes back for another attempt takes its old place, since ids grow by submission."""
        self._tasks[task.id] = task
        heappush(self._heaps.setdefault(task.target, []), (-task.priority, task.id))

    def pop_for(self, rank: int, node: str) -> Task | None:
        """Take the first of the tasks that may run on this worker; None if there is none."""
        targets = (ANYWHERE, Target(rank=rank), Target(node=node))
        heaps = [heap for target in targets if (heap := self._heaps.get(target))]
        if not heaps:
            return None
        _, task_id = heappop(min(heaps, key=lambda heap: heap[0]))
        return self._tasks.pop(task_id)

    def pop_all(self, target: Target | None = None) -> list[Task]:
        """Take every task, or every one of this target, in order of submission."""
        targets = list(self._heaps) if target is None else [target]
        ids = sorted(task_id for t in targets for _, task_id in self._heaps.pop(t, ()))
        return [self._tasks.pop(task_id) for task_id in ids]


class IdleWorkers:
    """Workers that wait for a task; the one that has waited longest is taken first."""

    def __init__(self) -> None:
        self._all: dict[int, str] = {}  # rank -> node; dicts keep insertion order
        self._by_node: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, rank: int) -> bool:
        return rank in self._all

    def add(self, rank: int, node: str) -> None:
        """A worker begins to wait."""
        self._all[rank] = node
        self._by_node.setdefault(node, {})[rank] = None

    def discard(self, rank: int) -> None:
        """A worker no longer waits, if it did."""
        node = self._all.pop(rank, None)
        if node is not None:
            del self._by_node[node][rank]

    def take(self, target: Target) -> int | None:
        """Take a worker on which a task with this target may run; None if none waits."""
        if target.rank is not None:
            rank = target.rank if target.rank in self._all else None
        else:
            waiting = self._all if target.node is None else self._by_node.get(target.node, {})
            rank = next(iter(waiting), None)
        if rank is not None:
            self.discard(rank)
        return rank
