"""The isolated child and the helper that starts it, without MPI."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

import pytest

from swiftpy.runtime.call import Run, payload_of
from swiftpy.runtime.executors import InlineExecutor, IsolatedExecutor
from swiftpy.runtime.order import Order
from swiftpy.runtime.spawner import Spawner


@pytest.fixture
def isolated(tmp_path, monkeypatch):
    for name in ("PMI_RANK", "PMIX_ID", "PALS_DEPTH", "OMPI_COMM_WORLD_RANK", "HYDI_CONTROL_FD"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "5")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    output = os.open(tmp_path / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    spawner = Spawner()
    executor = IsolatedExecutor(spawner, "here", 1, {"EXPID": "EXP007"}, output)
    executor.output = tmp_path / "out.txt"
    yield executor
    executor.close()
    spawner.close()
    os.close(output)


def order(function, *args, timeout=None):
    return Order(0, 1, function, payload_of(*args), timeout=timeout)


def run(executor, function, *args, timeout=None):
    executor.start(order(function, *args, timeout=timeout))
    end = time.monotonic() + 120
    while (outcome := executor.poll()) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    return outcome if outcome.answer is None else pickle.loads(outcome.answer.value)[0]


def test_the_environment_names_no_launcher_but_the_local_rank(isolated):
    env = run(isolated, "os:environ.copy")
    assert not [name for name in env if name.startswith(("PMI", "PALS_DEPTH", "HYD", "OMPI_COMM_WORLD_RANK"))]
    assert env["OMPI_COMM_WORLD_LOCAL_RANK"] == "5"
    assert env["EXPID"] == "EXP007"


def test_one_child_serves_until_it_fails(isolated):
    first = run(isolated, "os:getpid")
    assert run(isolated, "os:getpid") == first != os.getpid()
    assert "ZeroDivisionError" in run(isolated, "operator:truediv", 1, 0).error.message
    assert run(isolated, "os:getpid") != first


def test_a_child_that_died_while_idle_costs_one_attempt(isolated):
    pid = run(isolated, "os:getpid")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    error = run(isolated, "os:getpid").error
    assert error.kind == "signal" and error.message.endswith("(SIGKILL: the node may have run out of memory)")
    assert run(isolated, "os:getpid") != pid


def test_the_end_by_a_signal_without_a_name(isolated):
    """A real-time signal. As the number of an error, 40 is "Too many levels of symbolic links"."""
    error = run(isolated, "signal:raise_signal", 40).error
    assert error.message == "its process was ended by signal 40 (Real-time signal 6)"


def test_a_child_that_was_slow_to_die_is_not_taken_for_the_next(isolated):
    """Its end is told when nobody waits for it any more."""
    pid = run(isolated, "os:getpid")
    os.kill(pid, signal.SIGSTOP)  # or it may end by itself, for nobody is at the other end of its channel
    threads = Path(f"/proc/{pid}/task")
    while {stat.read_text().rpartition(")")[2].split()[0] for stat in threads.glob("*/stat")} != {"T"}:
        time.sleep(0.001)  # they stop one after another
    isolated._drop_child()  # as when it has not ended within 5 s of being killed
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    other = run(isolated, "os:getpid")
    assert other != pid
    os.kill(other, signal.SIGKILL)
    time.sleep(0.3)
    assert run(isolated, "os:getpid").error.kind == "signal"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [("SWIFTPY_PYTHON", "/no/such/python", "No such file"), ("HOOKED", "x" * 300_000, "too long")],
)
def test_a_child_that_cannot_be_started_is_the_failure_of_its_task(isolated, variable, value, problem):
    isolated._env[variable] = value
    error = run(isolated, "os:getpid").error
    assert error.kind == "exit" and error.message.startswith("its process could not be started: ")
    assert problem in error.message
    del isolated._env[variable]
    assert run(isolated, "os:getpid")


def test_the_start_of_a_child_is_tried_again_for_a_while(isolated, tmp_path):
    python = tmp_path / "python"
    isolated._env["SWIFTPY_PYTHON"] = str(python)
    isolated.start(order("os:getpid"), patience=30)
    assert isolated.poll() is None
    python.symlink_to(sys.executable)
    isolated._env["PYTHONPATH"] = os.pathsep.join(sys.path)
    while (outcome := isolated.poll()) is None:
        time.sleep(0.01)
    assert outcome.error is None
    isolated._drop_child()
    python.unlink()
    isolated.start(order("os:getpid"), patience=30)
    isolated.kill()
    assert isolated.poll().error is None and isolated.poll() is None


def test_what_the_child_started_ends_with_it(isolated, tmp_path):
    """A grandchild in the same process group, and one that holds the child's channel after a fork."""
    fork = "import os,time\nif os.fork():\n    os._exit(7)\nopen(%r,'w').write(str(os.getpid()))\ntime.sleep(60)"
    note = tmp_path / "pid"
    outcome = run(isolated, "builtins:exec", fork % str(note))
    assert (outcome.error.kind, outcome.error.message) == ("exit", "its process exited with code 7")
    end = time.monotonic() + 60
    while alive(note) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(note)


def alive(note):
    """Whether the process whose pid was noted runs; it may have been killed before it noted it."""
    return note.exists() and Path(f"/proc/{note.read_text() or 0}/cwd").exists()


@pytest.mark.parametrize("end", ["pass", "import sys; sys.exit(0)"])
def test_a_forked_process_that_comes_back_answers_for_nobody(isolated, end):
    """A model that forks and lets the child fall through run(), or calls exit() in it, as with multiprocessing."""
    assert (
        run(isolated, "builtins:exec", f"import os, time\nif os.fork() == 0:\n    {end}\nelse:\n    time.sleep(0.3)")
        is None
    )
    assert run(isolated, "operator:add", 1, 2) == 3
    time.sleep(0.3)
    assert run(isolated, "operator:add", 3, 4) == 7


LEAVE = "import multiprocessing, time; multiprocessing.Process(target=time.sleep, args=(1000,)).start()"


def test_a_task_that_closes_stdout_is_answered_for_and_the_next_can_print(isolated):
    """The child ended, and waited for what an earlier task had left running, for ever."""
    assert run(isolated, "builtins:exec", LEAVE) is None
    child = run(isolated, "os:getpid")
    assert run(isolated, "builtins:exec", "import sys; sys.stdout.close()") is None
    assert run(isolated, "builtins:exec", "import sys; sys.stdout = None") is None
    assert run(isolated, "builtins:print", "still heard") is None
    assert run(isolated, "os:getpid") == child
    assert "still heard" in isolated.output.read_text()


def test_a_task_may_print_whatever_the_locale_is(isolated):
    assert run(isolated, "builtins:print", "größe \udcff") is None
    assert isolated.output.read_text(encoding="utf-8") == "größe \\udcff\n"


def test_a_child_that_cannot_go_on_ends_though_a_task_left_processes(isolated):
    assert run(isolated, "builtins:exec", LEAVE) is None
    assert run(isolated, "builtins:exec", "import sys; sys.modules['__main__'].Run = None") is None
    assert run(isolated, "os:getpid").error.message == "its process exited with code 1"
    assert "TypeError: 'NoneType' object is not callable" in isolated.output.read_text()


def test_a_killed_task_has_no_outcome_and_its_output_is_complete(isolated):
    isolated.start(order("builtins:exec", "print('last words'); import time; time.sleep(60)"))
    end = time.monotonic() + 120
    while "last words" not in isolated.output.read_text():
        assert time.monotonic() < end and isolated.poll() is None
        time.sleep(0.01)
    isolated.kill()
    while (outcome := isolated.poll()) is None:
        time.sleep(0.005)
    assert outcome.answer is None and outcome.error is None


def test_time_limits(isolated):
    assert run(isolated, "time:sleep", 60, timeout=0.3).error.kind == "timeout"
    inline = InlineExecutor("here", 1, None)
    slow, quick = order("time:sleep", 60, timeout=0.2), order("time:sleep", 0.01, timeout=120)
    assert inline.make(Run(slow.function, slow.payload), slow.timeout).error.kind == "timeout"
    assert inline.make(Run(quick.function, quick.payload), quick.timeout).error is None


class Slow:
    """A result that pickle refuses, and cloudpickle takes only after the time limit: when it is pickled again."""

    times = 0

    def __reduce__(self):
        Slow.times += 1
        if Slow.times == 1:
            raise ValueError
        if Slow.times == 3:
            time.sleep(5)
        return str, ()


def test_the_time_limit_ends_while_the_result_is_pickled():
    task = order("test_isolated:Slow", timeout=0.2)
    sys.modules.setdefault("test_isolated", sys.modules[__name__])
    assert InlineExecutor("here", 1, None).make(Run(task.function, task.payload), task.timeout).error.kind == "timeout"


@pytest.mark.parametrize(
    ("function", "message"),
    [("sys:exit", "exit"), ("nosuch:f", "nosuch"), ("os:nosuch", "nosuch"), ("threading:Lock", "pickle")],
)
def test_a_call_that_fails_is_a_value(function, message):
    answer = Run(function, payload_of()).make()
    ((index, error),) = answer.failures
    assert index == 0 and message in error.message
    assert "SystemExit" in error.traceback if function == "sys:exit" else error.message in error.traceback
