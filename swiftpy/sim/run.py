"""One simulation: the server's client that counts, and what is told about the job."""

from __future__ import annotations

import math
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import cast

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Seat, TaskState
from swiftpy.runtime.call import Payload
from swiftpy.runtime.server import JobClient, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.sim.cluster import Cluster
from swiftpy.sim.work import Work


class Tally(JobClient):
    """A client of the server that only counts outcomes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.outcomes: Counter[TaskState] = Counter()

    def payload(self, command: StartTask) -> Payload:
        """See Client: here, the indices of the calls."""
        return cast(Payload, self._cluster.payload(command.task.payload))

    def resolved(self, report: ReportOutcome) -> None:
        """See Client."""
        self.outcomes[report.state] += report.task.count - len(report.failed)


@dataclass(frozen=True)
class Result:
    """What came of a simulation. Times are virtual seconds, but for `server`, `wall` and `cpu`; memory is in MB.

    `bound`: no schedule could end before. `busy`: which part of the workers' time they worked. `tail`: from the last
    start of a task to the end. `server`: seconds of CPU that scheduler and server loop took; `wall` and `cpu`: seconds
    that the simulation took.
    """

    workers: int
    calls: int
    done: int
    failed: int
    left: int
    attempts: int
    makespan: float
    bound: float
    busy: float
    tail: float
    messages: int
    handlings: float
    server: float
    wall: float
    cpu: float
    memory: float

    @property
    def server_per_call(self) -> float:
        """CPU seconds of the server for one call."""
        return self.server / self.calls

    @property
    def most_workers(self) -> float:
        """For how many workers with such work one server is enough: it would be busy all the time."""
        return self.workers * self.makespan / self.server if self.server else math.inf


def simulate(
    cluster: Cluster, seats: dict[int, Seat], work: Work, grace: float = 60.0, walltime: float = math.inf
) -> Result:
    """Run the work to its end."""
    began, cpu_began = time.perf_counter(), time.process_time()
    tally = Tally(cluster)
    server = Server(cluster, Scheduler(seats, cluster.groups), tally, StopRequest(), grace, cluster.clock, walltime)
    server.run(work.tasks())
    outcomes = tally.outcomes
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return Result(
        workers=len(seats),
        calls=len(work.seconds),
        done=outcomes[TaskState.DONE],
        failed=outcomes[TaskState.FAILED],
        left=outcomes[TaskState.INTERRUPTED],
        attempts=cluster.started,
        makespan=cluster.now,
        bound=work.bound(len(seats)),
        busy=cluster.busy_seconds / (len(seats) * cluster.now) if cluster.now else 0.0,
        tail=cluster.now - cluster.last_start,
        messages=cluster.messages,
        handlings=cluster.handlings,
        server=cluster.server_seconds * cpu / wall,  # asked for at each message, CPU time costs system calls
        wall=wall,
        cpu=cpu,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
