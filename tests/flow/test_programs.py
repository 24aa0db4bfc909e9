"""Programs as users write them, under a real mpiexec: each is a script that checks itself."""

import json
import subprocess
import sys
import textwrap

import pytest

from job import MPIEXEC

pytestmark = pytest.mark.mpi_job


def run(tmp_path, program, *options, procs=3, args=()):
    script = tmp_path / "a script.py"
    script.write_text("import swiftpy, time, os, sys\n" + textwrap.dedent(program))
    command = [MPIEXEC, "-n", str(procs), sys.executable, "-m", "swiftpy", *options, str(script), *args]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def passes(tmp_path, program, options=(), **kwargs):
    result = run(tmp_path, program, *options, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_futures_in_arguments_are_dependencies(tmp_path):
    passes(
        tmp_path,
        """
        from dataclasses import dataclass

        @dataclass
        class Pair:
            left: object
            right: object

        @swiftpy.task
        def add(a, b=0): return a + b
        @swiftpy.task
        def total(many): return sum(many)
        @swiftpy.task
        def of_pair(pair, extra): return pair.left + pair.right + extra["deep"][0]

        assert add(add(1, 2), b=add(3)).result() == 6
        assert total([add(i, i) for i in range(5000)]).result() == sum(2 * i for i in range(5000))
        assert of_pair(Pair(add(1), 2), {"deep": [add(4)]}).result() == 7
        first = add(1)
        assert [f.result() for f in [add(first, i) for i in range(2000)]] == [i + 1 for i in range(2000)]
        """,
    )


def test_short_tasks_that_are_not_alike_travel_together(tmp_path):
    """Calls of several functions, each with needs of its own; then some that turn out long, which all workers share."""
    passes(
        tmp_path,
        """
        import random

        @swiftpy.task
        def add(a, b): return (a + b) % 1009
        @swiftpy.task
        def multiply(a, b): return a * b % 1009
        @swiftpy.task
        def meet(name, workers):  # so many, or wait
            open(f"{name}-{os.getpid()}", "w").close()
            while sum(file.startswith(f"{name}-") for file in os.listdir()) < workers: time.sleep(0.01)
        def other(name, workers): meet.function(name, workers)
        other = swiftpy.task(other)

        draw = random.Random(1)
        futures, values = [add(1, 0), add(2, 0)], [1, 2]
        for _ in range(3000):
            task = draw.choice((add, multiply))
            a, b = (draw.randrange(max(0, len(values) - 50), len(values)) for _ in "ab")
            futures.append(task(futures[a], futures[b]))
            values.append(task.function(values[a], values[b]))
        assert swiftpy.gather(futures) == values
        swiftpy.gather([(meet, other)[i % 2]("few", 0) for i in range(200)])
        swiftpy.gather([(meet, other)[i % 2]("all", 3) for i in range(12)])
        """,
        procs=4,
    )


def test_a_chain_whatever_it_is_made_of(tmp_path):
    """A chain travels in pieces to one worker at a time; here calls branch off it, and one in its middle fails."""
    passes(
        tmp_path,
        """
        @swiftpy.task
        def step(x):
            if x == 700: raise ValueError("700")
            return x + 1
        @swiftpy.task
        def double(x): return 2 * x

        x, seen, twice = step(-1), [], []
        for i in range(1500):
            x = step(x)
            seen.append(x)
            if i % 100 == 0:
                twice.append(double(x))
        swiftpy.wait(seen)
        assert [f.result() for f in seen[:699]] == list(range(1, 700))
        kinds = [f.exception().kind for f in seen[700:]]
        assert seen[699].result() == 700 and kinds == ["exception"] + ["cancelled"] * (len(kinds) - 1)
        assert [f.result() for f in twice[:7]] == [2 + 200 * i for i in range(7)]
        assert all(f.exception().kind == "cancelled" for f in twice[8:])
        """,
    )


def test_random_graphs_of_chains_forks_and_joins(tmp_path):
    """Against plain Python; four threads submit at once, so that runs of one are taken while another adds to its."""
    passes(
        tmp_path,
        """
        import random, threading

        @swiftpy.task
        def step(x, k=1): return x + k
        @swiftpy.task
        def join(*xs): return sum(xs) % 1000

        def check(seed):
            rng = random.Random(seed)
            futures, values = [step(i) for i in range(10)], [i + 1 for i in range(10)]
            for _ in range(1000):
                i, j, what = rng.randrange(len(values)), rng.randrange(len(values)), rng.random()
                if what < 0.6: futures[i], values[i] = step(futures[i]), values[i] + 1
                elif what < 0.7: futures[i], values[i] = step(futures[i], k=3), values[i] + 3
                elif what < 0.9: futures.append(step(futures[i])), values.append(values[i] + 1)
                else: futures[i], values[i] = join(futures[i], futures[j]), (values[i] + values[j]) % 1000
            passed.append(swiftpy.gather(futures) == values)

        passed = []
        threads = [threading.Thread(target=check, args=(seed,)) for seed in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert passed == [True] * 4
        """,
    )


def test_a_call_begins_while_others_wait_and_the_program_computes(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task(rank=1)
        def slow():
            while not os.path.exists("done"): time.sleep(0.01)
        @swiftpy.task(rank=2)
        def quick(): pass

        slows = [slow() for _ in range(3)]
        time.sleep(0.1)
        other = quick()
        while not other.done(): time.sleep(0.01)
        open("done", "w").close()
        """,
        procs=3,
    )


def test_threads_of_the_engine_soon_get_on_beside_what_computes(tmp_path):
    """What a script has chosen itself stays. The effect: python -m benchmarks.engine --cases computing"""
    passes(
        tmp_path,
        """
        from swiftpy.runtime.transport import SWITCH, share_interpreter

        @swiftpy.task
        def interval(): return sys.getswitchinterval()

        for each in sys.getswitchinterval(), interval().result():
            assert abs(each - SWITCH) < 1e-5, each
        sys.setswitchinterval(SWITCH / 2)
        share_interpreter()
        assert sys.getswitchinterval() < SWITCH
        """,
    )


def test_map_keeps_the_order_and_fails_where_it_fails(tmp_path):
    passes(
        tmp_path,
        """
        def square(x): return x * x
        def picky(x):
            if x == 70_000: raise ValueError("70000")
            return x

        assert list(swiftpy.map(square, range(200_000))) == [i * i for i in range(200_000)]
        assert list(swiftpy.map(pow, [2, 3], [5, 2])) == [32, 9]
        assert list(swiftpy.map(square, [])) == []
        def late(x): time.sleep(0.1); return x
        late = swiftpy.task(late)
        assert list(swiftpy.map(square, [late(2), 3])) == [4, 9]
        assert list(swiftpy.map(max, [[late(2), 3]], [[2, late(2)]])) == [[2, 3]]
        size = swiftpy.task(lambda comm, x: (comm.size, x), ranks=2)
        assert list(swiftpy.map(size, range(3))) == [(2, 0), (2, 1), (2, 2)]
        results = swiftpy.map(picky, range(100_000))
        assert [next(results) for _ in range(70_000)] == list(range(70_000))
        try:
            next(results)
        except swiftpy.TaskError as error:
            assert "70000" in error.message
        else:
            raise AssertionError("no error")
        """,
    )


def test_calls_that_take_unexpectedly_long_are_shared(tmp_path):
    """Thousands of quick calls make the engine send many at once; then each waits for a call on every worker. Without
    recall one worker would have most of them, while the others have nothing to do."""
    passes(
        tmp_path,
        """
        def work(meets):
            if meets:
                open(f"pid-{os.getpid()}", "w").close()
                while sum(name.startswith("pid-") for name in os.listdir()) < 3: time.sleep(0.01)

        list(swiftpy.map(work, [False] * 30_000))
        list(swiftpy.map(work, [True] * 9))
        """,
        procs=4,
    )


def test_resources_are_loaded_once_in_each_process(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.resource
        def table():
            open(f"loaded-{os.getpid()}", "a").write("x")
            return {"pid": os.getpid()}
        @swiftpy.task
        def one(i): return table()["pid"]
        @swiftpy.task
        def two(i): return table()["pid"]

        pids = set(swiftpy.gather([one(i) for i in range(300)] + [two(i) for i in range(300)]))
        loads = [name for name in os.listdir() if name.startswith("loaded-")]
        assert {int(name.split("-")[1]) for name in loads} == pids
        assert all(open(name).read() == "x" for name in loads)

        @swiftpy.resource
        def joined():
            open("loads", "a").write("x")
            return part.options(rank=2)().result()
        @swiftpy.task
        def part():
            while not os.path.exists("begun-1"): time.sleep(0.01)
        @swiftpy.task(rank=1)
        def use(i):  # the second one has the worker while the first waits
            open(f"begun-{i}", "w").close()
            joined()
        swiftpy.gather([use(i) for i in range(3)])
        assert open("loads").read() == "x"
        """,
    )


def test_what_reads_in_a_task_finds_nothing(tmp_path):
    """Launchers give other ranks than 0 a pipe that never ends, for which ssh or ffmpeg would wait."""
    passes(
        tmp_path,
        """
        import subprocess
        read = swiftpy.task(lambda: subprocess.run(["cat"], capture_output=True, timeout=120).stdout)
        assert read().result() == b"" and swiftpy.task(lambda: sys.stdin.read())().result() == ""
        """,
    )


def test_isolated_calls_that_were_cancelled_are_not_tried(tmp_path):
    """Nor do they cost the process that the next are made in."""
    passes(
        tmp_path,
        """
        @swiftpy.task(isolated=True, retries=2)
        def process(): return os.getpid()
        @swiftpy.task
        def hold():
            while not os.path.exists("cancelled"): time.sleep(0.01)

        first = process().result()
        before = hold()
        calls = [process() for _ in range(20)]
        time.sleep(0.2)
        assert all(call.cancel() for call in calls)
        open("cancelled", "w").close()
        assert process().result() == first
        """,
        procs=2,
    )


def test_isolated_tasks_may_crash_and_time_out(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task(isolated=True, retries=1)
        def crash(): os.kill(os.getpid(), 11)
        @swiftpy.task(timeout=0.5)
        def slow(): time.sleep(60)
        @swiftpy.task(isolated=True)
        def fine(x): return x + 1

        assert crash().exception().kind == "signal"
        assert slow().exception().kind == "timeout"
        assert swiftpy.gather([fine(i) for i in range(5)]) == [1, 2, 3, 4, 5]

        @swiftpy.task(isolated=True)
        def seldom(x):
            if x == 70: os._exit(3)
            return x

        alike = [seldom(i) for i in range(100)]
        swiftpy.wait(alike)
        assert [i for i, future in enumerate(alike) if future.exception()] == [70], "a crash costs its own call alone"
        assert list(swiftpy.map(seldom, range(50))) == list(range(50))
        """,
    )


def test_kinds_of_workers_and_targets(tmp_path):
    result = run(
        tmp_path,
        """
        @swiftpy.task(kind="gpu")
        def on_gpu(): time.sleep(0.02); return os.environ["ADLB_RANK_SELF"]
        @swiftpy.task(rank=3)
        def on_three(): return os.environ["ADLB_RANK_SELF"]
        @swiftpy.task(rank=9)
        def nowhere(): pass

        assert set(swiftpy.gather([on_gpu() for _ in range(6)])) == {"1"}
        assert on_three().result() == "3"
        assert nowhere().exception().kind == "rejected"
        """,
        "--kinds",
        "gpu:1",
        "--hostmap",
        procs=4,
    )
    assert result.returncode == 0, result.stderr
    assert "rank 1" in result.stderr and ", gpu" in result.stderr


def test_await(tmp_path):
    passes(
        tmp_path,
        """
        import asyncio
        @swiftpy.task
        def inc(x): return x + 1
        async def main(start):
            a = await inc(start)
            return await asyncio.gather(*[inc(a) for _ in range(3)])
        assert swiftpy.run(main, 1) == [3, 3, 3]
        in_task = swiftpy.task(lambda: asyncio.run(main(1)))
        assert in_task().result(timeout=120) == [3, 3, 3]
        """,
    )


def test_a_trace_and_a_summary(tmp_path):
    result = run(
        tmp_path,
        """
        assert sys.argv[1:] == ["--x", "1"]
        list(swiftpy.map(abs, range(5000)))
        """,
        "--trace",
        "trace.json",
        "--summary",
        args=("--x", "1"),
    )
    assert result.returncode == 0, result.stderr
    events = json.loads((tmp_path / "trace.json").read_text())
    assert sum(event["args"]["calls"] for event in events if event["ph"] == "X") == 5000
    assert "5000 calls in" in result.stderr
