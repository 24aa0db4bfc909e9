"""Large results stay with the workers that made them, travel from one to the other, and are forgotten in time."""

import subprocess
import sys
import textwrap

import pytest

from job import MPIEXEC

pytestmark = pytest.mark.mpi_job

PRELUDE = """
import gc, os, resource, time
import numpy as np
import swiftpy

MB = 2**20
os.environ["OMP_NUM_THREADS"] = "1"

def peak():  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def in_use():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def soon(true):
    until = time.monotonic() + 60
    while not true() and time.monotonic() < until: time.sleep(0.1)
    assert true()

@swiftpy.task
def make(size, value):
    return np.full(size, value, np.uint8)

@swiftpy.task
def total(*arrays):
    return sum(int(array.sum(dtype=np.int64)) for array in arrays)

@swiftpy.task
def memory():
    return in_use()

"""


def passes(tmp_path, program, procs=3):
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + textwrap.dedent(program))
    command = [MPIEXEC, "-n", str(procs), sys.executable, "-m", "swiftpy", str(script)]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_they_do_not_pass_through_rank_0_and_are_freed(tmp_path):
    passes(
        tmp_path,
        """
        before = peak()
        for round in range(6):
            arrays = [make.options(rank=1 + i % 3)(20 * MB, i) for i in range(6)]
            sums = [total.options(rank=1 + (i + 1) % 3)(arrays[i], arrays[(i + 3) % 6]) for i in range(6)]
            assert swiftpy.gather(sums) == [20 * MB * (i + (i + 3) % 6) for i in range(6)]
            del arrays, sums
        assert peak() - before < 40 * MB, "rank 0 saw them"
        for rank in (1, 2, 3):
            soon(lambda: memory.options(rank=rank)().result() < 220 * MB)
        """,
        procs=4,
    )


def test_they_come_when_asked_for_and_can_be_changed(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def pair(n):
            return {"a": np.arange(n), "b": "x" * 200_000, "n": n}

        @swiftpy.task
        def change(array):
            array[0] = 99
            return int(array[0])

        future = pair(100_000)
        value = future.result()
        assert value is future.result() and value["a"][-1] == 99_999 and len(value["b"]) == 200_000
        value["a"][0] = 5
        array = make(MB, 7)
        assert swiftpy.gather(change.options(rank=rank)(array) for rank in (1, 2, 3)) == [99] * 3
        assert array.result()[0] == 7, "each task has a copy of its own"
        assert total(array).result() == 7 * MB, "it can still be passed on"
        del array
        """,
        procs=4,
    )


def test_a_task_may_go_on_changing_what_it_returned(tmp_path):
    passes(
        tmp_path,
        """
        weights = np.zeros(MB, np.uint8)

        @swiftpy.task
        def train():
            weights[:] += 1
            return weights

        results = [train.options(rank=1)() for _ in range(3)]
        assert [int(result.result()[0]) for result in results] == [1, 2, 3]
        """,
    )


def test_large_arguments_are_held_until_the_task_is_done(tmp_path):
    passes(
        tmp_path,
        """
        from swiftpy.flow import program

        array = np.full(2 * MB, 3, np.uint8)
        assert swiftpy.gather(total(array, array) for _ in range(20)) == [12 * MB] * 20
        assert total.function(*swiftpy.map(lambda a: a * 2, [array])) == 12 * MB, "in bulk, too"
        assert total.options(isolated=True)(array).result() == 6 * MB
        assert not program.engine()._data.held
        """,
    )


def test_isolated_tasks_fetch_and_keep(tmp_path):
    passes(
        tmp_path,
        """
        made = make.options(isolated=True, rank=1)(MB, 4)
        assert make.options(rank=1)(10, 5).result()[0] == 5, "its definition went to another process"
        assert total.options(isolated=True, rank=2)(made).result() == 4 * MB
        assert total.options(isolated=True, rank=1)(made).result() == 4 * MB
        assert int(made.result()[-1]) == 4
        """,
    )


def test_parallel_tasks_fetch_from_each_other(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task(ranks=3)
        def together(comm, *arrays):
            value = comm.allreduce(sum(int(array[0]) for array in arrays))
            return np.full(MB, value, np.uint8)

        arrays = [make.options(rank=rank)(4 * MB, rank) for rank in (1, 2, 3)]
        results = [together(arrays[i % 3]) for i in range(6)] + [together(*arrays)]
        assert [int(result.result()[0]) for result in results] == [3, 6, 9, 3, 6, 9, 18]
        assert total(results[0]).result() == 3 * MB
        given = [np.full(MB, i, np.uint8) for i in range(5)]
        assert [int(array[0]) for array in swiftpy.map(together, given)] == [0, 3, 6, 9, 12]
        """,
        procs=4,
    )


def test_tasks_of_tasks(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def tree(depth):
            if depth == 0:
                return np.ones(MB, np.uint8)
            left, right = tree(depth - 1), tree(depth - 1)
            return join(left, right).result()

        @swiftpy.task
        def join(left, right):
            return left + right

        @swiftpy.task
        def late():
            array = np.full(MB, 2, np.uint8)
            return total(join(array, make(MB, 1)))  # a future: its value is waited for

        assert int(tree(4).result()[5]) == 16
        assert late().result() == 3 * MB
        for rank in (1, 2, 3):
            soon(lambda: memory.options(rank=rank)().result() < 160 * MB)
        """,
        procs=4,
    )


def test_chains_and_kept_results(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def add(array, value):
            return array + np.uint8(value)

        array = make(MB, 0)
        for _ in range(50):
            array = add(array, 1)
        assert int(array.result()[0]) == 50

        kept = swiftpy.memo("kept")(add)
        for _ in range(2):
            assert int(kept(add(make(MB, 1), 1), 1).result()[0]) == 3
        """,
    )


def test_a_busy_holder_still_gives(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def compute():
            open("begun", "w").close()
            while not os.path.exists("given"):
                sum(range(1000))

        array = make.options(rank=1)(8 * MB, 1)
        swiftpy.wait([array])
        busy = compute.options(rank=1)()
        while not os.path.exists("begun"): time.sleep(0.01)
        assert total.options(rank=2)(array).result() == 8 * MB
        open("given", "w").close()
        busy.result()
        """,
    )


def test_what_calls_of_tasks_needed_is_forgotten(tmp_path):
    """Without waiting for Python's search for cycles."""
    passes(
        tmp_path,
        """
        @swiftpy.task
        def held():
            from swiftpy.flow import program
            return len(program.current()._worker.data.held)
        @swiftpy.task
        def adds(n):
            __import__("gc").disable()
            return sum(swiftpy.gather([total(make(MB, i)) for i in range(n)]))

        for _ in range(10):
            adds(3).result()
        soon(lambda: max(swiftpy.gather([held.options(rank=rank)() for rank in (1, 2)])) <= 3)
        """,
    )


@pytest.mark.parametrize("asks", ["the program", "nobody"])
def test_a_kept_call_and_the_program_want_the_same(tmp_path, asks):
    """While the holder keeps the interpreter for a second, and cannot answer, the program and the call both ask."""
    passes(
        tmp_path,
        f"""
        @swiftpy.task(rank=1)
        def made(): return bytes(MB)
        @swiftpy.task(rank=1)
        def keeps_the_interpreter(): sum(range(3 * 10**7))
        @swiftpy.task(rank=2)
        def nap(): time.sleep(0.3)

        big = made()
        nap()
        kept = swiftpy.memo("kept")(swiftpy.task(rank=2)(len))(big)
        busy = keeps_the_interpreter()
        swiftpy.wait([big])
        time.sleep(0.1)
        if {asks == "the program"}:
            assert len(big.result()) == MB
        assert kept.result() == MB and busy.result() is None
        """,
    )


def test_a_kept_call_waits_for_its_arguments_and_others_do_not(tmp_path):
    """Their holder is inside of MPI until a task has run that comes after it."""
    passes(
        tmp_path,
        """
        @swiftpy.task(rank=2)
        def made(): return bytes(MB)
        @swiftpy.task(rank=3)
        def quick(): pass
        @swiftpy.task(ranks=2)
        def together(comm):
            open(f"begun-{comm.rank}", "w").close()
            if comm.rank == 0:
                time.sleep(1)
                quick().result()
            comm.barrier()
        @swiftpy.task(rank=3)
        def nap():  # until the others are together: this rank is not to be one of them
            while not all(os.path.exists(f"begun-{rank}") for rank in (0, 1)): time.sleep(0.01)
            time.sleep(0.1)

        big = made()
        nap()
        kept = swiftpy.memo("kept")(swiftpy.task(rank=3)(len))(big)
        swiftpy.wait([big])
        end = together()
        time.sleep(0.7)
        swiftpy.gather([quick() for _ in range(5)])
        assert kept.result() == MB and end.result() is None
        """,
        procs=4,
    )


@pytest.mark.parametrize("waits", ["before", "after"])
def test_a_value_that_lies_within_a_parallel_task(tmp_path, waits):
    """Its holder answers when the parallel task ends, which waits for a rank that has begun to wait for the value: with
    its own part of the parallel task, or with a task that this waits for."""
    where = 1 if waits == "before" else 3
    passes(
        tmp_path,
        f"""
        @swiftpy.task(rank={where})
        def be_quick():
            from swiftpy.runtime import worker
            worker.STUCK = 1.0
        @swiftpy.task(rank=2)
        def made(): return bytes(MB)
        @swiftpy.task(rank=3)
        def below(x):
            time.sleep(0.5)
            return x + 1
        @swiftpy.task(ranks=2)
        def together(comm):
            open(f"begun-{{comm.rank}}", "w").close()
            if comm.rank == 0:
                time.sleep(1)
            return comm.bcast(below(1).result() if comm.rank == 0 else None)
        @swiftpy.task(rank=3)
        def nap():  # until the others are together: this rank is not to be one of them
            while not all(os.path.exists(f"begun-{{rank}}") for rank in (0, 1)): time.sleep(0.01)

        big = made()
        swiftpy.wait([big, be_quick()])
        napping = nap()
        result = together()
        time.sleep(1.2 if {waits == "before"} else 0.7)
        used = swiftpy.task(rank={where})(len)(big)
        assert result.result() == 2 and used.result() == MB
        """,
        procs=4,
    )


def test_a_thread_fetches_while_another_waits(tmp_path):
    """Who leads is asleep until its own task ends, or for a second, and is woken for what the other wants."""
    passes(
        tmp_path,
        """
        import threading

        @swiftpy.task(rank=1)
        def nap():
            while not os.path.exists("fetched"): time.sleep(0.01)

        def fetch():
            for array in arrays:
                time.sleep(0.15)  # who leads is asleep again
                began = time.monotonic()
                array.result()
                times.append(time.monotonic() - began)
            open("fetched", "w").close()

        times, arrays = [], [make.options(rank=2)(MB, i) for i in range(8)]
        swiftpy.wait(arrays)
        thread = threading.Thread(target=fetch)
        thread.start()
        nap().result()
        thread.join()
        assert sorted(times)[3] < 0.4, times  # a slow machine makes some of them slow
        """,
    )
