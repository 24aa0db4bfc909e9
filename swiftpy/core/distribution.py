"""Who runs what when several servers have the workers: matches ready tasks with servers that ask for work.

Each server schedules its own workers by itself (`placement`), and keeps some work in hand so that it need not wait for
more: it asks for pieces before it runs out. When a server has idle workers and nothing is ready here, another one is
asked for what it has not given to its workers: work stealing, with this side as the broker.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.events import (
    Command,
    DrainRequested,
    GraceExpired,
    InterruptRequested,
    InterruptTask,
    KillTask,
    PassOn,
    RecallTasks,
    StartTask,
)
from swiftpy.core.gang import Gang
from swiftpy.core.pieces import MOST_CALLS, Pieces
from swiftpy.core.queue import ReadyQueue
from swiftpy.core.sharing import Sharing
from swiftpy.core.task import EVERYWHERE, Place, Seat, Target, Task


class Distribution:
    """What servers hold, what they asked for, and what is ready. Takes the place of a `Placement`.

    `groups` maps the rank of each server to its workers. Tasks with a hard target, and parallel ones, are sent at once,
    each to a server whose workers can run it, and stay there; all others wait here until a server wants them. What ends
    at a server ends in parts, in any order (see `events.Share`).
    """

    def __init__(self, groups: Mapping[int, Mapping[int, Seat]], dependencies: Dependencies) -> None:
        self.workers = {server: next(iter(seats.values())) for server, seats in groups.items()}
        self.lost: dict[int, Seat] = {}
        self.size = sum(map(len, groups.values()))
        self._dependencies = dependencies
        self._group_size = max(map(len, groups.values()))
        self._present: dict[int, Counter[Place]] = {}
        for server, seats in groups.items():
            own: list[Place] = [(rank, None, None) for rank in seats]
            self._present[server] = Counter([*own, *(place for seat in seats.values() for place in seat.places)])
        self.ready = ReadyQueue()
        self.wanted: OrderedDict[int, int] = OrderedDict()  # server -> pieces; those with idle workers come first
        self.hungry: set[int] = set()  # the servers that have idle workers
        self.stuck: set[int] = set()  # those that wait for tasks which they do not have
        self.running: dict[int, dict[int, Task]] = {}  # server -> what it holds, by id
        self._ids: dict[int, list[int]] = {server: [] for server in groups}  # of what it holds, sorted
        self._calls: Counter[int] = Counter()  # that a server holds
        self.gangs: dict[int, Gang] = {}
        self.pieces = Pieces()
        self._sharing = Sharing()

    @property
    def empty(self) -> bool:
        """Whether no task is ready or with a server."""
        return not (self.running or self.ready)

    @property
    def busy(self) -> list[int]:
        """The servers that hold a task."""
        return list(self.running)

    @property
    def stalled(self) -> list[Task] | None:
        """What it has, if all of it waits for other tasks; None if something can go on."""
        if self.ready or not self.stuck.issuperset(self.running):
            return None
        return [task for _, task in self.held()]

    def lacks(self, task: Task) -> str | None:
        """What a task wants that no server has; None if one has it."""
        target, ranks = task.kind.target, task.kind.ranks
        most = max((self._count(server, task) for server in self.workers), default=0)
        if most >= ranks:
            return None
        if ranks == 1:
            return f"it wants {target}"
        return f"it wants {ranks} workers ({target}) of one server, of which there are {most} at most"

    def held(self) -> Iterator[tuple[int, Task]]:
        """Each server with each task, or what is left of it, that it holds."""
        for server, tasks in self.running.items():
            for task in tasks.values():
                yield server, task

    def add(self, task: Task) -> list[Command]:
        """A task is ready: give it to the servers that want work, and queue what is left."""
        if not task.kind.anywhere:
            return self._send_there(task)
        target = task.kind.target
        rest: Task | None = task
        commands: list[Command] = []
        while rest is not None and self.wanted:
            head, rest, pieces = self._cut(rest, server := self._taker(target))
            commands.append(self._start(head, server, pieces))
        if rest is not None:
            self.ready.push(rest)
        return commands

    def want(self, server: int, pieces: int, idle: bool) -> list[Command]:
        """A server asks for so many more pieces."""
        if server in self.lost:
            return []
        if pieces:
            self.wanted[server] = self.wanted.get(server, 0) + pieces
        if idle and server in self.wanted:  # else what it wants is on its way
            self.hungry.add(server)
            self.wanted.move_to_end(server, last=False)
        commands = self.feed(server)
        return commands + self._recall() if server in self.hungry else commands

    def feed(self, server: int) -> list[Command]:
        """Give a server what it wants, of what there is."""
        commands: list[Command] = []
        while server in self.wanted:
            task = self.ready.first_for(server, self.workers[server])
            if task is None:
                break
            self.ready.remove(task)
            head, rest, pieces = self._cut(task, server)
            if rest is not None:
                self.ready.push(rest)
            commands.append(self._start(head, server, pieces))
        return commands

    def feed_after(self, server: int, freed: list[Task]) -> list[Command]:
        """A server's results made these tasks ready."""
        return [command for task in freed for command in self.add(task)]

    def release(self, server: int, task_id: int, attempt: int, calls: int) -> Task | None:
        """So many calls from `task_id` on have ended at a server, which keeps the others of their task."""
        ids, held = self._ids[server], self.running.get(server, {})
        at = bisect_right(ids, task_id) - 1
        task = held.get(ids[at]) if at >= 0 else None
        if task is None or task.attempt != attempt or task_id + calls > task.id + task.count:
            return None
        self._calls[server] -= calls
        del ids[at], held[task.id]
        first = task_id - task.id
        for start, stop in ((0, first), (first + calls, task.count)):
            if start < stop:
                left = task.part(start, stop)
                held[left.id] = left
                insort(ids, left.id)
        if not held:
            self.running.pop(server)
        self._note(server)
        return task if calls == task.count else task.part(first, first + calls)

    def recall_answered(self, server: int) -> list[Command]:
        """A server gave back what it could. If another has idle workers still, ask the next."""
        self._sharing.answered(server, self._some_of(server))
        return self._recall() if self.hungry else []

    def recall_all(self) -> list[Command]:
        """The job is ending: servers shall start nothing more."""
        return [PassOn(server, DrainRequested("rank 0 said so")) for server in self.workers]

    def end(self, how: type[InterruptTask | KillTask]) -> list[Command]:
        """Let all that runs be interrupted, or killed."""
        event = InterruptRequested() if how is InterruptTask else GraceExpired()
        return [PassOn(server, event) for server in self.workers]

    def lose(self, server: int) -> tuple[list[Task], list[Task]]:
        """A server is gone, and what it held, none of which anybody knows not to have begun."""
        self.lost[server] = self.workers.pop(server)
        self.wanted.pop(server, None)
        self.hungry.discard(server)
        self._sharing.forget(server)
        return list(self.running.pop(server, {}).values()), []

    def orphans(self, server: int) -> list[Task]:
        """The ready tasks that nobody can run since this server was lost, which are taken out."""
        return [] if self.workers else self.ready.pop_all()

    def disband(self, tasks: Iterable[Task]) -> list[Command]:
        """Nobody gathers here."""
        return []

    # -- details -----------------------------------------------------------------------------------------------

    def _count(self, server: int, task: Task) -> int:
        """How many workers of a server may run a task."""
        target = task.kind.target
        return self._present[server][EVERYWHERE if target.soft else target.place]

    def _taker(self, target: Target) -> int:
        """Which of the servers that want work gets a task.

        One with idle workers, if there is one, be it far from a soft target: else what it stole from a near one, which
        wants more, would go there again and again.
        """
        first = next(iter(self.wanted))
        if not target.soft:
            return first
        near = (server for server in self.hungry or self.wanted if self._present[server][target.place])
        return next(near, first)

    def _cut(self, task: Task, server: int) -> tuple[Task, Task | None, int]:
        """What a server gets of a task, what is left, and how many pieces the former is."""
        if task.kind.chained:
            return *self._cut_chain(task), 1
        waiting = (task.count + self.ready.calls) // len(self.workers)
        size = self.pieces.size(task.kind.function, waiting, self._group_size)
        pieces = -(-task.count // size)
        fair = -(-pieces // len(self.wanted))
        given = min(pieces, fair, self.wanted[server])
        if given == pieces:
            return task, None, pieces
        return task.part(0, given * size), task.part(given * size, task.count), given

    def _cut_chain(self, task: Task) -> tuple[Task, None]:
        """The first part of a chain; the others wait for it."""
        if task.count <= MOST_CALLS:
            return task, None
        head, rest = task.part(0, MOST_CALLS), task.part(MOST_CALLS, task.count)
        self._dependencies.add_rest(rest)
        return head, None

    def _send_there(self, task: Task) -> list[Command]:
        """Send a task to the servers that can run it, in proportion to their workers of the kind that it wants."""
        commands: list[Command] = []
        load = {
            server: self._calls[server] / self._count(server, task)
            for server in self.workers
            if self._count(server, task) >= task.kind.ranks
        }
        servers = sorted(load, key=lambda server: (load[server], server))
        rest = task
        while len(servers) > 1 and rest.count > 1 and not task.kind.chained:
            fair = -(-rest.count * self._count(servers[0], task) // sum(self._count(s, task) for s in servers))
            if fair >= rest.count:
                break
            head, rest = rest.part(0, fair), rest.part(fair, rest.count)
            commands.append(self._start(head, servers.pop(0), 0))
        return [*commands, self._start(rest, servers[0], 0)]

    def _start(self, task: Task, server: int, pieces: int) -> StartTask:
        task.attempt += 1
        if task.kind.ranks > 1:
            self.gangs[task.id] = Gang({server}, server)
        self.running.setdefault(server, {})[task.id] = task
        insort(self._ids[server], task.id)
        self._calls[server] += task.count
        self._note(server, more=True)
        if pieces:
            self.hungry.discard(server)
            left = self.wanted.pop(server) - pieces
            if left > 0:
                self.wanted[server] = left  # behind the others
        return StartTask(server, task, task.attempt, pieces=pieces)

    def _note(self, server: int, more: bool = False) -> None:
        self._sharing.note(server, self._some_of(server), more)

    def _some_of(self, server: int) -> list[Task]:
        """Enough of what a server holds to see whether it could give something back."""
        return list(islice(self.running.get(server, {}).values(), 2))

    def _recall(self) -> list[Command]:
        """Ask a server to share, on behalf of those with idle workers."""
        server = self._sharing.ask()
        return [] if server is None else [RecallTasks(server)]
