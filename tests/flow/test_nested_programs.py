"""Tasks that submit tasks, under a real mpiexec."""

import pytest

from test_programs import passes

pytestmark = pytest.mark.mpi_job


def test_tasks_submit_tasks_on_fewer_workers_than_they_are_deep(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def fib(n): return n if n < 2 else sum(swiftpy.gather([fib(n - 1), fib(n - 2)]))
        @swiftpy.task
        def down(n): return 0 if n == 0 else 1 + down(n - 1).result()
        @swiftpy.task
        def fails(n):
            if n == 0: raise KeyError("at the bottom")
            return fails(n - 1).result()
        @swiftpy.task
        def inner_chain():
            x = fib(1)
            for _ in range(5): x = plus(x)
            return x.result()
        @swiftpy.task
        def plus(x): return x + 1

        assert fib(12).result() == 144
        assert down(40).result() == 40
        assert inner_chain().result() == 6
        error = fails(3).exception()
        assert "at the bottom" in error.traceback
        assert list(swiftpy.map(lambda n: n + fib(n).result(), range(8))) == [n + f for n, f in
                                                                           enumerate([0, 1, 1, 2, 3, 5, 8, 13])]
        """,
        procs=2,
    )


def test_what_a_task_submitted_goes_on_while_it_computes(tmp_path):
    """It looks, is called back, and has calls that need others; only a callback cannot wait, as nobody would listen."""
    result = passes(
        tmp_path,
        """
        @swiftpy.task
        def increment(x): return x + 1

        @swiftpy.task
        def parent():
            called, first = [], increment(0)
            second = increment(first)
            first.add_done_callback(lambda future: called.append(future.result()))
            second.add_done_callback(lambda future: called.append(increment(5).result()))
            many = [increment(i) for i in range(200)]
            until = time.monotonic() + 60
            while not (second.done() and called and all(future.done() for future in many)):
                assert time.monotonic() < until
                time.sleep(0.01)
            last = increment(second)
            time.sleep(0.3)
            return called, second.result(), last.result()

        assert parent().result() == ([1], 2, 3)
        """,
    )
    assert "a callback that runs while its task computes cannot wait" in result.stdout + result.stderr


@pytest.mark.parametrize("options", [(), ("--servers", "2")], ids=["one server", "two"])
def test_what_tasks_left_behind_is_made(tmp_path, options):
    """Calls that need others are sent when these are done, at which moment there is nothing else to do."""
    passes(
        tmp_path,
        """
        @swiftpy.task
        def note(i, step, before):
            open(f"made-{i}-{step}", "w").close()
            return 0
        @swiftpy.task
        def pipeline(i):
            before = 0
            for step in range(20):
                before = note(i, step, before)

        swiftpy.wait([pipeline(i) for i in range(6)])
        """,
        options=options,
        procs=6,
    )
    assert len(list(tmp_path.glob("made-*"))) == 120
