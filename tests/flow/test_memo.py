"""`swiftpy.memo`, also in jobs that are killed."""

import os
import random
import subprocess
import sys

import pytest

from job import MPIEXEC
from swiftpy.flow.future import Future
from swiftpy.flow.memo import Keeper, memo
from test_programs import passes

pytestmark = pytest.mark.mpi_job

MADE = """
        def made(what):
            with open("made.log", "a") as log: log.write(f"{what}\\n")
        """


def made(tmp_path):
    log = tmp_path / "made.log"
    return log.read_text().split() if log.exists() else []


def test_what_is_there_is_not_computed_again(tmp_path):
    """Arguments that are plain, futures of kept tasks, of others, or of gangs; classes of the script; a chain; calls
    that need a result whose call is not submitted yet, for its key is not known."""
    program = (
        MADE
        + """
        from dataclasses import dataclass
        memo = swiftpy.memo("memo")

        @dataclass
        class Point:
            x: int

        @memo
        @swiftpy.task(priority=1)
        def point(x): made("point"); return Point(x)
        @swiftpy.task
        def x_of(point): return point.x
        @memo
        def total(many, scale=1): made("total"); return scale * sum(many)
        @memo
        def step(x): made("step"); return x + 1
        @memo
        @swiftpy.task(ranks=2)
        def together(comm, x): made("gang"); return comm.allreduce(x)
        @memo
        def fails(*_): made("fails"); raise ValueError("no")
        @swiftpy.task
        def add(a, b): return a + b

        points = [point(i) for i in range(300)]
        assert type(points[0].result()) is Point and points[7].result() == Point(7)
        assert total([x_of(p) for p in points], scale=together(5)).result() == 10 * sum(range(300))
        assert list(swiftpy.map(step, [1, 2, 3])) == [2, 3, 4]
        x = 0
        for _ in range(50): x = step(x)
        assert x.result() == 50
        assert total([1], 2).result() == 2 and fails().exception().task == "fails"
        sums = [add(0, add(total([x_of(p)], i + 2), x_of(point(x_of(p))))) for i, p in enumerate(points[:5])]
        assert swiftpy.gather(sums) == [i * (i + 2) + i for i in range(5)]
        assert "fails" in add(fails(x_of(points[0])), 1).exception().message
        print(len(memo))
        """
    )
    first = passes(tmp_path, program)
    expected = ["fails"] * 2 + ["gang", "gang"] + ["point"] * 300 + ["step"] * 50 + ["total"] * 7
    assert sorted(made(tmp_path)) == expected
    second = passes(tmp_path, program, procs=4)
    assert sorted(made(tmp_path)[len(expected) :]) == ["fails", "fails"]
    assert first.stdout.strip() == second.stdout.strip() == "358"
    passes(tmp_path, program.replace("return x + 1", "return 1 + x"))
    assert made(tmp_path).count("step") == 100


def test_a_result_is_kept_for_what_was_sent(tmp_path):
    """One dict for all calls: each was sent with what it had last, which was kept for all that it had before."""
    program = """
        @swiftpy.memo("memo")
        def taken(settings, *, more=()): return settings["x"], list(more)
        settings, more = {}, []
        for x in range(5):
            settings["x"] = x
            more.append(x)
            CALL
        """
    passes(tmp_path, program.replace("CALL", "taken(settings, more=more)"))
    passes(tmp_path, program.replace("CALL", "assert taken(settings, more=more).result() == (x, more)"))


def test_what_cannot_be_compared_is_refused_or_not_kept(tmp_path):
    """Where it came from another task, it is too late to refuse it. And what tasks call is not kept, either."""
    program = (
        MADE
        + """
        memo = swiftpy.memo("memo")
        class Opens:
            def __reduce__(self): return open, ("a script.py",)
        @swiftpy.task
        def opens(): return Opens()
        @memo
        def f(x): made("f"); return 1
        @swiftpy.task
        def calls(x):
            import beside
            return f(x).result() * beside.one(x=1).result()

        for wrong in (lambda: f(i for i in range(3)), lambda: memo(f)):
            try: wrong()
            except TypeError as error: print(error)
        assert swiftpy.gather([f(opens()), f(opens()), calls(5), f.options(priority=1)(6)]) == [1] * 4
        print(len(memo))
        """
    )
    (tmp_path / "beside.py").write_text("import swiftpy\n@swiftpy.memo('memo')\ndef one(x): return x")
    for round in (1, 2):
        result = passes(tmp_path, program)
        compared = "a result of f cannot be kept: an argument cannot be compared: cannot "
        refused, twice, count = result.stdout.splitlines()
        assert refused.startswith(compared) and twice == "the results of f are kept already"
        assert count == "1" and made(tmp_path) == ["f"] * (1 + 3 * round)
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"swiftpy: {compared}")


KILLED = """
import os, signal, swiftpy, threading, time

memo = swiftpy.memo("memo")

@memo
def leaf(i):
    with open(f"made-{os.environ['ROUND']}.log", "a") as log: log.write(f"{i}\\n")
    time.sleep(0.006)
    return bytes(i % 100)

@memo
def after(i, data):
    with open(f"made-{os.environ['ROUND']}.log", "a") as log: log.write(f"after{i}\\n")
    return len(data)

kill = threading.Timer(float(os.environ["DELAY"]), os.kill, (os.getpid(), signal.SIGKILL))
calls = {}
for i in range(600):
    calls[leaf(i)] = str(i)
    calls[after(i, list(calls)[-1])] = f"after{i}"
with open("reported.log", "a", buffering=1) as reported:
    for number, future in enumerate(swiftpy.as_completed(calls)):
        if number == int(os.environ["KILL"]): kill.start()
        future.result()
        reported.write(calls[future] + "\\n")
"""


def test_nothing_that_was_reported_is_computed_again_after_kill_9(tmp_path):
    (tmp_path / "script.py").write_text(KILLED)
    command = [MPIEXEC, "-n", "4", sys.executable, "-m", "swiftpy", "script.py"]
    rng = random.Random(5)
    (tmp_path / "reported.log").touch()  # it may be killed before it says anything
    reported = set()
    for attempt in range(5):
        kill = 150 * attempt + rng.randrange(150) if attempt < 4 else -1  # where, of 1200: how far it is says no clock
        env = {**os.environ, "ROUND": str(attempt), "KILL": str(kill), "DELAY": str(rng.choice([0, 0.002, 0.01]))}
        with (tmp_path / "job.log").open("ab") as log:
            code = subprocess.run(command, cwd=tmp_path, env=env, stdout=log, stderr=log, timeout=300).returncode
        assert (code != 0) == (attempt < 4), (attempt, (tmp_path / "job.log").read_text())
        log = tmp_path / f"made-{attempt}.log"
        again = reported & set(log.read_text().split()) if log.exists() else set()
        assert not again, f"round {attempt}"
        reported |= set((tmp_path / "reported.log").read_text().split("\n")[:-1])
    assert len(reported) == 1200


def test_a_call_that_was_given_back_begins_again_as_it_did(tmp_path):
    keeper, future, call = Keeper(memo(tmp_path), abs), Future(), (b"key", -3)
    assert keeper.begin(future, call) == keeper.begin(future, call) == (-3,) and future.key == b"key"


class Refuses:
    def __reduce__(self):
        raise RuntimeError("not this one")


def test_an_argument_that_refuses_to_be_pickled_costs_no_thread_of_the_engine(tmp_path, capsys):
    keeper = Keeper(memo(tmp_path), abs)
    for _ in range(2):
        assert keeper.key_of_values((Refuses(),), {}) == b""
    assert capsys.readouterr().err.count("not this one") == 1


def test_a_directory_that_cannot_be_made_is_said_by_the_first_call(tmp_path):
    """Not by the engine, which sees it only when what the call needs is there."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Keeper(memo(tmp_path / "file" / "results"), abs)


def test_the_rest_of_a_run_begins_as_its_first_piece_did(tmp_path):
    """Once they are known to be short, ten calls are shared by two workers: the second half is sent from a copy."""
    program = """
        kept = swiftpy.memo("memo")(lambda x: x + 1)
        for i in range(-40, 0): assert kept(i).result() == i + 1
        for first in range(0, 100, 10):
            time.sleep(0.01)
            assert swiftpy.gather([kept(i) for i in range(first, first + 10)]) == list(range(first + 1, first + 11))
        """
    passes(tmp_path, program, procs=3)
