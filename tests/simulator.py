"""A whole job under a virtual clock (`swiftpy.sim`), watched: its invariants, and what the client is told."""

from invariants import check

from swiftpy.core.events import InterruptTask
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import FINAL_STATES, Kind, Seat, Task
from swiftpy.runtime.order import Order
from swiftpy.runtime.server import Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.sim.cluster import Cluster
from swiftpy.sim.conditions import Conditions, Faults
from swiftpy.sim.groups import GroupCluster, divide


def tasks(count, each=1, after=lambda first: (), **kind):
    """So many calls, `each` in a run; `after` says what the run that begins with a call needs."""
    kind = Kind("m:f", **kind)
    return [Task(i, kind, range(i, i + each), each, after(i)) for i in range(0, count, each)]


class Watched:
    """A job whose task i takes `duration` seconds, drawn from this range; `stop_at`: when a SIGTERM comes."""

    def __init__(self, workers, seed, faults=None, duration=(1.0, 100.0), tasks=1000, **how):
        seats = {rank: Seat(f"node{rank // 4}") for rank in range(1, workers + 1)}
        super().__init__(self.arrange(seats), [0.0] * tasks, Conditions(faults or Faults(), seed, **how))
        self._seconds[:] = (self._random.uniform(*duration) for _ in range(tasks))
        self.scheduler = Scheduler(seats, self.groups)
        self.stop = StopRequest()
        self.stop_at = float("inf")
        self.starts = []  # (time, worker, task id, attempt)
        self.asked = []  # times at which a task was asked to stop

    def run(self, client, tasks, grace=60.0, walltime=float("inf")):
        server = Server(self, self.scheduler, client, self.stop, grace, self.clock, walltime)
        server.run(tasks)
        return server.clean

    def recv(self, timeout, also=()):
        message = super().recv(timeout, also)
        if message is not None:
            self.check()
        if self.now >= self.stop_at:
            self.stop.reason = "SIGTERM"
        return message

    def check(self):
        check(self.scheduler)

    def send(self, worker, message):
        if isinstance(message, Order):
            self.starts.append((self.now, worker, message.task_id, message.attempt))
        elif isinstance(message, InterruptTask):
            self.asked.append(self.now)
        super().send(worker, message)


class Simulation(Watched, Cluster):
    """One server has the workers."""

    def arrange(self, seats):
        return seats


class GroupSimulation(Watched, GroupCluster):
    """Three servers share the workers."""

    def arrange(self, seats):
        return divide(seats, 3)

    def check(self):
        super().check()
        for server in self.servers.values():
            check(server._scheduler)


class Recorder:
    """A client that checks the order in which it is told things."""

    def __init__(self, job=None):
        self.job = job
        self.final = {}  # id of a call -> state
        self.attempts = {}
        self.uncommitted = 0
        self.drained = None
        self.needs = 0.0

    def started(self, command):
        for call in range(command.task.id, command.task.id + command.task.count):
            assert call not in self.final
            assert command.attempt > self.attempts.get(call, 0) or command.gang
            self.attempts[call] = command.attempt
        self.uncommitted += 1

    def payload(self, command):
        return command.task.payload if self.job is None else self.job.payload(command.task.payload)

    def resolved(self, report):
        for index in range(report.task.count):
            call = report.task.id + index
            if report.state in FINAL_STATES and index not in report.failed:
                assert call not in self.final, "an outcome after the final one"
                self.final[call] = report.state
        self.uncommitted += 1

    def commit(self):
        self.uncommitted = 0

    def heard(self, message):
        raise AssertionError(message)

    def draining(self, reason):
        assert self.drained is None
        self.drained = reason

    def tick(self):
        assert self.uncommitted == 0

    def seconds_needed(self):
        return self.needs
