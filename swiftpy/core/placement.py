"""Who runs what: matches ready tasks with workers, cuts long runs of calls, gathers workers for parallel tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.events import Command, RecallTasks, StartTask
from swiftpy.core.pieces import Pieces
from swiftpy.core.queue import IdleWorkers, ReadyQueue
from swiftpy.core.task import ANYWHERE, Site, Target, Task
from swiftpy.errors import TaskError


@dataclass(slots=True)
class Gang:
    """The workers that run a parallel task: those that have not ended, and what the others said so far."""

    unfinished: set[int]
    first: int
    value: bytes | None = None
    error: TaskError | None = None


class Placement:
    """The workers, what each of them runs, and what is ready to be run.

    A worker runs one task and may hold another in advance, when both are short. A task that wants several workers
    (`ranks`) is started once enough of them wait; until then its place in the queue holds: a worker for which it is
    the first takes nothing that comes after it, so that a stream of small tasks cannot starve it.
    """

    def __init__(self, workers: Mapping[int, Site], dependencies: Dependencies) -> None:
        self.workers = dict(workers)
        self._dependencies = dependencies
        self.ready = ReadyQueue()
        self.idle = IdleWorkers()
        self.running: dict[int, list[Task]] = {}  # worker -> what it holds, in order; no entry for nothing
        self.gangs: dict[int, Gang] = {}  # by the id of the parallel task
        self.pieces = Pieces()
        self._loaded: dict[int, None] = {}  # workers that hold calls which others could make, oldest first
        self._recalled: set[int] = set()
        self._wide = 0  # ready tasks that want several workers
        self._counts: dict[Target, int] = {}

    def lacks(self, task: Task) -> str | None:
        """What a task wants that the job does not have; None if it has the workers."""
        target, ranks = task.kind.target, task.kind.ranks
        found = self._count(ANYWHERE if target.soft else target)
        if found >= ranks:
            return None
        return (
            f"it wants {target}" if ranks == 1 else f"it wants {ranks} workers ({target}), of which there are {found}"
        )

    def add(self, task: Task) -> list[Command]:
        """A task is ready: start it, or as much of it as there are waiting workers for, and queue the rest."""
        rest: Task | None = task
        commands: list[Command] = []
        if not self._wide and task.kind.ranks == 1:
            while rest is not None and (worker := self._waiting_for(rest)) is not None:
                head, rest = self._cut(rest, 1 if rest.kind.chained else len(self.idle))
                self.idle.discard(worker)
                commands.append(self._start(head, worker))
        if rest is not None:
            self._queue(rest)
            if self._wide:
                commands += self._gather()
        return commands

    def feed(self, worker: int) -> list[Command]:
        """A worker has room: give it the next tasks, or let it wait and ask another to share."""
        commands: list[Command] = []
        while self._has_room(worker) and (command := self._next(worker)) is not None:
            commands.append(command)
        if worker not in self.running:
            self.idle.add(worker, self.workers[worker])
            commands += self._gather() if self._wide else self._recall()
        return commands

    def feed_after(self, worker: int, freed: list[Task]) -> list[Command]:
        """A worker has room, and its results made these tasks ready.

        It takes the first, because the data are there; then those that wait get theirs; and only then does it get one
        in advance.
        """
        commands: list[Command] = []
        if freed and worker not in self.running:
            self._queue(freed[0])
            command = self._next(worker)
            commands += [] if command is None else [command]
            if freed[0] in self.ready:
                self.withdraw(freed[:1])
            else:
                freed = freed[1:]
        for task in freed:
            commands += self.add(task)
        return commands + self.feed(worker)

    def release(self, worker: int, task_id: int, attempt: int) -> Task | None:
        """A worker ended an attempt: the task, or None if the worker does not run it (any more)."""
        held = self.running.get(worker, ())
        task = next((task for task in held if task.id == task_id and task.attempt == attempt), None)
        if task is None:
            return None
        self.running[worker].remove(task)
        if not self.running[worker]:
            del self.running[worker]
        self._note_load(worker)
        return task

    def shrink(self, worker: int, task_id: int, attempt: int, kept: int) -> Task | None:
        """A worker gave back all calls of a task but the first `kept`: the rest, None if it does not run it."""
        task = self.release(worker, task_id, attempt)
        if task is None:
            return None
        if kept:
            self.running.setdefault(worker, []).insert(0, task.part(0, kept))
        return task.part(kept, task.count) if task.count > 1 else task

    def leave_gang(self, task: Task, worker: int) -> Gang | None:
        """A worker no longer runs its part of a parallel task; None for tasks of one worker."""
        gang = self.gangs.get(task.id)
        if gang is not None:
            gang.unfinished.discard(worker)
            if not gang.unfinished:
                del self.gangs[task.id]
        return gang

    def recall_answered(self, worker: int) -> None:
        """A worker may be asked again."""
        self._recalled.discard(worker)

    def lose(self, worker: int) -> list[Task]:
        """A worker is gone: what it held, in order."""
        del self.workers[worker]
        self._counts.clear()
        self.idle.discard(worker)
        self._loaded.pop(worker, None)
        return self.running.pop(worker, [])

    def withdraw(self, tasks: Iterable[Task]) -> None:
        """These ready tasks shall not run."""
        for task in tasks:
            self.ready.remove(task)
            self._wide -= task.kind.ranks > 1

    # -- details -----------------------------------------------------------------------------------------------

    def _queue(self, task: Task) -> None:
        self.ready.push(task)
        self._wide += task.kind.ranks > 1

    def _waiting_for(self, task: Task) -> int | None:
        target = task.kind.target
        worker = next(self.idle.find(target), None)
        if worker is None and target.soft:
            worker = next(iter(self.idle), None)
        return worker

    def _next(self, worker: int) -> StartTask | None:
        """Start what is first for a worker, unless that must wait for more workers or for this one to be free."""
        task = self.ready.first_for(worker, self.workers[worker])
        if task is None or task.kind.ranks > 1 or (worker in self.running and not task.kind.divisible):
            return None
        self.ready.remove(task)
        head, rest = self._cut(task, 1)
        if rest is not None:
            self._queue(rest)
        return self._start(head, worker)

    def _has_room(self, worker: int) -> bool:
        held = self.running.get(worker)
        if held is None:
            return True
        task = held[0]
        return len(held) == 1 and task.kind.divisible and self.pieces.in_advance(task.kind.function, task.count)

    def _cut(self, task: Task, takers: int) -> tuple[Task, Task | None]:
        """The piece of a run that goes to one of so many takers, and what is left."""
        if task.count == 1:
            return task, None
        workers = 1 if task.kind.chained else len(self.workers)
        size = self.pieces.size(task.kind.function, task.count + self.ready.calls, workers)
        size = min(size, -(-task.count // takers))
        if size >= task.count:
            return task, None
        head, rest = task.part(0, size), task.part(size, task.count)
        if task.kind.chained:
            rest.after = (rest.id - 1,)
            self._dependencies.add(rest)
            return head, None
        return head, rest

    def _start(self, task: Task, worker: int, gang: tuple[int, ...] = ()) -> StartTask:
        task.attempt += 1
        self.running.setdefault(worker, []).append(task)
        self._note_load(worker)
        return StartTask(worker, task, task.attempt, gang)

    def _note_load(self, worker: int) -> None:
        held = self.running.get(worker, ())
        self._loaded.pop(worker, None)
        if len(held) > 1 or (held and held[0].count > 1):
            self._loaded[worker] = None

    def _gather(self) -> list[Command]:
        """While parallel tasks are ready: give each waiting worker what is first for it, once all it needs is there."""
        commands: list[Command] = []
        gathered: dict[int, list[int]] = {}
        for worker in list(self.idle):
            task = self.ready.first_for(worker, self.workers[worker])
            if task is None:
                continue
            gang = gathered.setdefault(task.id, [])
            gang.append(worker)
            if len(gang) == task.kind.ranks:
                commands += self._start_gang(task, tuple(sorted(gang)))
                del gathered[task.id]
        return commands

    def _start_gang(self, task: Task, gang: tuple[int, ...]) -> list[Command]:
        for worker in gang:
            self.idle.discard(worker)
        if len(gang) == 1:
            command = self._next(gang[0])
            assert command is not None
            return [command]
        self.withdraw([task])
        task.attempt += 1
        self.gangs[task.id] = Gang(set(gang), gang[0])
        for worker in gang:
            self.running[worker] = [task]
        return [StartTask(worker, task, task.attempt, gang) for worker in gang]

    def _recall(self) -> list[Command]:
        """Somebody waits and nothing is ready: ask the worker that has been at its calls for longest to share."""
        worker = next((w for w in self._loaded if w not in self._recalled), None)
        if worker is None:
            return []
        self._recalled.add(worker)
        return [RecallTasks(worker)]

    def _count(self, target: Target) -> int:
        """How many workers of the job may run tasks with this target."""
        if target.rank is not None:
            return int(target.rank in self.workers)
        if target == ANYWHERE:
            return len(self.workers)
        if target not in self._counts:
            self._counts[target] = sum(site.matches(rank, target) for rank, site in self.workers.items())
        return self._counts[target]
