"""Who runs what: matches ready tasks with workers that wait for one, and cuts long runs of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.events import Command, InterruptTask, KillTask, RecallTasks, StartTask
from swiftpy.core.gang import Gang
from swiftpy.core.pieces import ADVANCE_SECONDS, MOST_TASKS, PIECE_SECONDS, Pieces
from swiftpy.core.queue import ReadyQueue, position
from swiftpy.core.sharing import Sharing
from swiftpy.core.task import EVERYWHERE, Place, Seat, Task
from swiftpy.core.waiting import Waiting


class Placement:
    """The workers, what each of them runs, and what is ready to be run.

    A worker runs one task and may hold others in advance, when all are short. A task that wants several workers
    (`ranks`) is started once enough of them wait for it; until then its place in the queue holds: a worker for which it
    is the first takes nothing that comes after it, so that a stream of small tasks cannot starve it.
    """

    def __init__(self, workers: Mapping[int, Seat], dependencies: Dependencies) -> None:
        self.workers = dict(workers)
        self.lost: dict[int, Seat] = {}
        self._dependencies = dependencies
        self.ready = ReadyQueue()
        self.waiting = Waiting(self.workers)
        self.running: dict[int, list[Task]] = {}  # worker -> what it holds, in order; no entry for nothing
        self.suspended: dict[int, list[Task]] = {}  # worker -> tasks that wait for others
        self._timed: set[int] = set()  # the ids of those of them that wait only for so long
        self.gangs: dict[int, Gang] = {}  # by the id of the running parallel task
        self.pieces = Pieces()
        self._present: Counter[Place] = Counter(place for seat in self.workers.values() for place in seat.places)
        self._sharing = Sharing()

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.workers)

    @property
    def empty(self) -> bool:
        """Whether no task is ready or with a worker."""
        return not (self.running or self.ready or self.suspended)

    @property
    def busy(self) -> list[int]:
        """The workers that hold a task."""
        return list(dict.fromkeys([*self.running, *self.suspended]))

    @property
    def stalled(self) -> list[Task] | None:
        """What it has, if all of it waits for other tasks; None if something can go on."""
        if self.running or self.ready or self._timed:
            return None
        return [task for tasks in self.suspended.values() for task in tasks]

    @property
    def forsaken(self) -> dict[Task, Gang]:
        """The parallel tasks that failed on some of their workers and run on others, if nothing else runs."""
        running = {task for tasks in self.running.values() for task in tasks}
        gangs = {task: self.gangs[task.id] for task in running if task.id in self.gangs}
        return gangs if len(gangs) == len(running) and all(gang.error for gang in gangs.values()) else {}

    @property
    def recalling(self) -> bool:
        """Whether workers were asked to give calls back, and have not answered."""
        return self._sharing.unanswered

    def lacks(self, task: Task) -> str | None:
        """What a task wants that the job does not have; None if it has the workers."""
        target, ranks = task.kind.target, task.kind.ranks
        found = self._count(EVERYWHERE if target.soft else target.place)
        if found >= ranks:
            return None
        return (
            f"it wants {target}" if ranks == 1 else f"it wants {ranks} workers ({target}), of which there are {found}"
        )

    def held(self) -> Iterator[tuple[int, Task]]:
        """Each worker with each task that was sent to it and has not ended."""
        for holders in (self.suspended, self.running):
            for worker, tasks in holders.items():
                for task in tasks:
                    yield worker, task

    def add(self, task: Task) -> list[Command]:
        """A task is ready: start it, or as much of it as there are waiting workers for, and queue the rest."""
        if task.kind.ranks > 1:
            return self._add_parallel(task)
        rest: Task | None = task
        commands: list[Command] = []
        while rest is not None and (worker := self.waiting.find(rest)) is not None:
            head, rest = self._cut(rest, len(self.waiting.idle))
            self.waiting.remove(worker)
            commands.append(self._start(head, worker))
        if rest is not None:
            self.ready.push(rest)
        return commands

    def feed(self, worker: int) -> list[Command]:
        """A worker has room: give it the next tasks, or let it wait and ask another to share."""
        commands: list[Command] = []
        if worker not in self.running:
            first = self._next(worker)
            if first is None:
                return self._wait(worker)
            commands.append(first)
        return commands + self._fill(worker)

    def feed_after(self, worker: int, freed: list[Task]) -> list[Command]:
        """A worker has room, and its results made these tasks ready.

        It takes the first, because the data are there; then those that wait get theirs; and only then does it get one
        in advance.
        """
        commands: list[Command] = []
        for task in freed:
            rest: Task | None = task
            if worker not in self.running and self._comes_next(task, worker):
                head, rest = self._cut(task, 1 + len(self.waiting.idle))
                commands.append(self._start(head, worker))
            if rest is not None:
                commands += self.add(rest)
        return commands + self.feed(worker)

    def release(self, worker: int, task_id: int, attempt: int) -> Task | None:
        """A worker ended an attempt: the task, or None if the worker does not run it (any more)."""
        task = _take(self.running, worker, task_id, attempt)
        if task is not None:
            self._sharing.note(worker, self.running.get(worker, ()))
        return task

    def shrink(self, worker: int, task_id: int, attempt: int, kept: int) -> Task | None:
        """A worker gave back all calls of a task but the first `kept`: the rest, None if it does not run it."""
        task = self.release(worker, task_id, attempt)
        if task is None:
            return None
        if kept:
            self.running.setdefault(worker, []).insert(0, task.part(0, kept))
        return task.part(kept, task.count) if task.count > 1 else task

    def suspend(self, worker: int, task_id: int, attempt: int, timed: bool) -> bool:
        """A task waits for others, its worker is free; False if the worker does not run it."""
        task = self.release(worker, task_id, attempt)
        if task is not None:
            self.suspended.setdefault(worker, []).append(task)
            if timed:
                self._timed.add(task_id)
        return task is not None

    def resume(self, worker: int, task_id: int, attempt: int) -> list[Command]:
        """A suspended task goes on, before all else that its worker holds: others who wait may take that."""
        task = _take(self.suspended, worker, task_id, attempt)
        if task is None:
            return []
        self._timed.discard(task_id)
        if worker in self.waiting:
            self.waiting.remove(worker)
        held = self.running.setdefault(worker, [])
        held.insert(0, task)
        self._sharing.note(worker, held, more=True)
        return self._recall() if self.waiting else []

    def recall_answered(self, worker: int) -> list[Command]:
        """A worker gave back what it could. If somebody waits still, ask another."""
        asked = self._sharing.answered(worker, self.running.get(worker, ()))
        return self._recall() if asked and self.waiting else []

    def recall_all(self) -> list[Command]:
        """Ask everybody for the calls that they have not begun."""
        commands: list[Command] = []
        while command := self._recall():
            commands += command
        return commands

    def end(self, how: type[InterruptTask | KillTask]) -> list[Command]:
        """Let all that runs be interrupted, or killed."""
        return [how(worker, task.id, task.attempt) for worker, task in self.held()]

    def lose(self, worker: int) -> tuple[list[Task], list[Task]]:
        """A worker is gone: the tasks that it had begun, and those that it held besides.

        With the first of what it held, it may have begun what runs beside it or waits for other workers.
        """
        if worker in self.waiting:
            self.waiting.remove(worker)
        seat = self.lost[worker] = self.workers.pop(worker)
        self._present.subtract(seat.places)
        self._sharing.forget(worker)
        held = self.running.pop(worker, [])
        begun = held[:1] + [task for task in held[1:] if not task.kind.divisible]
        suspended = self.suspended.pop(worker, [])
        self._timed.difference_update(task.id for task in suspended)
        return suspended + begun, [task for task in held[1:] if task.kind.divisible]

    def orphans(self, worker: int) -> list[Task]:
        """The ready tasks that nobody can run since this worker was lost, which are taken out."""
        places = (*self.lost[worker].places, (worker, None, None))
        tasks = [task for place in places for task in self.ready.beyond(place, self._count(place))]
        for task in tasks:
            self.ready.remove(task)
        return tasks

    def come_back(self, worker: int) -> None:
        """A worker that was lost is there again."""
        seat = self.workers[worker] = self.lost.pop(worker)
        self._present.update(seat.places)

    def disband(self, tasks: Iterable[Task]) -> list[Command]:
        """These parallel tasks are ready no more: feed those who waited for them."""
        workers = [worker for task in tasks for worker in self.waiting.disband(task)]
        return [command for worker in workers for command in self.feed(worker)]

    # -- details -----------------------------------------------------------------------------------------------

    def _wait(self, worker: int) -> list[Command]:
        """There is nothing that a worker could start alone. Others who hold several calls are asked to share."""
        task = self.ready.first_for(worker, self.workers[worker])
        if task is None:
            self.waiting.add(worker)
        elif gang := self.waiting.gather(task, worker):
            return self._start_parallel(task, gang)
        return self._recall()

    def _next(self, worker: int) -> StartTask | None:
        """Start what is first for a worker, unless that must wait for more workers or for this one to be free."""
        task = self.ready.first_for(worker, self.workers[worker])
        if task is None or task.kind.ranks > 1 or (worker in self.running and not task.kind.divisible):
            return None
        self.ready.remove(task)
        head, rest = self._cut(task, 1)
        if rest is not None:
            self.ready.push(rest)
        return self._start(head, worker)

    def _comes_next(self, task: Task, worker: int) -> bool:
        """Whether a worker that is free may take a task that is not queued yet before all that is."""
        seat, target = self.workers[worker], task.kind.target
        if task.kind.ranks > 1 or target.place not in (*seat.places, (worker, None, None)):
            return False
        first = self.ready.first_for(worker, seat)
        return first is None or position(task) < position(first)

    def _fill(self, worker: int) -> list[Command]:
        """Give a worker tasks in advance while all that it holds is short; the last go to whoever is free first."""
        commands: list[Command] = []
        held, ready, workers = self.running[worker], self.ready, len(self.workers)
        if len(held) > MOST_TASKS // 2 or ready.calls <= workers * len(held):
            return commands
        seconds = sum(map(self.pieces.expected, held))
        while seconds < (ADVANCE_SECONDS if len(held) == 1 else PIECE_SECONDS):
            command = self._next(worker)
            if command is None:
                break
            commands.append(command)
            if len(held) == MOST_TASKS or ready.calls <= workers * len(held):
                break
            seconds += self.pieces.expected(command.task)
        return commands

    def _cut(self, task: Task, takers: int) -> tuple[Task, Task | None]:
        """The piece of a run that goes to one of so many takers, and what is left."""
        if task.count == 1 or (task.kind.chained and self.pieces.whole_chains):
            return task, None
        if task.kind.chained:
            size = self.pieces.largest(task.kind.function, len(self.workers))
        else:
            size = self.pieces.size(task.kind.function, task.count + self.ready.calls, len(self.workers))
            size = min(size, -(-task.count // max(1, takers)))
        if size >= task.count:
            return task, None
        head, rest = task.part(0, size), task.part(size, task.count)
        if task.kind.chained:
            self._dependencies.add_rest(rest)
            return head, None
        return head, rest

    def _start(self, task: Task, worker: int) -> StartTask:
        task.attempt += 1
        held = self.running.setdefault(worker, [])
        held.append(task)
        self._sharing.note(worker, held, more=True)
        return StartTask(worker, task, task.attempt)

    def _add_parallel(self, task: Task) -> list[Command]:
        self.ready.push(task)
        while (worker := self.waiting.find(task)) is not None:
            self.waiting.remove(worker)
            if gang := self.waiting.gather(task, worker):
                return self._start_parallel(task, gang)
        return []

    def _start_parallel(self, task: Task, gang: list[int]) -> list[Command]:
        self.ready.remove(task)
        task.attempt += 1
        self.gangs[task.id] = Gang(set(gang), gang[0])
        for worker in gang:
            self.running[worker] = [task]
        return [StartTask(worker, task, task.attempt, tuple(gang)) for worker in gang]

    def _recall(self) -> list[Command]:
        """Ask a worker to share."""
        worker = self._sharing.ask()
        return [] if worker is None else [RecallTasks(worker)]

    def _count(self, place: Place) -> int:
        """How many workers of the job are in a place."""
        return self._present[place] if place[0] is None else int(place[0] in self.workers)


def _take(holders: dict[int, list[Task]], worker: int, task_id: int, attempt: int) -> Task | None:
    for task in holders.get(worker, ()):
        if task.id == task_id and task.attempt == attempt:
            holders[worker].remove(task)
            if not holders[worker]:
                del holders[worker]
            return task
    return None
