"""Who hears of a failure: the program or a task that asks, or else whoever reads what is said at the end."""

import itertools
import json
import pickle
import threading
import weakref
from types import SimpleNamespace

import pytest

from swiftpy.core.events import ReportOutcome
from swiftpy.core.task import Kind, Task, TaskState
from swiftpy.errors import TaskError
from swiftpy.flow import program
from swiftpy.flow.bulk import Bulk
from swiftpy.flow.failures import Failures
from swiftpy.flow.fetching import Fetching, HeldBack
from swiftpy.flow.functions import Functions
from swiftpy.flow.future import Future
from swiftpy.flow.leftovers import LeftoversAsked, LeftoversTold
from swiftpy.flow.nested import CallSettled, FailureSeen, NestedEngine, Relay
from swiftpy.flow.settling import Settling
from test_programs import passes, run


def add(a, b=0):
    return a + b


def failed(first, count=1, message="code 3"):
    return ReportOutcome(Task(first, Kind("f"), None, count), TaskState.FAILED, 1, 1, error=TaskError("exit", message))


@pytest.mark.parametrize("asks", ["result", "before", "map", "map, never", "gather", "never"])
def test_a_failure_in_a_task_that_nobody_asks_for_is_told_at_the_end(asks):
    """By rank 0, which cannot know who asks for what on a worker unless it is told."""
    failures = Failures(print)
    to_server = []
    worker = SimpleNamespace(rank=1, depth=0, send=to_server.append, data=SimpleNamespace(held={}))
    engine = NestedEngine(worker)
    to_worker = SimpleNamespace(send=lambda rank, message: engine.hear([message]))
    if "map" in asks:
        results = engine.submit_all(Kind("add"), Functions().find(add), [1], column=True)
    else:
        future = engine.submit(Kind("add"), Functions().find(add), (1,), {})
        future.asked = asks == "before"
    submitted = to_server.pop()
    failed = ReportOutcome(Task(5, submitted.kind, None), TaskState.FAILED, 1, 1, error=TaskError("exit", "code 3"))
    Relay(to_worker, failures, submitted.worker, submitted.id).deliver(failed)
    if asks == "result":
        assert failures.unheard and not to_server
        with pytest.raises(TaskError):
            future.result()
    if asks == "map":
        with pytest.raises(TaskError):
            list(results)
    if asks == "gather":
        other = Future()
        other.settle(None, ValueError())
        with pytest.raises(ValueError):
            program.gather([other, future])
    for message in to_server:
        failures.heard(*message)
    assert failures.unheard == (["exit: code 3"] if "never" in asks else [])


def test_what_was_asked_for_is_forgotten():
    """A program may go on for a million calls, a tenth of which fail."""
    failures = Failures(print)
    futures = {id: Future() for id in range(3)}
    dead, unheard = weakref.ref(futures[1]), futures[2]
    settling = Settling(futures, {}, failures)
    for id in range(3):
        future = futures[id]
        settling.resolved(failed(id, message=f"code {id}"))
        if id < 2:
            future.exception()
    del future
    assert failures.unheard == ["exit: code 2"] and not futures and dead() is None
    unheard.exception()
    futures[3] = Future()
    futures[3].cancel()  # when its call had begun
    settling.resolved(failed(3))
    assert failures.unheard == []


def test_a_long_chain_of_a_tasks_calls_fails_and_is_heard_of():
    """Each call fails because the one before did: neither is inside of the other."""
    to_server = []
    engine = NestedEngine(SimpleNamespace(rank=1, depth=0, send=to_server.append, data=SimpleNamespace(held={})))
    kind, function, future = Kind("add"), Functions().find(add), 1
    for _ in range(3000):
        future = engine.submit(kind, function, (future,), {})
    engine.hear([CallSettled(0, None, TaskError("exit", "code 3"))])
    assert future.done() and "code 3" in str(future.exception())
    assert to_server[1:] == [FailureSeen(0, 1)]


def test_a_callback_in_a_task_waits_for_what_is_told_after_it():
    waits = []
    worker = SimpleNamespace(
        rank=1, depth=0, send=print, data=SimpleNamespace(held={}), wait_until=lambda enough: waits.append(enough())
    )
    engine = NestedEngine(worker)
    kind, function = Kind("add"), Functions().find(add)
    first = engine.submit(kind, function, (1,), {})
    second = engine.submit(kind, function, (first,), {})
    third = engine.submit(kind, function, (second,), {})
    seen = []
    first.add_done_callback(lambda _: seen.append(third.exception()))
    engine.hear([CallSettled(0, None, TaskError("exit", "code 3"))])
    assert "code 3" in str(seen[0]) and not waits


def test_what_is_left_is_told_when_no_thread_is_amid_a_callback():
    """It may be about to submit."""
    to_server, asked = [], threading.Event()
    engine = NestedEngine(SimpleNamespace(rank=1, depth=0, send=to_server.append, data=SimpleNamespace(held={})))
    kind, function = Kind("add"), Functions().find(add)

    def submits(_):
        threading.Thread(target=lambda: (engine.hear([LeftoversAsked()]), asked.set())).start()
        assert asked.wait(60)
        engine.submit(kind, function, (2,), {})

    engine.submit(kind, function, (1,), {}).add_done_callback(submits)
    engine.hear([CallSettled(0, pickle.dumps([3]), None)])
    assert [type(message).__name__ for message in to_server] == ["CallSubmitted", "CallSubmitted", "LeftoversTold"]
    assert to_server[-1] == LeftoversTold(1, 1)


def test_a_long_chain_of_kept_results_fails():
    fetching = Fetching()
    held_back, futures = HeldBack(fetching), [Future() for _ in range(3000)]
    for before, after in itertools.pairwise(futures):
        held_back.add(after, [before], None)
    assert futures[0].settle(None, TaskError("exit", "code 3"))
    futures[0].tell()
    while fetching.due:
        fetching.due.popleft()()
    assert futures[-1].failed() and not held_back.futures


def test_who_hears_of_a_failure_in_a_map_has_asked_for_all():
    ended = []
    failures = Failures(ended.append)
    failures.stop_on_error = True
    bulk = Bulk(4, None, False, failures)
    bulk.first = 10
    bulk.deliver(failed(12, 2))
    assert len(failures.unheard) == 2 and ended == ["a task failed"] and failures.culprit.message == "code 3"
    bulk.deliver(failed(10))
    with pytest.raises(TaskError):
        next(iter(bulk))
    bulk.deliver(failed(11))
    assert failures.unheard == []


PROGRAM = """
@swiftpy.task
def boom(x=0): raise ValueError(f"boom {x}")
@swiftpy.task
def inc(x): return x + 1
def odd(x): return x if x % 2 else boom.function(x)
@swiftpy.task
def in_a_task(asks):
    swiftpy.map(odd, [1, 100])
    late = inc(inc(boom(101)))
    if asks: return str(late.exception())
"""


@pytest.mark.mpi_job
def test_what_a_program_has_heard_of(tmp_path):
    """Also by the failure of what needed it: the script has no other way to ask for `boom` in `inc(boom())`."""
    result = run(
        tmp_path,
        PROGRAM
        + """
assert "it needs the result of boom, which failed" in inc(boom()).exception().message
assert "it needs the result of boom, which failed" in inc(inc(boom())).exception().message
before = boom()
swiftpy.wait([before])
assert "it needs the result of boom, which failed" in inc(inc(before)).exception().message
try:
    list(swiftpy.map(odd, range(6)))
except swiftpy.TaskError as error:
    assert "boom 0" in error.message
else:
    raise AssertionError
swiftpy.map(odd, [7, 8])
assert "the result of boom, which failed" in in_a_task(True).result()
in_a_task(False).result()
cancelled = boom(102)
swiftpy.wait([cancelled], 0.001)
cancelled.cancel()
""",
    )
    assert result.returncode == 3, result.stderr
    said = sorted(line.split("boom ")[1].split()[0] for line in result.stderr.splitlines() if "a task failed" in line)
    assert said in (["100", "100", "101", "8"], ["100", "100", "101", "102", "8"]), result.stderr


@pytest.mark.mpi_job
def test_a_failure_in_a_map_ends_what_runs_to_the_first_failure(tmp_path):
    result = run(tmp_path, PROGRAM + "swiftpy.run(lambda: [swiftpy.map(odd, range(6)), time.sleep(1)])\n")
    assert result.returncode == 1 and "ValueError: boom" in result.stderr, result.stderr


@pytest.mark.mpi_job
def test_a_summary_counts_parallel_nested_and_failed_tasks(tmp_path):
    """All ranks of a parallel task are busy, and those whose task failed; who waits for others is not."""
    result = passes(
        tmp_path,
        """
        def nap():
            began = time.monotonic()
            time.sleep(0.4)
            with open("naps", "a") as file: print(time.monotonic() - began, file=file)  # on a slow machine it is longer
        @swiftpy.task
        def leaf(): nap()
        @swiftpy.task
        def middle(): return leaf().result()
        @swiftpy.task
        def top(): return middle().result()
        @swiftpy.task(ranks=2)
        def wide(comm): nap()
        @swiftpy.task
        def fails(): nap(); raise ValueError

        top().result()
        wide().result()
        swiftpy.wait(futures := [fails(), fails()])
        [future.exception() for future in futures]
        """,
        options=("--summary", "--trace", "trace.json"),
    )
    first, *ranks = result.stderr.splitlines()[-3:]
    seconds = float(first.split(" calls in ")[1].split(" s:")[0])
    busy = [seconds * float(line.split("busy ")[1].rstrip("%")) / 100 for line in ranks]
    naps = [float(line) for line in (tmp_path / "naps").read_text().split()]
    assert len(naps) == 5 and sum(busy) == pytest.approx(sum(naps), abs=0.3), (naps, result.stderr)
    assert min(busy) > 0.7, "both ranks of the parallel task, and a failed one on each"
    events = json.loads((tmp_path / "trace.json").read_text())
    assert len({event["tid"] for event in events if event["name"].endswith("wide")}) == 2
    assert {event["name"] for event in events if event["ph"] == "C"} == {
        "calls that wait",
        "calls that ended, per second",
    }
