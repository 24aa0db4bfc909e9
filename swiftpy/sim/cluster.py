"""The simulated workers, which are the server's transport: waiting for a message advances the virtual clock."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from swiftpy.core.events import (
    InterruptTask,
    KillTask,
    RecallAnswered,
    RecallTasks,
    StopWorker,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskReturned,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.task import Seat
from swiftpy.errors import TaskError
from swiftpy.runtime.order import Order, Report
from swiftpy.runtime.server import BATCH
from swiftpy.runtime.transport import SERVER, Transport
from swiftpy.sim.conditions import LATEST, Conditions


def weight(message: Any) -> float:
    """How many messages' handling one costs: half of it is for the events in it, of which there may be many."""
    events = message.messages if type(message) is Report else message
    return (1 + len(events)) / 2 if type(events) is list else 1.0


class _Worker:
    """What a worker holds: the order that it is at, those that wait, and what will become of the current one."""

    __slots__ = ("began", "current", "ends", "failures", "made", "waiting")

    def __init__(self) -> None:
        self.current: Order | None = None
        self.waiting: deque[tuple[float, Order]] = deque()  # (when it arrived, order)
        self.began = self.ends = 0.0
        self.made: int | None = None
        self.failures: tuple[tuple[int, TaskError], ...] = ()


class Cluster(Transport):
    """All workers of a job: the transport of the server's rank.

    An order's payload is the indices of its calls in `seconds`, which says how long each takes.
    """

    rank = SERVER
    #: The workers of each server beside this one.
    groups: Mapping[int, Mapping[int, Seat]] = {}

    def __init__(self, seats: Mapping[int, Seat], seconds: Sequence[float], conditions: Conditions) -> None:
        self._seconds = seconds
        self._faults = conditions.faults
        self._random = random.Random(conditions.seed)
        self._latency, self._handling, self._obeys = conditions.latency, conditions.handling, conditions.obeys
        self._workers = {rank: _Worker() for rank in seats}
        self._coming: list[tuple[float, int, int, Any]] = []  # heap of (when, order, worker, what)
        self._number = itertools.count()
        self._sent: deque[tuple[int, Any]] = deque()
        self._inbox: deque[Any] = deque()
        self._mark = perf_counter()
        self.now = 0.0
        self.dead: set[int] = set()
        self.hung: set[int] = set()
        self.stopped: set[int] = set()
        self.started = 0  # attempts
        self.last_start = 0.0
        self.busy_seconds = 0.0  # of all workers
        self.messages = 0
        self.handlings = 0.0  # what they cost, in messages' handling
        self.server_seconds = 0.0  # of real time
        for rank in seats:
            late = self._faults.late > 0 and self._random.random() < self._faults.late
            self._at(self._random.uniform(0, LATEST) if late else 0.0, rank, WorkerReady(rank))

    def clock(self) -> float:
        """The virtual time."""
        return self.now

    def payload(self, calls: Sequence[int]) -> Any:
        """What stands for these calls in a message."""
        return calls

    # -- the transport -----------------------------------------------------------------------------------------

    def send(self, dest: int, message: Any) -> None:
        """See Transport. What it leads to is worked out in `recv`, so as not to count as the server's time."""
        for each in message if type(message) is list else (message,):
            assert dest not in self.stopped, f"{each} after StopWorker"
            if type(each) is StopWorker:
                worker = self._workers[dest]
                assert worker.current is None or dest in self.hung, f"worker {dest} was stopped at work"
                self.stopped.add(dest)
        self.messages += 1
        self._sent.append((dest, message))

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """See Transport."""
        if not self._inbox and timeout > 0:
            self.server_seconds += perf_counter() - self._mark
            self._deliver()
            self._wait(timeout)
            self._mark = perf_counter()
        return self._inbox.popleft() if self._inbox else None

    def _deliver(self) -> None:
        """Let the workers have what the server sent."""
        while self._sent:
            rank, message = self._sent.popleft()
            handlings = weight(message)
            self.now += handlings * self._handling
            self.handlings += handlings
            for each in message if type(message) is list and rank in self._workers else (message,):
                self._post(self.now, rank, each)

    def _post(self, sent: float, rank: int, message: Any) -> None:
        """A server has sent a worker something."""
        if type(message) is not Order:
            self._at(sent + self._latency, rank, message)
        elif rank not in self.dead:
            self._take(rank, message, sent + self._latency)

    def _wait(self, timeout: float) -> None:
        """Advance the clock until messages come, or so far; the messages are those of one moment."""
        until = self.now + timeout
        coming, inbox = self._coming, self._inbox
        while coming and coming[0][0] <= (self.now if inbox else until) and len(inbox) < BATCH:
            when, _, rank, what = heapq.heappop(coming)
            self.now = max(self.now, when)
            self._happen(when, rank, what)
        self.messages += len(inbox)
        self.handlings += len(inbox)
        self.now = self.now + len(inbox) * self._handling if inbox else until

    def _tell(self, rank: int, message: Any) -> None:
        """A worker's message has arrived at its server."""
        self._inbox.append(message)

    def _at(self, when: float, rank: int, what: Any) -> None:
        heapq.heappush(self._coming, (when, next(self._number), rank, what))

    # -- the workers -------------------------------------------------------------------------------------------

    def _happen(self, when: float, rank: int, what: Any) -> None:
        """Something planned comes to pass: an order ends, or a message arrives here or there."""
        worker = self._workers[rank]
        if type(what) is Order:
            if worker.current is what and rank not in self.hung:  # else it was killed, cut or lost meanwhile
                self._end(rank, worker, what)
        elif isinstance(what, WorkerReady):
            self.dead.discard(rank)
            self._tell(rank, what)
        elif rank in self.dead:
            pass
        elif isinstance(what, WorkerLost):
            self._die(rank, worker, what)
        elif isinstance(what, RecallTasks | InterruptTask | KillTask):
            if rank not in self.hung:
                self._obey(when, rank, worker, what)
        elif not isinstance(what, StopWorker):
            self._tell(rank, what)

    def _take(self, rank: int, order: Order, arrived: float) -> None:
        worker = self._workers[rank]
        self.started += 1
        self.last_start = arrived
        if worker.current is None:
            self._begin(rank, worker, order, arrived)
        else:
            worker.waiting.append((arrived, order))

    def _begin(self, rank: int, worker: _Worker, order: Order, when: float) -> None:
        worker.current, worker.began = order, when
        worker.made, worker.failures = None, ()
        seconds = [self._seconds[call] for call in order.payload]
        faults = self._faults
        if faults.fail or faults.die or faults.hang:
            for index in range(len(seconds)):
                fate = self._random.random()
                if fate < faults.fail:
                    error = TaskError("exception", "made to fail", rank=rank)
                    worker.failures += ((index, error),)
                    if order.chained:
                        worker.made = index + 1
                        del seconds[index + 1 :]
                        break
                elif fate < faults.fail + faults.die:
                    del seconds[index + 1 :]
                    seconds[-1] /= 2
                    self._at(when + sum(seconds), rank, WorkerLost(rank, "it was made to die"))
                    worker.ends = math.inf
                    return
                elif fate < faults.fail + faults.die + faults.hang:
                    seconds[index] += faults.stuck
        worker.ends = when + sum(seconds)
        if worker.ends == math.inf:
            self.hung.add(rank)
        else:
            self._at(worker.ends + self._latency, rank, order)

    def _end(self, rank: int, worker: _Worker, order: Order) -> None:
        """What the worker was at has ended, and its message arrives; meanwhile it went on with the next."""
        seconds = worker.ends - worker.began
        self.busy_seconds += seconds
        if worker.failures and len(order.payload) == 1:
            error = worker.failures[0][1]
            self._tell(rank, TaskFailed(rank, order.task_id, order.attempt, error, seconds))
        else:
            ended = TaskFinished(rank, order.task_id, order.attempt, b"", seconds, worker.made, worker.failures)
            self._tell(rank, ended)
        self._go_on(rank, worker, worker.ends)

    def _go_on(self, rank: int, worker: _Worker, when: float) -> None:
        worker.current = None
        if worker.waiting:
            arrived, order = worker.waiting.popleft()
            self._begin(rank, worker, order, max(when, arrived))

    def _die(self, rank: int, worker: _Worker, event: WorkerLost) -> None:
        self.busy_seconds += self.now - worker.began
        self.dead.add(rank)
        worker.current = None
        worker.waiting.clear()
        self._tell(rank, event)
        if self._faults.back < math.inf:
            self._at(self.now + self._faults.back, rank, WorkerReady(rank))

    def _obey(self, when: float, rank: int, worker: _Worker, message: RecallTasks | InterruptTask | KillTask) -> None:
        current = worker.current
        if isinstance(message, RecallTasks):
            self._give_back(when, rank, worker)
        elif current is None or (current.task_id, current.attempt) != (message.task_id, message.attempt):
            return
        elif isinstance(message, KillTask):
            seconds = when - worker.began
            self.busy_seconds += seconds
            self._at(when + self._latency, rank, TaskKilled(rank, current.task_id, current.attempt, seconds))
            self._go_on(rank, worker, when)
        elif self._obeys is not None and when + self._obeys < worker.ends:
            worker.current = stopped = current._replace(label="asked to stop")
            worker.ends = when + self._obeys
            self._at(worker.ends + self._latency, rank, stopped)

    def _give_back(self, when: float, rank: int, worker: _Worker) -> None:
        """Return what has not begun. An order that ended on its way here has nothing, and the next has begun."""
        current = worker.current
        if current is not None and when < worker.ends < math.inf:
            kept, ends = 1, worker.began + self._seconds[current.payload[0]]
            while ends <= when and kept < len(current.payload):
                ends += self._seconds[current.payload[kept]]
                kept += 1
            if kept < len(current.payload) and not current.chained and not worker.failures:
                worker.current = current._replace(payload=current.payload[:kept])
                worker.ends = ends
                self._at(ends + self._latency, rank, worker.current)
                self._answer(when, rank, TaskReturned(rank, current.task_id, current.attempt, kept))
            while worker.waiting:
                _, order = worker.waiting.popleft()
                self._answer(when, rank, TaskReturned(rank, order.task_id, order.attempt, 0))
        self._answer(when, rank, RecallAnswered(rank))

    def _answer(self, when: float, rank: int, message: Any) -> None:
        self._at(when + self._latency, rank, message)
