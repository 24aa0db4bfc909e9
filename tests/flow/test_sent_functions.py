"""Functions that go by value, with what they refer to: they stay with the workers, but not all of them for ever."""

import pytest

from test_programs import passes

pytestmark = pytest.mark.mpi_job


@pytest.mark.parametrize("where", ["inline", "isolated", "nested", "several servers"])
def test_a_function_for_each_step_of_a_loop(tmp_path, where):
    """Each with 8 MB of the step's data: 30 of them would be 240 MB on every rank."""
    passes(
        tmp_path,
        f"""
        import resource

        def memory():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        @swiftpy.task
        def memory_there(): return memory()

        def step(number):
            data = bytes([number]) * (8 << 20)

            def function(x): return data[0] + x, memory()

            options = {{"isolated": True}} if {where == "isolated"} else {{}}
            return swiftpy.task(function, **options)

        @swiftpy.task
        def below(number): return step(number)(0).result()

        first, before = step(0), swiftpy.gather([memory_there() for _ in range(100)])
        assert first(1).result()[0] == 1
        for number in range(30):
            results = [below(number)] if {where == "nested"} else [step(number)(i) for i in range(3)]
            assert [value for value, _ in swiftpy.gather(results)] == [number + i for i in range(len(results))]
        _, there = first(2).result()
        grown = max([there, *swiftpy.gather([memory_there() for _ in range(100)])]) - min(before)
        assert grown < 180 and memory() - min(before) < 200, (grown, memory())
        """,
        options=["--servers", "2"] if where == "several servers" else [],
        procs=5 if where == "several servers" else 3,
    )
