"""Futures that the program makes and sets itself, in real jobs."""

import pytest

from test_programs import passes

pytestmark = pytest.mark.mpi_job


def test_futures_made_by_hand_end_in_any_way(tmp_path):
    """The scheduler waits for them, and knows only what it is told."""
    passes(
        tmp_path,
        """
        import threading
        @swiftpy.task
        def same(x): return x

        for late in (False, True):
            for end in (lambda x: x.set(1), lambda x: x.set_result(1),
                        lambda x: threading.Timer(0.2, x.set, [1]).start()):
                x = swiftpy.Future()
                y = same(x)
                assert not (late and swiftpy.wait([y], 0.1))
                end(x)
                assert y.result() == 1
            for end, why in ((lambda x: x.set_exception(ValueError("mine")), "mine"),
                             (swiftpy.Future.cancel, "ancelled")):
                x = swiftpy.Future()
                y = same([same(x)])
                assert not (late and swiftpy.wait([y], 0.1))
                end(x)
                assert y.exception().kind == "cancelled" and why in y.exception().message, y.exception()
        """,
    )


def test_who_waits_for_a_future_made_by_hand_hears_of_it_at_once(tmp_path):
    passes(
        tmp_path,
        """
        import threading

        @swiftpy.task
        def inc(x): return x + 1
        def waits():
            began = time.monotonic()
            for end in (lambda f: f.set(1), lambda f: f.set_result(1), lambda f: f.set_exception(ValueError())):
                future = swiftpy.Future()
                threading.Timer(0.05, end, (future,)).start()
                swiftpy.wait([future])
                future.exception()
            return time.monotonic() - began
        def failing():
            future = swiftpy.Future()
            needs = inc(future)
            threading.Timer(0.05, future.set_exception, (ValueError(),)).start()
            began = time.monotonic()
            needs.exception()
            return time.monotonic() - began

        # Where time goes by until somebody looks, it does so each time; where the machine is slow, now and then.
        for measure, most in (waits, 1), (failing, 0.8), (lambda: swiftpy.task(waits)().result(), 0.5):
            assert any(measure() < most for _ in range(12)), measure
        """,
    )


def test_one_that_nobody_waited_for_can_still_be_set(tmp_path):
    """When `run` ended, only a call that was cancelled needed it; the program goes on after that."""
    passes(
        tmp_path,
        """
        @swiftpy.task
        def increment(x): return x + 1

        one, other = swiftpy.Future(), swiftpy.Future()
        swiftpy.run(lambda: [increment(one).cancel(), increment(other).cancel()])
        other.set(1)
        later = increment(one)
        one.set(2)
        assert swiftpy.gather([later, increment(one), increment(other)]) == [3, 3, 2]
        """,
    )
