"""How programs end, and with what exit code: well, badly, never, or before they have begun."""

import signal
import subprocess
import sys
from functools import partial

import pytest

import swiftpy
from job import MPIEXEC
from test_programs import run

pytestmark = pytest.mark.mpi_job


async def unfinished(): ...


def endless():
    yield


async def endless_too():
    yield


ENDINGS = {
    "an exception": ("raise RuntimeError('mine')", 1, "RuntimeError: mine"),
    "exit": ("sys.exit(7)", 7, ""),
    "a failure that nobody saw": ("boom(); ", 3, "ValueError: boom"),
    "an interrupt in an exec": ("exec('raise KeyboardInterrupt')", 1, "KeyboardInterrupt"),
    "the same in a task": ("interrupted().exception()", 0, ""),
    "a failure that was seen": ("boom().exception()", 0, ""),
    "a future that nobody sets": ("inc(swiftpy.Future()).result()", 1, "inc waits for a future that was never set"),
    "the same without asking": ("late(inc(swiftpy.Future()))", 1, "2 tasks can never run, 1 futures were never set"),
    "one of cancelled calls, too": (
        "inc(late(gate := swiftpy.Future())).cancel(); inc(gate).cancel()",
        1,
        "late waits",
    ),
    "one of cancelled calls alone": ("inc(gate := swiftpy.Future()).cancel(); inc(gate).cancel()", 0, ""),
    "one of a call whose result is kept": (
        "swiftpy.memo('kept')(inc)(swiftpy.Future())",
        1,
        "1 tasks can never run, 1 f",
    ),
    "one of a cancelled call whose result is kept": ("swiftpy.memo('kept')(inc)(swiftpy.Future()).cancel()", 0, ""),
    "one of a call that a task left behind": ("leaves().result()", 1, "1 calls of tasks can never be made"),
    "a task that waits for ever": ("forever().result()", 1, "can never run"),
    "waits with a time limit": ("own_limit(); limited().result()", 0, ""),
    "more ranks than there are": ("wide().result()", 1, "it wants 9 workers"),
    "a crash": ("crash().result()", signal.SIGSEGV, "in crash"),
    "a task after the end": (
        "__import__('atexit').register(lambda: late(1))",
        0,
        "cannot schedule new futures: the script has ended",
    ),
    "stop at a failure that main does not notice": ("swiftpy.run(lambda: [boom(), time.sleep(0.5)])", 1, "in run"),
    "stop at the first failure": (
        "swiftpy.run(lambda: [boom(), swiftpy.gather([late(i) for i in range(99)])])",
        1,
        "boom",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_how_programs_end(tmp_path, name):
    statement, code, message = ENDINGS[name]
    result = run(
        tmp_path,
        f"""
        @swiftpy.task
        def boom(): raise ValueError("boom")
        @swiftpy.task
        def inc(x): return x + 1
        @swiftpy.task
        def interrupted(): exec("raise KeyboardInterrupt")
        @swiftpy.task
        def crash(): __import__("ctypes").string_at(0)
        @swiftpy.task
        def late(i): time.sleep(0.2)
        @swiftpy.task
        def leaves(): inc(inc(1)), inc(swiftpy.Future())
        def own_limit():
            from concurrent.futures import TimeoutError
            try: swiftpy.Future().result(timeout=1.5)
            except TimeoutError: return
            raise AssertionError("no TimeoutError")
        @swiftpy.task
        def limited(): own_limit()
        @swiftpy.task
        def forever(): return swiftpy.Future().result()
        @swiftpy.task(ranks=9)
        def wide(comm): pass
        {statement}
        """,
        procs=2,
    )
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "did not end" not in result.stderr


def test_a_bug_in_a_thread_of_the_engine_ends_the_job(tmp_path):
    """While a task waits, another thread has the loop; without it the rank would be silent, and the job hang."""
    result = run(
        tmp_path,
        """
        @swiftpy.task
        def inc(x): return x + 1
        @swiftpy.task
        def breaks():
            from swiftpy.runtime.worker import Worker
            Worker._handle = lambda self, message: 1 / 0
            return inc(1).result()

        breaks().result()
        """,
        procs=2,
    )
    assert result.returncode != 0
    assert "rank 1: a bug in the engine" in result.stderr and "ZeroDivisionError" in result.stderr


def test_a_parallel_task_that_failed_on_one_rank_while_the_others_wait_for_it_in_mpi(tmp_path):
    result = run(
        tmp_path,
        """
        import swiftpy.flow.deadlock, swiftpy.runtime.server
        swiftpy.flow.deadlock.FORSAKEN = swiftpy.runtime.server.PATIENCE = 1.0

        @swiftpy.task(ranks=2)
        def meet(comm):
            if comm.rank: raise ValueError("not me")
            comm.barrier()

        future = meet()
        time.sleep(0.1)
        future.result()
        """,
        procs=3,
    )
    assert result.returncode in (1, 9)  # rank 0 aborts, and mpiexec kills the others: its code is that of either
    assert "Deadlock: meet failed: exception: ValueError: not me (rank 2" in result.stderr
    assert "rank 1 may wait for it in MPI" in result.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"prority": 1}, "a task has no option prority: it has priority, rank, node"),
        ({"rank": 1, "node": "a"}, "not both"),
        ({"timeout": 5, "isolated": False}, "it is isolated"),
        ({"ranks": 2, "timeout": 5}, "can neither"),
        ({"ranks": 1.5}, "ranks is a whole number from 1 on, not 1.5"),
        ({"ranks": 0}, "from 1 on"),
        ({"rank": "1"}, "rank is a whole number from 1 on, not '1'"),
        ({"rank": 0}, "rank is a whole number from 1 on, not 0"),
        ({"retries": -1}, "retries"),
        ({"timeout": "5"}, "timeout is a number of seconds above 0, or None, not '5'"),
        ({"timeout": 0}, "above 0, or None, not 0"),
        ({"timeout": float("nan")}, "timeout"),
        ({"priority": "high"}, "priority is a number, not 'high'"),
        ({"node": 3}, "node is a name, not 3"),
    ],
    ids=lambda value: "",
)
def test_wrong_options_are_refused_where_they_are_written(options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        swiftpy.task(**options)(len)


@pytest.mark.parametrize("function", [3, "len", unfinished, endless, endless_too, partial(unfinished)])
def test_what_is_no_function_of_a_result_is_refused_where_it_is_written(function):
    with pytest.raises(TypeError, match="a task"):
        swiftpy.task(function)


def test_bad_command_lines(tmp_path):
    result = subprocess.run(
        [MPIEXEC, "-n", "2", sys.executable, "-m", "swiftpy", "nothing.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2 and result.stderr.strip() == "nothing.py: there is no such script"
    result = run(tmp_path, "", procs=1)
    assert result.returncode == 2 and "mpiexec -n 2" in result.stderr


def test_a_signal_while_the_script_computes(tmp_path):
    """Nothing asks for the results, so nothing would say that most calls were not made."""
    result = run(
        tmp_path,
        """
        import signal, threading
        slow = swiftpy.task(time.sleep)
        futures = [slow(0.3) for _ in range(50)]
        told = threading.Event()
        threading.Timer(0.5, lambda: (os.kill(os.getpid(), signal.SIGTERM), told.set())).start()
        while not told.is_set(): pass
        began = time.monotonic()
        while time.monotonic() - began < 1.5: pass
        """,
        procs=2,
    )
    assert result.returncode == 1 and "SIGTERM: ending with tasks unfinished" in result.stderr, result.stderr


def test_processes_that_tasks_and_scripts_fork(tmp_path):
    """They end by themselves, or by SIGTERM, as anywhere, and what they were forked from goes on."""
    result = run(
        tmp_path,
        """
        import multiprocessing, signal

        def forks(how):
            pid = os.fork()
            if not pid:
                how()
                sys.exit(5)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def fails(): raise ValueError
        def terminated():
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
            process.start()
            process.terminate()
            process.join()
            return process.exitcode

        for where in (swiftpy.task, swiftpy.task(isolated=True)):
            codes = [where(forks)(how) for how in (int, fails, sys.exit)]
            assert swiftpy.gather(codes) == [5, 1, 0]
            assert where(terminated)().result() == -15
        assert terminated() == -15
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not os.fork():
            os._exit(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)
        assert os.wait()[1] == 0
        if not os.fork():
            sys.exit(0)
        os.wait()
        assert swiftpy.task(abs)(-1).result() == 1
        """,
    )
    assert result.returncode == 0, result.stdout + result.stderr
