"""What the options of tasks, and the functions that wait for them, do in a whole job."""

import json

import pytest

from test_programs import passes

pytestmark = pytest.mark.mpi_job


def test_where_and_in_which_order_tasks_run(tmp_path):
    """On one worker, which is busy until all have been submitted."""
    passes(
        tmp_path,
        """
        @swiftpy.task
        def hold():
            open("begun", "w").close()
            while not os.path.exists("all are submitted"): time.sleep(0.01)
        def note(name):
            with open("order", "a") as file: file.write(name + " ")

        here = os.uname().nodename
        held = hold()
        while not os.path.exists("begun"): time.sleep(0.01)
        calls = [
            swiftpy.task(note)("first"),
            swiftpy.task(priority=-1)(note)("last"),
            swiftpy.task(priority=2, node=here)(note)("here"),
            swiftpy.task(priority=1, node="nowhere", soft=True)(note)("soft"),
            swiftpy.task(note).options(label="the label")("second"),
            swiftpy.task(priority=2)(note)("high"),
            swiftpy.task(note)("third"),
        ]
        nowhere = swiftpy.task(priority=3, node="nowhere")(note)("nowhere")
        # By whom all that was submitted before it has been seen by then: the scheduler.
        assert nowhere.exception().kind == "rejected" and "nowhere" in nowhere.exception().message
        open("all are submitted", "w").close()
        swiftpy.gather([held, *calls])
        assert open("order").read().split() == ["here", "high", "soft", "first", "second", "third", "last"]
        """,
        options=("--trace", "trace.json"),
        procs=2,
    )
    events = json.loads((tmp_path / "trace.json").read_text())
    assert [event["name"] for event in events if event["ph"] == "X"].count("the label") == 1


def test_results_as_they_come_and_failures_that_cost_only_themselves(tmp_path):
    passes(
        tmp_path,
        """
        @swiftpy.task
        def nap(seconds):
            time.sleep(seconds)
            return seconds
        @swiftpy.task
        def hold(name):
            while not os.path.exists(name): time.sleep(0.01)
            return name
        @swiftpy.task
        def fails(): raise ValueError("on purpose")

        swiftpy.gather([nap(0.01) for _ in range(9)])
        completed, came = swiftpy.as_completed([hold(name) for name in "cab"]), []
        for name in "abc":  # each ends when the one before it has come
            open(name, "w").close()
            came.append(next(completed).result())
        assert came == ["a", "b", "c"] and not list(completed)

        def main():
            bad = fails()
            return bad, nap(bad), [nap(0.05) for _ in range(30)]
        bad, needing, others = swiftpy.run(main, on_error="continue")
        assert "on purpose" in bad.exception().message and needing.exception().kind == "cancelled"
        assert all(future.done() for future in others) and swiftpy.gather(others) == [0.05] * 30
        """,
        procs=4,
    )
