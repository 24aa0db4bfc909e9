"""Workers that wait for a task: those for which there is none, and those that gather to run a parallel one."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping

from swiftpy.core.queue import Position, position
from swiftpy.core.task import EVERYWHERE, Place, Seat, Target, Task


class Crowd:
    """Workers that wait, by place; the last that came is taken first: it may be awake still, which saves waking it.

    Ordered dicts, because the last key of a plain one is found by walking over all that were deleted after it: to
    hand out 100,000 workers would take 5 s.
    """

    def __init__(self) -> None:
        self._by_place: defaultdict[Place, OrderedDict[int, None]] = defaultdict(OrderedDict)

    def __len__(self) -> int:
        return len(self._by_place[EVERYWHERE])

    def __contains__(self, rank: int) -> bool:
        return rank in self._by_place[EVERYWHERE]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_place[EVERYWHERE])

    def add(self, rank: int, seat: Seat) -> None:
        """A worker begins to wait."""
        for place in seat.places:
            self._by_place[place][rank] = None

    def remove(self, rank: int, seat: Seat) -> None:
        """A worker no longer waits."""
        for place in seat.places:
            del self._by_place[place][rank]

    def find(self, target: Target) -> int | None:
        """The worker that came last of those in the target's place; of all if it is soft and none is there."""
        if target.rank is None:
            found = next(reversed(self._by_place.get(target.place, {})), None)
        else:
            found = target.rank if target.rank in self else None
        return next(reversed(self._by_place[EVERYWHERE]), None) if found is None and target.soft else found


class Waiting:
    """All workers that wait, of those in `seats`: `idle`, or `gathering` for a ready task that wants several.

    Those who gather for a task still take what comes before it in the line.
    """

    def __init__(self, seats: Mapping[int, Seat]) -> None:
        self._seats = seats
        self.idle = Crowd()
        self.gathering: dict[Task, Crowd] = {}
        self._task: dict[int, Task] = {}  # that a worker gathers for
        self._farthest: Position = (0, 0, 0)  # no task that workers gather for is farther back in the line

    def __bool__(self) -> bool:
        return bool(self.gathering or self.idle)

    def __contains__(self, worker: int) -> bool:
        return worker in self.idle or worker in self._task

    def add(self, worker: int) -> None:
        """There is nothing for a worker to do."""
        self.idle.add(worker, self._seats[worker])

    def gather(self, task: Task, worker: int) -> list[int]:
        """A worker waits for a parallel task: all who do once they are enough, and wait no more; [] until then."""
        self._farthest = max(self._farthest, position(task)) if self.gathering else position(task)
        workers = self.gathering.setdefault(task, Crowd())
        workers.add(worker, self._seats[worker])
        self._task[worker] = task
        return self.disband(task) if len(workers) == task.kind.ranks else []

    def disband(self, task: Task) -> list[int]:
        """Nobody waits for a task any more: who did, in order of rank."""
        workers = sorted(self.gathering.pop(task, ()))
        for worker in workers:
            del self._task[worker]
        return workers

    def remove(self, worker: int) -> None:
        """A worker no longer waits."""
        seat = self._seats[worker]
        task = self._task.pop(worker, None)
        if task is None:
            self.idle.remove(worker, seat)
        else:
            self.gathering[task].remove(worker, seat)
            if not self.gathering[task]:
                del self.gathering[task]

    def find(self, task: Task) -> int | None:
        """A worker for a task: one that waits for nothing, or else for a task that comes after it."""
        worker = self.idle.find(task.kind.target)
        if worker is not None or not self.gathering or position(task) >= self._farthest:
            return worker
        for other, workers in self.gathering.items():
            if position(task) < position(other):
                worker = workers.find(task.kind.target)
                if worker is not None:
                    return worker
        return None
