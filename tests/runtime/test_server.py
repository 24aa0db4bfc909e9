"""The server's loop, with messages in an order that real ranks seldom produce."""

from swiftpy.core.events import TaskFinished, TaskSubmitted, WorkerReady
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Site, Task, TaskState
from swiftpy.runtime.server import Loop
from swiftpy.runtime.transport import QueueTransport


class Submits:
    """A client that, asked by a worker, submits a call that needs all that is unresolved so far."""

    def __init__(self):
        self.unresolved, self.next_id = {0}, 1

    def started(self, command): ...

    def payload(self, command):
        return b""

    def resolved(self, report):
        assert report.state is TaskState.DONE
        self.unresolved.discard(report.task.id)

    def commit(self): ...

    def heard(self, message):
        id, after = self.next_id, sorted(self.unresolved)
        self.next_id += 1
        self.unresolved.add(id)
        return [TaskSubmitted(Task(id, Kind("f"), [id], after=after))]

    def tick(self): ...


def test_a_client_that_hears_a_message_knows_what_came_before_it():
    """Else it would submit a call that needs the result of one that has ended: nobody would start it."""
    server, worker = QueueTransport.group(2)
    client = Submits()
    loop = Loop(server, Scheduler({1: Site("a")}), client)
    loop.take([TaskSubmitted(Task(0, Kind("f"), [0]))])
    worker.send(0, WorkerReady(1))
    loop.progress(1.0)
    assert worker.recv(0).task_id == 0
    worker.send(0, TaskFinished(1, 0, 1, b"", 0.0))
    worker.send(0, "please submit")
    assert loop.progress(1.0)
    assert worker.recv(0).task_id == 1
