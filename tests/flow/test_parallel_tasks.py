"""Tasks that run on several workers at once, among others."""

import pytest

from test_programs import passes

pytestmark = pytest.mark.mpi_job


def test_parallel_tasks_of_all_sizes_among_others(tmp_path):
    """Some wait for tasks of their own."""
    passes(
        tmp_path,
        """
        import random

        @swiftpy.task(ranks=2)
        def pair(comm, x):
            return comm.allreduce(x), comm.rank
        @swiftpy.task(ranks=4)
        def ring(comm, rounds):
            value = comm.rank
            for _ in range(rounds):
                value = comm.sendrecv(value, (comm.rank + 1) % 4, source=(comm.rank - 1) % 4)
            return value
        @swiftpy.task(ranks=3)
        def trio(comm, x, gathered):
            return comm.gather((comm.rank, x)), sum(gathered)
        @swiftpy.task(ranks=2)
        def asks(comm, x):
            return comm.bcast(alone(x).result() if comm.rank == 0 else None)
        @swiftpy.task
        def alone(x): time.sleep(0.001 * (x % 7)); return x
        @swiftpy.task(isolated=True)
        def beside(x): return x

        expected = {}
        for i in range(200):
            expected[alone(i)] = expected[beside(i)] = i
            if i % 20 == 0: expected[pair(i)] = (2 * i, 0)
            if i % 50 == 0: expected[ring(100)] = 0
            if i % 9 == 0: expected[trio(i, [alone(i), alone(1)])] = ([(0, i), (1, i), (2, i)], i + 1)
            if i % 15 == 0: expected[asks(i)] = i
        for future, value in expected.items():
            assert future.result() == value
        """,
        procs=5,
    )


def test_a_parallel_task_that_fails(tmp_path):
    result = passes(
        tmp_path,
        """
        @swiftpy.task(ranks=3)
        def fails(comm):
            if comm.rank == 1: raise ValueError("on rank 1")
        @swiftpy.task(ranks=2)
        def unpicklable(comm): return (i for i in range(3)) if comm.rank == 0 else None
        @swiftpy.task(ranks=9)
        def too_large(comm): pass
        @swiftpy.task(ranks=2)
        def fine(comm, x): return comm.allreduce(x)

        error = fails().exception()
        assert "on rank 1" in error.message and error.rank > 0
        assert "generator" in unpicklable().exception().message
        assert "9 workers" in too_large().exception().message
        @swiftpy.task(ranks=2)
        def both_wait(comm): return abs_of(-1).result()
        @swiftpy.task
        def abs_of(x): return abs(x)
        assert "only rank 0 of its communicator can wait for tasks" in both_wait().exception().message
        @swiftpy.task(ranks=2)
        def large(comm):
            if comm.rank: raise ValueError("after rank 0 has returned")
            return bytes(1_000_000)
        @swiftpy.task
        def held(): return len(swiftpy.flow.program.engine()._worker.data.held)
        assert large().exception()
        end = time.monotonic() + 60
        while any(swiftpy.gather([held.options(rank=rank)() for rank in (1, 2, 3)])):
            assert time.monotonic() < end, "it was not forgotten"
        culprit = fails()
        assert fine(culprit).exception().kind == "cancelled" and culprit.exception()
        assert [fine(i).result() for i in range(5)] == [2 * i for i in range(5)]
        """,
        procs=4,
    )
    assert "a parallel task failed here, for which its other ranks may wait: ValueError: on rank 1" in result.stderr


def test_large_results_of_parallel_tasks_that_are_tried_again(tmp_path):
    """The result of the attempt that failed on another rank is forgotten; that of the next has the same name."""
    passes(
        tmp_path,
        """
        import numpy as np

        @swiftpy.task(ranks=2, retries=3)
        def fill(comm, i):
            if comm.rank == 1 and not os.path.exists(f"tried-{i}"):
                open(f"tried-{i}", "w").close()
                raise ValueError("the first time")
            return np.full(20_000, float(i))

        for i, future in enumerate([fill(i) for i in range(40)]):
            assert future.result()[-1] == i
        """,
    )


@pytest.mark.parametrize("servers", [1, 2])
def test_large_results_of_parallel_tasks_that_failed_are_forgotten(tmp_path, servers):
    passes(
        tmp_path,
        """
        import resource

        @swiftpy.task(ranks=2)
        def fails(comm):
            if comm.rank: raise ValueError("on the other rank")
            return bytes(8 << 20)
        @swiftpy.task
        def memory(): return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        for _ in range(20):
            assert "on the other rank" in str(fails().exception())
        grown = dict(swiftpy.gather([memory() for _ in range(200)]))
        assert max(grown.values()) < 120_000, grown
        """,
        options=["--servers", str(servers)] if servers > 1 else [],
        procs=3 if servers == 1 else 7,  # two workers for each
    )
