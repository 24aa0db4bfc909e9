"""swiftpy.Executor as users use it, and how it ends, in a job and with a job of its own."""

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from job import MPIEXEC, processes_in
from swiftpy.own_job import _Link

pytestmark = pytest.mark.mpi_job

HERE = Path(__file__).parent
ALONE = [sys.executable]
IN_JOB = [MPIEXEC, "-n", "5", sys.executable, "-m", "swiftpy"]
NO_SUCH_TESTS = 77
IMPORTS = """
import contextlib, os, signal, sys, threading, time
from concurrent.futures import BrokenExecutor
import swiftpy
"""
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "HYD", "SWIFTPY"))}


def run(command, directory, timeout=300):
    """What a program printed, its exit code, and that nothing of it is left."""
    result = subprocess.run(
        list(map(str, command)),
        cwd=directory,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    nothing_left(directory)
    return result.returncode, result.stdout


def passes(command, directory):
    code, output = run(command, directory)
    assert code == 0, output
    return output


def nothing_left(directory):
    deadline = time.monotonic() + 60
    while processes_in(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_in(directory)


def script(directory, program):
    path = directory / "a script.py"
    path.write_text(IMPORTS + textwrap.dedent(program))
    return path


@pytest.mark.parametrize("start", [ALONE, IN_JOB], ids=["alone", "in a job"])
def test_what_users_do(tmp_path, start):
    assert "all is well" in passes([*start, HERE / "use.py"], tmp_path)


@pytest.mark.parametrize("start", [ALONE, IN_JOB], ids=["alone", "in a job"])
def test_cpythons_tests(tmp_path, start):
    code, output = run([*start, HERE / "cpython_suite.py"], tmp_path)
    if code == NO_SUCH_TESTS:
        pytest.skip(output.strip())
    assert code == 0 and "\nRan " in output, output


@pytest.mark.parametrize("start", [ALONE, IN_JOB], ids=["alone", "in a job"])
def test_joblibs_tests(tmp_path, start):
    code, output = run([*start, HERE / "joblib_suite.py"], tmp_path)
    assert code == 0 and " passed" in output, output


def test_scikit_learn_and_nested_parallelism(tmp_path):
    program = """
    def main():
        import joblib
        from sklearn.datasets import load_iris
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import cross_val_score

        def nested(i):
            return joblib.Parallel(n_jobs=2)(joblib.delayed(lambda j: (i + j, os.getpid()))(j) for j in range(3))

        swiftpy.register_joblib()
        x, y = load_iris(return_X_y=True)
        forest = RandomForestClassifier(20, random_state=0)
        expected = cross_val_score(forest, x, y)
        with joblib.parallel_config(backend="swiftpy", n_jobs=2):
            assert list(cross_val_score(forest, x, y)) == list(expected)
            assert list(forest.set_params(n_jobs=2).fit(x, y).predict(x[:3])) == [0, 0, 0]
            for i, row in enumerate(joblib.Parallel()(joblib.delayed(nested)(i) for i in range(4))):
                assert [value for value, _ in row] == [i, i + 1, i + 2]
                assert len({pid for _, pid in row}) == 1 and os.getpid() not in {pid for _, pid in row}
    if __name__ == "__main__":
        main()
    """
    passes([MPIEXEC, "-n", 3, sys.executable, "-m", "swiftpy", script(tmp_path, program)], tmp_path)


@pytest.mark.parametrize("start", [ALONE, IN_JOB], ids=["alone", "in a job"])
def test_an_initializer_that_fails_breaks_only_its_executor(tmp_path, start):
    program = """
    def fails(): raise OSError("no licence")
    def main():
        good = swiftpy.Executor(2)
        bad = swiftpy.Executor(2, initializer=fails)
        futures = []
        with contextlib.suppress(BrokenExecutor):  # that may be known before all are submitted
            for _ in range(200):
                futures.append(bad.submit(time.sleep, 0.05))
        assert futures
        for future in futures:
            error = future.exception(120)
            assert isinstance(error, BrokenExecutor) and "no licence" in str(error), error
        try:
            bad.submit(abs, -1)
        except BrokenExecutor as error:
            assert "no licence" in str(error)
        else:
            raise AssertionError
        assert good.submit(abs, -1).result() == 1
        good.shutdown(), bad.shutdown()
    if __name__ == "__main__":
        main()
    """
    assert "OSError: no licence" in passes([*start, script(tmp_path, program)], tmp_path)


@pytest.mark.parametrize("start", [ALONE, IN_JOB], ids=["alone", "in a job"])
def test_all_functions_see_what_the_initializer_made(tmp_path, start):
    """Each goes by value, with globals of its own. What the initializer only reads stays what they came with."""
    program = """
    import functools
    model, seen, scale = None, [], 1

    def init(v):
        global model
        model = v * scale
        seen.append(v)
    def use(x): return model, x, scale
    def use2(x):
        seen.append(x)
        return "two", model, seen[:2]

    class Loader:
        def load(self, v): init(v)
        def use(self, x): return model, x

    def main():
        global scale
        with swiftpy.Executor(1, initializer=init, initargs=("M",)) as executor:
            assert executor.submit(use, 1).result() == ("M", 1, 1)
            scale = 2
            assert executor.submit(use2, 1).result() == ("two", "M", ["M", 1])
            assert list(executor.map(use, range(3), chunksize=2)) == [("M", i, 2) for i in range(3)]
            assert executor.submit(lambda: (model, seen[0], scale)).result() == ("M", "M", 2)
            assert list(executor.map(lambda x: (model, x), range(3), chunksize=2)) == [("M", i) for i in range(3)]
            assert list(executor.map(functools.partial(Loader().use), range(3), chunksize=2))[2] == ("M", 2)
            assert executor.submit(Loader().use, 5).result() == ("M", 5)
        scale = 1
        with (
            swiftpy.Executor(1, initializer=functools.partial(init, "A")) as one,
            swiftpy.Executor(1, initializer=Loader().load, initargs=("B",)) as other,
        ):
            ask = lambda x: (model, x)
            for i in range(3):
                assert one.submit(ask, i).result() == ("A", i) and other.submit(ask, i).result() == ("B", i)
                assert one.submit(use, i).result()[0] == "A" and other.submit(use, i).result()[0] == "B"
        with swiftpy.Executor(1) as executor:
            assert executor.submit(lambda: model).result() is None
    if __name__ == "__main__":
        main()
    """
    passes([*(start if start is ALONE else [MPIEXEC, "-n", 2, *IN_JOB[3:]]), script(tmp_path, program)], tmp_path)


def test_a_job_that_dies_breaks_its_executor(tmp_path):
    program = """
    def main():
        executor = swiftpy.Executor(1)
        killer = executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        for future in [killer, *(executor.submit(time.sleep, 600) for _ in range(10))]:
            error = future.exception(120)
            assert isinstance(error, BrokenExecutor) and "has died" in str(error), repr(error)
        try:
            executor.submit(abs, -1)
        except BrokenExecutor as error:
            assert "has died" in str(error)
        else:
            raise AssertionError
        with swiftpy.Executor(1) as executor:
            assert executor.submit(abs, -3).result() == 3
            sleeping, waiting = executor.submit(time.sleep, 600), executor.submit(time.sleep, 600)
            executor.kill_workers()
            assert isinstance(sleeping.exception(120), BrokenExecutor) and waiting.cancelled()
    if __name__ == "__main__":
        main()
    """
    passes([*ALONE, script(tmp_path, program)], tmp_path)


ENDINGS = {
    "without shutdown": ("let(); raise SystemExit(4)", 4, ["one", "two", "three"]),
    "forgotten": ("let(); del executor, futures; import gc; gc.collect()", 0, ["one", "two", "three"]),
    "cancelled": ("executor.shutdown(wait=False, cancel_futures=True); let()", 0, ["one"]),
    "interrupted": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT, []),
    "interrupted in with": ("with executor: os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT, []),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, []),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_how_programs_end(tmp_path, name):
    """Three calls pend on one worker, and take 0.3 s once they are let. Interrupted and killed programs, which do not
    let them, do not wait for them."""
    statement, code, said = ENDINGS[name]
    program = f"""
    def let(): open("let", "w").close()
    def say(what):
        open("begun", "w").close()
        while not os.path.exists("let"): time.sleep(0.01)
        time.sleep(0.3)
        print(what, flush=True)
    if __name__ == "__main__":
        executor = swiftpy.Executor(1)
        executor.submit(abs, 1).result()
        futures = [executor.submit(say, what) for what in ("one", "two", "three")]
        while not os.path.exists("begun"): time.sleep(0.01)
        {statement}
    """
    code_, output = run([*ALONE, script(tmp_path, program)], tmp_path)
    assert code_ == code, output
    assert [line for line in output.splitlines() if line in ("one", "two", "three")] == said, output


def test_a_call_after_the_end_of_its_job(tmp_path):
    """It is refused as CPython's executors refuse it."""
    program = """
    import atexit

    @atexit.register
    def too_late():
        try:
            executor.submit(abs, 1)
        except RuntimeError as error:
            print(error)
    if __name__ == "__main__":
        executor = swiftpy.Executor(1)
        executor.submit(abs, 1).result()
    """
    assert "cannot schedule new futures" in passes([*ALONE, script(tmp_path, program)], tmp_path)


def test_a_process_that_the_program_forks_ends(tmp_path):
    """The job is its parent's."""
    program = """
    if __name__ == "__main__":
        executor = swiftpy.Executor(1)
        executor.submit(abs, 1).result()
        with executor:
            if not os.fork():
                try:
                    executor.submit(abs, 1)
                except BrokenExecutor as error:
                    print(error)
                    sys.exit(3)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
            assert executor.submit(abs, -2).result() == 2
    """
    assert "from which this one was forked" in passes([*ALONE, script(tmp_path, program)], tmp_path)


@pytest.mark.parametrize("wait", [True, False], ids=["running", "starting"])
def test_a_process_that_the_program_forks_outlives_it(tmp_path, wait):
    """The job does not: killed, the program says nothing to it, and what was forked holds copies of its sockets."""
    program = f"""
    if __name__ == "__main__":
        executor = swiftpy.Executor(1)
        if {wait}:
            executor.submit(abs, 1).result()
        pid = os.fork()
        if not pid:
            os.closerange(0, 3)
            os.chdir("/")
            time.sleep(600)
            os._exit(0)
        with open("pid", "w") as file: file.write(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    try:
        assert run([*ALONE, script(tmp_path, program)], tmp_path)[0] == -signal.SIGKILL
    finally:  # it lives: the job, which holds our pipe, has not waited for what was forked
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_killed_while_its_job_starts(tmp_path):
    program = """
    if __name__ == "__main__":
        executor = swiftpy.Executor(2)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    before = set(Path("/tmp").glob("swiftpy-*"))
    assert run([*ALONE, script(tmp_path, program)], tmp_path)[0] == -signal.SIGKILL
    assert not set(Path("/tmp").glob("swiftpy-*")) - before


def test_who_sets_a_future_by_hand_wakes_the_job():
    """The calls that needed it were made up to a second later."""
    link = _Link(None, queue.SimpleQueue())
    sleeper = threading.Thread(target=link.recv, args=(threading.TIMEOUT_MAX,), daemon=True)
    sleeper.start()
    link.wake()
    sleeper.join(60)
    assert not sleeper.is_alive()


def test_another_user_cannot_get_between(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    program = """
    import socket

    def connect(address):
        os.setuid(65534)
        socket.socket(socket.AF_UNIX).connect(address)
        os.write(1, b"connected\\n")

    if __name__ == "__main__":
        with swiftpy.Executor(1) as executor:
            address = executor._engine._listener.getsockname()
            if os.fork() == 0:
                connect(address)
                os._exit(0)
            os.wait()
            assert executor.submit(abs, -1).result(120) == 1
    """
    assert "connected" in passes([*ALONE, script(tmp_path, program)], tmp_path)


def test_without_mpiexec(tmp_path):
    program = """
    sys.executable = "/nowhere/python"
    os.environ["PATH"] = "/nowhere"
    swiftpy.Executor()
    """
    code, output = run([*ALONE, script(tmp_path, program)], tmp_path)
    assert code == 1 and output.strip().endswith(
        "mpiexec is not installed: pip install mpich, or load the site's MPI module"
    )


def test_a_job_that_cannot_start(tmp_path):
    (tmp_path / "mpiexec").write_text("#!/bin/sh\nexit 5\n")
    (tmp_path / "mpiexec").chmod(0o755)
    program = f"""
    if __name__ == "__main__":
        sys.executable = "{tmp_path}/python"
        executor = swiftpy.Executor()
        error = executor.submit(abs, 1).exception(120)
        assert isinstance(error, BrokenExecutor) and "did not start: exit code 5" in str(error), repr(error)
        executor.shutdown()
    """
    passes([*ALONE, script(tmp_path, program)], tmp_path)
