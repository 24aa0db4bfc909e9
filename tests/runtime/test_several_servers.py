"""Rank 0 with three real group servers under a virtual clock, and a few jobs of real ranks."""

import json
import pickle
import subprocess
import sys
import textwrap
import time

import pytest
from queues import QueueTransport

from job import MPIEXEC, processes_in
from simulator import GroupSimulation, Recorder, tasks
from swiftpy.core.events import (
    GroupStuck,
    RecallAnswered,
    RecallTasks,
    Share,
    TaskFinished,
    TaskReturned,
    TaskSubmitted,
    WorkerReady,
    WorkWanted,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat, Target, Task, TaskState
from swiftpy.errors import UserError
from swiftpy.flow.records import Records
from swiftpy.runtime.groupserver import GroupServer
from swiftpy.runtime.layout import Layout
from swiftpy.runtime.order import Assignment, Calls, Report, Taken
from swiftpy.sim.conditions import Faults

SHAPES = {
    "independent": {},
    "runs": {"each": 20},
    "one run": {"each": 200},
    "chains": {"each": 20, "chained": True},
    "tree": {"after": lambda i: (2 * i - 200, 2 * i - 199) if 100 <= i < 199 else ()},
    "parallel": {"ranks": 3},
    "node": {"each": 10, "target": Target(node="node1")},
    "rank": {"each": 2, "target": Target(rank=9)},
    "near": {"each": 10, "target": Target(node="node1", soft=True)},
}


@pytest.mark.parametrize("latency", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("duration", [(1.0, 100.0), (1e-5, 1e-3)])
def test_every_task_is_resolved_once_whatever_fails(shape, duration, latency):
    for seed in range(2):
        faults = Faults(fail=0.1, late=0.3, hang=0.02, stuck=300.0)
        job = GroupSimulation(20, seed, faults, duration, latency=latency, handling=1e-5)
        client = Recorder(job)
        assert job.run(client, tasks(200, retries=3, **SHAPES[shape]))
        assert len(client.final) == 200
        assert set(client.final.values()) <= {TaskState.DONE, TaskState.FAILED}
        job.recv(1000.0)
        assert job.stopped == set(range(1, 21))


def test_what_comes_after_a_failed_call_of_a_chain_fails():
    """The server gives it back before it tells of the failure; else rank 0 would wait for ever, or start it."""
    for seed in range(3):
        job = GroupSimulation(20, seed, Faults(fail=0.05), (1e-5, 1e-3), latency=0.01)
        client = Recorder(job)
        assert job.run(client, tasks(400, each=20, chained=True))
        for first in range(0, 400, 20):
            states = [client.final[call] for call in range(first, first + 20)]
            assert states == sorted(states, key=lambda state: state is TaskState.FAILED)
        assert TaskState.FAILED in client.final.values()


def test_workers_that_die_and_come_back_cost_only_what_they_held():
    for seed in range(4):
        job = GroupSimulation(20, seed, Faults(die=0.05, back=50.0), latency=0.1)
        client = Recorder(job)
        assert job.run(client, tasks(400, each=20, retries=9))
        assert list(client.final.values()) == 400 * [TaskState.DONE]


def test_a_run_that_only_one_server_got_is_stolen_by_the_others():
    """The workers of two servers join when everything is with the third, which cannot have begun it all."""
    job = GroupSimulation(30, 1, duration=(10.0, 20.0), latency=0.01)
    for rank in range(11, 31):
        job.dead.add(rank)
    early = [(when, *rest) for when, *rest in job._coming if rest[1] <= 10 or rest[1] > 30]
    late = [(5.0, *rest) for when, *rest in job._coming if 10 < rest[1] <= 30]
    job._coming[:] = sorted(early + late, key=lambda entry: entry[:2])
    client = Recorder(job)
    assert job.run(client, tasks(300, each=300))
    assert job.now <= 300 * 20.0 / 30 + 20.0 + 10.0
    assert job.busy_seconds / 30 > 0.8 * (job.now - 5)


@pytest.mark.parametrize("seed", range(6))
def test_stopped_early_every_task_is_done_or_interrupted_within_the_grace_period(seed):
    job = GroupSimulation(
        8, seed, Faults(fail=0.1), duration=(50.0, 500.0), latency=0.01, obeys=5.0 if seed % 2 else None
    )
    job.stop_at = 200.0
    client = Recorder(job)
    assert job.run(client, tasks(80, each=8, retries=1), grace=60.0)
    assert client.drained == "SIGTERM"
    assert len(client.final) == 80
    assert TaskState.INTERRUPTED in client.final.values()
    assert job.now <= 200 + 60 + 2


def test_short_results_travel_joined():
    job = GroupSimulation(30, 0, duration=(1e-4, 1e-3), tasks=30_000, latency=1e-3, handling=1e-5)
    pieces = []
    receive = job.recv

    def watched(*args):
        message = receive(*args)
        if isinstance(message, Report):
            pieces.extend(event for event in message.messages if isinstance(event, TaskFinished))
        return message

    job.recv = watched
    client = Recorder(job)
    assert job.run(client, tasks(30_000, each=1000))
    calls = [event.share.calls for event in pieces]
    assert sum(calls) == 30_000 == len(client.final)
    assert len(calls) < job.started / 3
    assert job.messages < job.started / 2


def test_the_next_server_is_asked_if_one_has_nothing_to_give():
    groups = {1: {2: Seat("a")}, 3: {4: Seat("a")}, 5: {6: Seat("a")}}
    scheduler = Scheduler({}, groups)
    scheduler.step(WorkWanted(1, 2, True))
    scheduler.step(WorkWanted(3, 2, True))
    for id in range(4):
        scheduler.step(TaskSubmitted(Task(id, Kind("f"), [id])))
    assert scheduler.step(WorkWanted(5, 2, True)) == [RecallTasks(3)]
    assert scheduler.step(RecallAnswered(3)) == [RecallTasks(1)]
    given, start = scheduler.step(TaskReturned(1, 3, 1, 0, Share(1, 1))), scheduler.step(RecallAnswered(1))
    assert [(command.worker, command.task.id) for command in given] == [(5, 3)]
    assert not start


def test_a_server_with_nothing_in_hand_asks_its_workers_before_it_answers():
    root, server, worker = QueueTransport.group(3)
    group = GroupServer(server, {2: Seat("a")}, lambda: None, lambda: 0.0)
    calls = (None, pickle.dumps([(1,), (2,), (3,), (4,)]), None)
    worker.send(1, WorkerReady(2))
    root.send(1, [Assignment(10, 1, Kind("f"), 4, [calls], 8, 1)])
    group.progress(0.1)
    order = worker.recv(0)
    root.send(1, RecallTasks(1))
    group.progress(0.1)
    assert isinstance(worker.recv(0), RecallTasks)
    worker.send(1, TaskReturned(2, order.task_id, order.attempt, 1))
    worker.send(1, RecallAnswered(2))
    group.progress(0.1)
    first, too_early = root.recv(0), root.recv(0)
    assert {type(message) for message in first.messages} == {WorkWanted} and too_early is None
    root.send(1, Taken())
    group.progress(0.1)
    said = [message for message in root.recv(0).messages if not isinstance(message, WorkWanted)]
    assert said == [TaskReturned(1, 11, 1, 0, Share(3, 1)), RecallAnswered(1)]


def test_a_job_is_stuck_when_all_that_its_servers_hold_waits_for_what_nobody_has():
    groups = {1: {2: Seat("a")}, 3: {4: Seat("a")}}
    scheduler = Scheduler({}, groups)
    kind = Kind("f")
    for server in groups:
        scheduler.step(WorkWanted(server, 1, True))
    scheduler.step(TaskSubmitted(Task(0, kind, [0])))
    scheduler.step(TaskSubmitted(Task(1, kind, [1])))
    scheduler.step(TaskSubmitted(Task(2, kind, [2], after=(0,))))
    scheduler.step(GroupStuck(1, True))
    assert not scheduler.stuck
    scheduler.step(GroupStuck(3, True))
    assert [task.id for task in scheduler.stuck] == [2, 0, 1]
    scheduler.step(GroupStuck(1, False))
    assert not scheduler.stuck


def test_calls_are_cut_like_the_list_that_they_are():
    parts = [(bytes([number]), 1, 1 + size) for number, size in enumerate([3, 1, 5])]
    flat = [(data, index) for data, start, stop in parts for index in range(start, stop)]
    calls = Calls(parts)
    for start in range(10):
        for stop in range(start, 10):
            cut = calls[start:stop]
            assert [(data, i) for data, first, last in cut.parts for i in range(first, last)] == flat[start:stop]
            assert len(cut) == len(flat[start:stop])


SCRIPT = """
    import os, sys, time
    import swiftpy

    class Number:
        def __init__(self, n): self.n = n

    @swiftpy.task
    def square(x): return x * x

    @swiftpy.task
    def wrapped(number, power=1): return Number(number.n ** power)

    @swiftpy.task
    def fib(n):
        return n if n < 2 else sum(swiftpy.gather([fib(n - 1), fib(n - 2)]))

    @swiftpy.task(retries=1)
    def odd(x):
        if x % 2 == 0:
            raise ValueError(f"{x} is even")
        return x

    @swiftpy.task(ranks=2)
    def together(comm, x): return comm.allreduce(x)

    @swiftpy.task
    def large(n): return bytes(n)

    @swiftpy.task
    def size(data): return len(data)

    @swiftpy.task
    def last(x): return x + 1

    @swiftpy.task
    def grow(x):
        time.sleep(0.0005)
        return x + 1

    @swiftpy.task(retries=1)
    def first_time(x):
        if x in (1, 100) and not os.path.exists(f"tried {x}"):
            open(f"tried {x}", "w").close()
            raise ValueError("the first time")
        return x + 1

    assert list(swiftpy.map(square, range(20_000))) == [x * x for x in range(20_000)]
    numbers = swiftpy.gather([wrapped(Number(i), power=2) for i in range(300)])
    assert [number.n for number in numbers] == [i * i for i in range(300)]
    assert fib(9).result() == 34
    assert together(21).result() == 42
    assert swiftpy.gather([size(large(n)) for n in (10, 1_000_000, 3_000_000)]) == [10, 1_000_000, 3_000_000]
    chain = last(0)
    for _ in range(2000):
        chain = last(chain)
    assert chain.result() == 2001
    ends = []
    for start in range(0, 8000, 1000):
        grown = grow(start)
        for _ in range(100):
            grown = grow(grown)
        ends.append(grown)
    assert swiftpy.gather(ends) == [start + 101 for start in range(0, 8000, 1000)]
    chain = first_time(0)
    for _ in range(200):
        chain = first_time(chain)
    assert chain.result() == 201, "the call after one that was tried again got something else"
    futures = [odd(i) for i in range(100)]
    swiftpy.wait(futures)
    assert [f.exception() is None for f in futures] == [i % 2 == 1 for i in range(100)]
    assert "is even" in str(futures[0].exception())
    print("all right")
"""


def run(tmp_path, *options, script=SCRIPT, procs=5):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    command = [MPIEXEC, "-n", str(procs), sys.executable, "-m", "swiftpy", *options, str(path)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


@pytest.mark.mpi_job
@pytest.mark.parametrize("options", [[], ["--summary"]], ids=["joined", "traced"])
def test_a_program_does_not_notice(tmp_path, options):
    result = run(tmp_path, "--servers", "2", "--hostmap", *options, procs=7)
    assert result.returncode == 0, result.stderr
    assert "all right" in result.stdout
    assert "server of ranks 2 to 3" in result.stderr
    assert "server of ranks 5 to 6" in result.stderr
    if options:
        assert "rank 6" in result.stderr.split("of the time")[1]


def test_a_server_needs_a_worker():
    layout = Layout(["a"] * 8, {rank: Seat("a") for rank in range(1, 8)})
    layout.divide(3)
    assert layout.servers == {1: [2], 3: [4], 5: [6, 7]}
    with pytest.raises(UserError, match="start 9 processes or more"):
        Layout(["a"] * 8, {rank: Seat("a") for rank in range(1, 8)}).divide(4)


@pytest.mark.mpi_job
def test_a_program_that_can_never_end_says_so_and_does(tmp_path):
    """One task waits on rank 0, one inside a worker, and one for that."""
    script = """
        import swiftpy
        @swiftpy.task
        def forever(x): return swiftpy.Future().result()
        @swiftpy.task
        def asks(x): return forever(x).result()
        @swiftpy.task
        def add(x, y): return x + y
        @swiftpy.task(ranks=2)
        def wide(comm): return comm.size
        print(wide().exception())
        asks(add(1, 2))
        add(swiftpy.Future(), 1).result()
    """
    result = run(tmp_path, "--servers", "2", script=script)
    assert result.returncode == 1, result.stderr
    assert "2 workers (any worker) of one server, of which there are 1 at most" in result.stdout
    assert "3 tasks can never run, 1 futures were never set" in result.stderr
    assert "did not end" not in result.stderr


@pytest.mark.mpi_job
def test_what_is_cancelled_is_not_tried_again(tmp_path):
    script = """
        import os, time
        import swiftpy
        @swiftpy.task(retries=2)
        def slow():
            while not os.path.exists("cancelled"): time.sleep(0.01)
        futures = [slow() for _ in range(40)]
        cancelled = [future for future in futures[::3] if future.cancel()]
        open("cancelled", "w").close()
        assert swiftpy.gather([slow() for _ in range(20)]) == [None] * 20
        assert all(future.result() is None for future in futures if future not in cancelled)
        print(len(cancelled))
    """
    result = run(tmp_path, "--servers", "2", "--trace", "trace.json", script=script)
    assert result.returncode == 0 and int(result.stdout), result.stdout + result.stderr
    attempts = [event["args"] for event in json.loads((tmp_path / "trace.json").read_text()) if event["ph"] == "X"]
    outcomes = [attempt["outcome"] for attempt in attempts if attempt["outcome"] != "done"]
    assert outcomes == ["failed"] * int(result.stdout)


@pytest.mark.mpi_job
@pytest.mark.parametrize("victim", [3, 4], ids=["server", "worker"])
def test_a_rank_that_is_killed_ends_the_job(tmp_path, victim):
    script = f"""
        import os, signal, time
        from pathlib import Path
        import swiftpy

        @swiftpy.task
        def kill(rank):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                    environ = (process / "environ").read_bytes().split(b"\\0")
                except OSError:
                    continue
                if int(parent) == os.getppid() and b"PMI_RANK=%d" % rank in environ:
                    Path("killed").write_text(process.name)
                    os.kill(int(process.name), signal.SIGKILL)
            time.sleep(60)

        @swiftpy.task
        def slow(): time.sleep(60)

        swiftpy.gather([kill({victim}), slow()])  # a worker for each
    """
    result = run(tmp_path, "--servers", "2", script=script)
    assert result.returncode not in (0, 1), result.stderr
    assert (tmp_path / "killed").exists()
    deadline = time.monotonic() + 60
    while processes_in(tmp_path):
        assert time.monotonic() < deadline, "something of the job lives on"
        time.sleep(0.05)


@pytest.mark.mpi_job
def test_a_full_disk_costs_what_would_be_on_it(tmp_path):
    script = """
        import resource
        import swiftpy
        memo = swiftpy.memo("memo")
        @memo
        def zeros(i): return bytes(1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        assert swiftpy.gather([zeros(i) for i in range(100)]) == [bytes(1000)] * 100
        print(len(memo))
    """
    result = run(tmp_path, "--servers", "2", "--trace", "/dev/full", script=script)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stderr.splitlines()) == [
        "swiftpy: --trace /dev/full: No space left on device: it is not complete",
        "swiftpy: some results were not kept in memo: File too large",
    ]
    assert 0 < int(result.stdout) == len(Records(tmp_path / "memo")) < 20
