"""The server's loop, with messages in an order that real ranks seldom produce."""

import pytest
from queues import QueueTransport

from swiftpy.core.events import (
    KillTask,
    StopWorker,
    SubmissionClosed,
    TaskFinished,
    TaskKilled,
    TaskSubmitted,
    WorkerReady,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat, Task, TaskState
from swiftpy.runtime.server import BATCH, PATIENCE, Loop, Server
from swiftpy.runtime.signals import StopRequest


class Submits:
    """A client that, asked by a worker, submits a call that needs all that is unresolved so far."""

    def __init__(self):
        self.unresolved, self.next_id = {0}, 1

    def started(self, command): ...

    def payload(self, command):
        return b""

    def resolved(self, report):
        assert report.state is TaskState.DONE or report.error.kind == "lost"
        self.unresolved.discard(report.task.id)

    def commit(self): ...

    def heard(self, message):
        id, after = self.next_id, sorted(self.unresolved)
        self.next_id += 1
        self.unresolved.add(id)
        return [TaskSubmitted(Task(id, Kind("f"), [id], after=after))]

    def tick(self): ...

    def draining(self, reason): ...

    def seconds_needed(self):
        return 0.0


def test_a_client_that_hears_a_message_knows_what_came_before_it():
    """Else it would submit a call that needs the result of one that has ended: nobody would start it."""
    server, worker = QueueTransport.group(2)
    client = Submits()
    loop = Loop(server, Scheduler({1: Seat("a")}), client)
    loop.take([TaskSubmitted(Task(0, Kind("f"), [0]))])
    worker.send(0, WorkerReady(1))
    loop.progress(1.0)
    assert worker.recv(0).task_id == 0
    worker.send(0, TaskFinished(1, 0, 1, b"", 0.0))
    worker.send(0, "please submit")
    assert loop.progress(1.0)
    assert worker.recv(0).task_id == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_a_job_that_ends_early_is_aborted_only_if_a_worker_does_not_end(hangs):
    """The program may take its time after Ctrl-C; the workers, which are through, wait for it."""
    transport, worker = QueueTransport.group(2)
    stop, now = StopRequest(), [0.0]
    server = Server(transport, Scheduler({1: Seat("a")}), Submits(), stop, grace=0.0, clock=lambda: now[0])
    worker.send(0, WorkerReady(1))
    server.progress(1.0)
    if hangs:
        server.take([TaskSubmitted(Task(0, Kind("f"), [0]))])
    stop.reason = "SIGINT"
    server.progress(0.0)
    now[0] = 20.0
    server.progress(0.0)
    server.progress(0.0)
    server.take([SubmissionClosed()])
    assert server.clean is not hangs
    if not hangs:
        assert type(worker.recv(0)) is StopWorker


class SlowDisk(Submits):
    """Each fsync takes longer than workers have to end."""

    def __init__(self, now):
        super().__init__()
        self._now = now

    def resolved(self, report): ...

    def commit(self):
        self._now[0] += 2 * PATIENCE


def test_workers_that_ended_while_the_disk_kept_the_server_are_not_given_up():
    """Their answers are there: more than are taken in at once."""
    stop, now, ranks = StopRequest(), [0.0], range(1, BATCH + 11)
    transport, *workers = QueueTransport.group(1 + len(ranks))
    scheduler = Scheduler({rank: Seat("a") for rank in ranks})
    server = Server(transport, scheduler, SlowDisk(now), stop, grace=0.0, clock=lambda: now[0])
    server.take([*(TaskSubmitted(Task(number, Kind("f"), [number])) for number in ranks), SubmissionClosed()])
    server.take([WorkerReady(rank) for rank in ranks])
    stop.reason = "SIGTERM"
    while scheduler.busy:
        server.progress(0.0)
        for worker in workers:
            while message := worker.recv(0):
                if type(message) is KillTask:
                    worker.send(0, TaskKilled(worker.rank, message.task_id, message.attempt, 1.0))
    assert server.clean
