"""Server and workers as threads that exchange messages through queues."""

import pickle
import sys
import threading
import time
from types import SimpleNamespace

import cloudpickle
import pytest
from queues import QueueTransport

from simulator import Recorder
from swiftpy.core.events import (
    RecallAnswered,
    RecallTasks,
    StopWorker,
    TaskFinished,
    TaskReturned,
    TaskSuspended,
    WorkerReady,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat, Target, Task, TaskState
from swiftpy.runtime.call import previous
from swiftpy.runtime.executors import InlineExecutor
from swiftpy.runtime.order import Order
from swiftpy.runtime.server import Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.worker import Worker


class Values(Recorder):
    """A task's payload is the list of its calls."""

    def __init__(self):
        super().__init__()
        self.values, self.places, self.errors = {}, {}, {}

    def payload(self, command):
        return None, pickle.dumps(list(command.task.payload)), None

    def resolved(self, report):
        super().resolved(report)
        first = report.task.id
        if report.state is TaskState.DONE:
            for index, value in enumerate(pickle.loads(report.value)):
                if index not in report.failed:
                    self.values[first + index], self.places[first + index] = value, report.worker
        elif report.error is not None:
            self.errors.update({first + index: report.error for index in range(report.task.count)})


class Previous:
    """As an argument, the result of the call before."""

    def __reduce__(self):
        return previous, ()


def packed(*args):
    """A call that is opened when its turn has come."""
    return pickle.dumps((args, {}))


def run(tasks, workers=3, stop_reason=lambda: None):
    transports = QueueTransport.group(workers + 1)
    beside = SimpleNamespace(close=lambda: None, descriptors=())
    threads = [
        threading.Thread(target=Worker(t, InlineExecutor("here", t.rank, None), beside, stop_reason).run)
        for t in transports[1:]
    ]
    for thread in threads:
        thread.start()
    client = Values()
    scheduler = Scheduler({rank: Seat(f"node{rank}") for rank in range(1, workers + 1)})
    server = Server(transports[0], scheduler, client, StopRequest(), 60.0, time.monotonic)
    server.run(tasks)
    assert server.clean
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    # Ready, or asked for calls that it no longer had: both may cross the end.
    late = [message for message in heard_by(transports[0], 0) if not isinstance(message, WorkerReady | RecallAnswered)]
    assert not late, f"messages were left unexamined: {late}"
    return client


def heard_by(transport, seconds=60):
    """The messages that came together."""
    message = transport.recv(seconds)
    return message if type(message) is list else [] if message is None else [message]


def alone():
    """The server's side of the transport of one worker, and the thread that this is."""
    server, transport = QueueTransport.group(2)
    beside = SimpleNamespace(close=lambda: None, descriptors=(), wants=None)
    thread = threading.Thread(target=Worker(transport, InlineExecutor("here", 1, None), beside, lambda: None).run)
    thread.start()
    return server, thread


_gates = {}
_made = []


def hold(name):
    """Until the test opens this gate; a time might be over before the test has done its part."""
    _gates[name].wait(60)


def note():
    time.sleep(0.01)
    _made.append(1)


def sleeps(*seconds, first=0, **kind):
    """One task for each: the calls do not travel together, because their kinds differ."""
    return [Task(first + i, Kind("time:sleep", **kind), [(s,)]) for i, s in enumerate(seconds)]


def test_values_come_back():
    squares = Task(0, Kind("operator:mul"), [(i, i) for i in range(1000)], 1000)
    sums = [Task(1000 + i, Kind("operator:add"), [packed(i, i)]) for i in range(100)]
    client = run([squares, *sums])
    assert client.values == {i: i * i for i in range(1000)} | {1000 + i: 2 * i for i in range(100)}


def test_a_call_that_fails_costs_its_own_result_alone():
    client = run([Task(0, Kind("operator:truediv", retries=1), [(1, i % 7) for i in range(700)], 700)])
    assert client.values == {i: 1 / (i % 7) for i in range(700) if i % 7}
    assert all("ZeroDivisionError" in client.errors[i].message and client.attempts[i] >= 2 for i in range(0, 700, 7))


def close_stdout():
    sys.stdout.close()


def test_a_task_that_closes_its_output_costs_neither_the_rank_nor_the_next_task(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", (tmp_path / "out").open("w"))
    close = Task(0, Kind(f"{__name__}:close_stdout", label="close"), [()])
    client = run([close, Task(1, Kind("builtins:print", label="print"), [("said",)])], workers=1)
    assert client.values == {0: None, 1: None}


def test_a_chain_hands_on_its_results_until_one_fails():
    add = [packed(1, 1)] + [packed(Previous(), 1) for _ in range(499)]
    client = run([Task(0, Kind("operator:add", chained=True), add, 500)])
    assert client.values == {i: 2 + i for i in range(500)}
    divide = [(1, 0), packed(Previous(), 1), packed(Previous(), 1)]
    client = run([Task(0, Kind("operator:truediv", chained=True), divide, 3)])
    assert [client.errors[i].kind for i in range(3)] == ["exception", "cancelled", "cancelled"]


def test_a_function_that_cannot_be_found_fails_each_of_its_calls():
    client = run([Task(0, Kind("operator:nosuch"), [()] * 10, 10)])
    assert set(client.errors) == set(range(10)) and "nosuch" in client.errors[9].message


def test_targets_are_kept():
    tasks = [Task(i, Kind("time:sleep", target=Target(rank=1 + i % 3)), [(0.001,)]) for i in range(30)]
    tasks += sleeps(*[0.001] * 10, first=30, target=Target(node="node2"))
    tasks += sleeps(0, first=40, target=Target(node="nowhere"))
    client = run(tasks)
    assert all(client.places[i] == 1 + i % 3 for i in range(30))
    assert all(client.places[30 + i] == 2 for i in range(10))
    assert client.final[40] is TaskState.FAILED


def test_calls_that_turn_out_slow_are_shared():
    """Of two halves, the second takes 2 s: whoever made the first takes some of it."""
    calls = [(0,)] * 20 + [(0.1,)] * 20
    warm = Task(0, Kind("time:sleep"), [(0,)] * 100, 100)
    client = run([warm, Task(100, Kind("time:sleep"), calls, 40, after=[99])], workers=2)
    assert len(client.values) == 140
    assert {client.places[i] for i in range(120, 140)} == {1, 2}


def test_a_definition_is_kept_though_its_order_was_given_back():
    """The server sends each definition once to a worker: the next order of that function comes without it."""

    def order(task_id, attempt, function, definition, *call):
        return Order(task_id, attempt, function, (definition, pickle.dumps([call]), None))

    server, thread = alone()
    double = cloudpickle.dumps(lambda x: 2 * x)
    _gates["first"] = threading.Event()
    for message in order(0, 1, f"{__name__}:hold", None, "first"), order(1, 1, "double#1", double, 1), RecallTasks(1):
        server.send(1, message)
    heard = []
    while not heard or not isinstance(heard[-1], TaskFinished):
        heard += heard_by(server) or pytest.fail(f"nothing came after {heard}")
        if any(isinstance(message, TaskReturned) for message in heard):
            _gates["first"].set()
    assert [(m.task_id, m.kept) for m in heard if isinstance(m, TaskReturned)] == [(1, 0)]
    server.send(1, order(1, 2, "double#1", None, 4))
    [finished] = heard_by(server)
    server.send(1, StopWorker(1))
    thread.join(10)
    assert pickle.loads(finished.value) == [8]


def test_who_is_asked_to_share_before_it_has_begun_keeps_its_first_task():
    """Else what only this worker may run would go to and fro for ever."""
    server, thread = alone()
    orders = [Order(id, 1, "time:sleep", (None, pickle.dumps([(0,)]), None)) for id in range(3)]
    server.send(1, [*orders, RecallTasks(1)])
    heard = []
    while not heard or not isinstance(heard[-1], TaskFinished):
        heard += heard_by(server) or pytest.fail(f"nothing came after {heard}")
    server.send(1, StopWorker(1))
    thread.join(10)
    kinds = [(type(message), message.task_id) for message in heard if isinstance(message, TaskReturned | TaskFinished)]
    assert kinds == [(TaskReturned, 1), (TaskReturned, 2), (TaskFinished, 0)]


def test_what_has_ended_is_told_while_a_long_task_runs():
    """Outcomes wait for those of the next tasks at hand; one of which may turn out long."""
    server, thread = alone()
    _gates.update({id: threading.Event() for id in range(2)})
    _gates[0].set()
    server.send(1, [Order(id, 1, f"{__name__}:hold", (None, pickle.dumps([(id,)]), None)) for id in range(2)])
    together = []
    while not together or not isinstance(together[-1][-1], TaskFinished) or together[-1][-1].task_id != 1:
        together.append(heard_by(server, 20) or pytest.fail(f"nothing came after {together}"))
        if isinstance(together[-1][-1], TaskFinished):
            _gates[1].set()
    server.send(1, StopWorker(1))
    thread.join(10)
    assert [[message.task_id for message in each] for each in together[1:]] == [[0], [1]]


_waiting = {}


def waits(name):
    worker, gates = _waiting["worker"], _waiting["gates"]
    worker.wait_until(gates[name].is_set)


def test_the_rank_stays_until_it_is_told_to_stop_whichever_thread_has_the_loop():
    """The first task waits in the main thread, the second in another; the main thread lets the second go on."""
    server, transport = QueueTransport.group(2)
    beside = SimpleNamespace(close=lambda: _waiting["closed"].set(), descriptors=(), wants=None)
    worker = Worker(transport, InlineExecutor("here", 1, None), beside, lambda: None)
    gates = {"first": threading.Event(), "second": threading.Event()}
    _waiting.update(worker=worker, gates=gates, closed=threading.Event())
    thread = threading.Thread(target=worker.run)
    thread.start()

    def hear(kind):
        heard = []
        while not any(isinstance(message, kind) for message in heard):
            heard = heard_by(server) or pytest.fail(f"no {kind}")

    for id, name in enumerate(gates):
        server.send(1, Order(id, 1, f"{__name__}:waits", (None, pickle.dumps([(name,)]), None)))
        hear(TaskSuspended)
    for gate in gates.values():
        gate.set()
        hear(TaskFinished)
    server.send(1, Order(2, 1, "time:sleep", (None, pickle.dumps([(0,)]), None)))
    hear(TaskFinished)
    assert thread.is_alive() and not _waiting["closed"].is_set()
    server.send(1, StopWorker(1))
    thread.join(10)
    assert _waiting["closed"].is_set()


def test_the_rank_does_not_wait_for_the_thread_that_stands_by():
    """A callback in that thread may need a lock that the task holds, which waits for what the rank is told."""
    server, transport = QueueTransport.group(2)
    worker = Worker(transport, InlineExecutor("here", 1, None), SimpleNamespace(close=lambda: None), lambda: None)
    begun, heard, ended = threading.Event(), threading.Event(), []

    def guest(messages):
        for message in messages:
            if message == "first":
                begun.set()
                ended.append(("first", heard.wait(30)))
            else:
                ended.append("second")
                heard.set()

    worker.guest, _gates[0] = guest, begun
    thread = threading.Thread(target=worker.run)
    thread.start()
    server.send(1, Order(0, 1, f"{__name__}:hold", (None, pickle.dumps([(0,)]), None)))
    server.send(1, "first")
    assert begun.wait(60)
    server.send(1, "second")
    server.send(1, StopWorker(1))
    thread.join(60)
    assert ended[0] == "second"


def test_a_worker_that_gets_the_signal_tells_the_server():
    _made.clear()
    tasks = [Task(i, Kind(f"{__name__}:note"), [()]) for i in range(100)]
    client = run(tasks, stop_reason=lambda: "SIGTERM" if len(_made) >= 10 else None)
    assert client.drained == "SIGTERM"
    assert {TaskState.DONE, TaskState.INTERRUPTED} == set(client.final.values())
