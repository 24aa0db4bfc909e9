"""Server and workers as threads that exchange messages through queues."""

import pickle
import threading
import time

from simulator import Recorder
from swiftpy.core.events import WorkerReady
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Target, Task, TaskState
from swiftpy.runtime.call import pack
from swiftpy.runtime.executors import InlineExecutor
from swiftpy.runtime.server import Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.transport import QueueTransport
from swiftpy.runtime.worker import Worker


class Values(Recorder):
    def __init__(self):
        super().__init__()
        self.values = {}

    def resolved(self, report):
        super().resolved(report)
        if report.state is TaskState.DONE:
            self.values[report.task.id] = (report.worker, pickle.loads(report.value))


def run(tasks, workers=3, stop_reason=lambda: None):
    transports = QueueTransport.group(workers + 1)
    threads = [
        threading.Thread(target=Worker(t, InlineExecutor("here", t.rank), stop_reason).run) for t in transports[1:]
    ]
    for thread in threads:
        thread.start()
    client = Values()
    scheduler = Scheduler({w: f"node{w}" for w in range(1, workers + 1)})
    assert Server(transports[0], scheduler, client, StopRequest(), 1.0, time.monotonic).run(tasks)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    late = transports[0].recv(0)
    assert late is None or isinstance(late, WorkerReady), f"a message was left unexamined: {late}"
    return client


def test_values_come_back():
    client = run([Task(i, "operator:mul", pack(i, i)) for i in range(100)])
    assert {i: value for i, (_, value) in client.values.items()} == {i: i * i for i in range(100)}


def test_targets_are_kept():
    tasks = [Task(i, "time:sleep", pack(0.001), target=Target(rank=1 + i % 3)) for i in range(30)]
    tasks += [Task(30 + i, "time:sleep", pack(0.001), target=Target(node="node2")) for i in range(10)]
    tasks.append(Task(40, "time:sleep", pack(0), target=Target(node="nowhere")))
    client = run(tasks)
    assert all(client.values[i][0] == 1 + i % 3 for i in range(30))
    assert all(client.values[30 + i][0] == 2 for i in range(10))
    assert client.final[40] is TaskState.FAILED


def test_a_worker_that_gets_the_signal_tells_the_server():
    since = time.monotonic()
    client = run(
        [Task(i, "time:sleep", pack(0.05)) for i in range(100)],
        stop_reason=lambda: "SIGTERM" if time.monotonic() - since > 0.3 else None,
    )
    assert client.drained == "SIGTERM"
    assert {TaskState.DONE, TaskState.INTERRUPTED} == set(client.final.values())
