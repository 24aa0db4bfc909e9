"""A whole job under a virtual clock: the real server loop and scheduler, simulated workers with faults.

`Simulation` is the server's transport. Waiting for a message advances the clock to the next thing that happens, so an
hour of a job takes milliseconds, and the same seed gives the same history.
"""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from swiftpy.core.events import (
    InterruptTask,
    KillTask,
    StartTask,
    StopWorker,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import FINAL_STATES
from swiftpy.errors import TaskError
from swiftpy.runtime.server import Server
from swiftpy.runtime.signals import StopRequest


@dataclass
class Faults:
    """Probabilities per attempt, except `late`: the chance that a worker joins only after up to 100 s."""

    fail: float = 0.0
    hang: float = 0.0  # never answers, not even to KillTask
    die: float = 0.0  # the worker is lost in the middle of the attempt
    late: float = 0.0


@dataclass
class Simulation:
    workers: int
    seed: int
    faults: Faults = field(default_factory=Faults)
    duration: tuple = (1.0, 100.0)
    obedient: bool = False
    rank: int = 0

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.now = 0.0
        self._order = itertools.count()
        self._future = []  # (time, order, message)
        self._current = {}  # worker -> (task id, attempt)
        self._hung = set()
        self.dead = set()
        self.stopped = set()
        self.asked = []  # (time, worker)
        self.started = []  # (time, worker, task id, attempt)
        self.scheduler = Scheduler({w: f"node{w // 4}" for w in range(1, self.workers + 1)})
        self.stop = StopRequest()
        self.stop_at = float("inf")
        for worker in self.scheduler.workers:
            delay = self.random.uniform(0, 100) if self.random.random() < self.faults.late else 0
            self._later(delay, WorkerReady(worker))

    def clock(self):
        return self.now

    def run(self, client, tasks, grace=60.0, walltime=float("inf")):
        server = Server(self, self.scheduler, client, self.stop, grace, self.clock, walltime)
        return server.run(tasks)

    def _later(self, delay, message):
        heapq.heappush(self._future, (self.now + delay, next(self._order), message))

    # -- the transport ------------------------------------------------------------------------------------

    def recv(self, timeout):
        self.scheduler.check()
        until = self.now + timeout
        while self._future and self._future[0][0] <= until:
            when, _, message = heapq.heappop(self._future)
            self.now = max(self.now, when)
            if self._arrives(message):
                return message
        self.now = until
        if self.now >= self.stop_at:
            self.stop.reason = "SIGTERM"
        return None

    def send(self, worker, message):
        assert worker not in self.stopped, "a message after StopWorker"
        if worker in self.dead:
            return
        if isinstance(message, StartTask):
            assert worker not in self._current, "a worker got a second task"
            self._start(worker, message)
        elif isinstance(message, InterruptTask):
            if self._current.get(worker) == (message.task_id, message.attempt) and worker not in self._hung:
                self.asked.append((self.now, worker))
                if self.obedient:  # it writes a checkpoint and returns
                    event = TaskFinished(worker, message.task_id, message.attempt, b"interrupted", 1.0)
                    self._later(2.0, event)
        elif isinstance(message, KillTask):
            if self._current.get(worker) == (message.task_id, message.attempt) and worker not in self._hung:
                del self._current[worker]
                self._later(0.01, TaskKilled(worker, message.task_id, message.attempt, 1.0))
        elif isinstance(message, StopWorker):
            assert worker not in self._current or worker in self._hung, "stopped while working"
            self.stopped.add(worker)

    def abort(self, code):
        raise AssertionError("aborted")

    def _start(self, worker, message):
        task, attempt = message.task, message.attempt
        self.started.append((self.now, worker, task.id, attempt))
        self._current[worker] = (task.id, attempt)
        seconds = self.random.uniform(*self.duration)
        fate = self.random.random()
        for fault, chance in (
            ("fail", self.faults.fail),
            ("hang", self.faults.hang),
            ("die", self.faults.die),
        ):
            if fate < chance:
                break
            fate -= chance
        else:
            fault = None
        if fault == "hang":
            self._hung.add(worker)
        elif fault == "die":
            self._later(seconds / 2, WorkerLost(worker, "its node failed"))
        else:
            ended = (worker, task.id, attempt)
            error = TaskError("exception", "boom", rank=worker)
            event = TaskFailed(*ended, error, seconds) if fault else TaskFinished(*ended, b"value", seconds)
            self._later(seconds, event)

    def _arrives(self, message):
        """Whether a message planned for this moment is really sent, and what that changes at its worker."""
        worker = message.worker
        if worker in self.dead:
            return False
        if isinstance(message, WorkerLost):
            self.dead.add(worker)
        elif isinstance(message, TaskFinished | TaskFailed):
            if self._current.get(worker) != (message.task_id, message.attempt):
                return False  # it was killed meanwhile
            del self._current[worker]
        return True


class Recorder:
    """A client that checks the order in which it is told things."""

    def __init__(self):
        self.final = {}
        self.attempts = {}
        self.uncommitted = 0
        self.drained = None
        self.needs = 0.0

    def started(self, command):
        assert command.task.id not in self.final
        self.attempts[command.task.id] = command.attempt
        self.uncommitted += 1

    def resolved(self, report):
        assert report.task.id not in self.final, "an outcome after the final one"
        if report.state in FINAL_STATES:
            self.final[report.task.id] = report.state
        self.uncommitted += 1

    def commit(self):
        self.uncommitted = 0

    def draining(self, reason):
        assert self.drained is None
        self.drained = reason

    def tick(self):
        assert self.uncommitted == 0

    def seconds_needed(self):
        return self.needs
