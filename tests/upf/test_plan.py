from hypothesis import given
from hypothesis import strategies as st

from swiftpy.experiment.restart import Decision
from swiftpy.upf.plan import report, time_limits, waves


@given(st.integers(0, 300), st.integers(1, 50))
def test_waves_against_filling_the_workers_one_by_one(tasks, workers):
    def count(workers):
        left, filled = tasks, 0
        while left > 0:
            left, filled = left - workers, filled + 1
        return filled

    needed, procs = waves(tasks, workers)
    assert needed == count(workers)
    if procs is None:
        assert needed < 2
    else:
        assert count(procs - 1) < needed == count(procs - 2)


def test_report():
    decisions = [
        Decision("RUN000", "skip", "finished: 20 epochs"),
        Decision("R1", "resume", "epochs 20 -> 40"),
        *(Decision(f"RUN{n:03d}", "new", "") for n in range(2, 5)),
    ]
    assert report(decisions, 3) == [
        "RUN000  skip    finished: 20 epochs",
        "R1      resume  epochs 20 -> 40",
        "RUN002  new",
        "RUN003  new",
        "RUN004  new",
        "5 RUNs: 3 new, 1 resume, 1 skip",
        "4 to run on 3 workers: 2 waves; PROCS=5 would need 1",
    ]
    assert report(decisions[:1], 1)[-1] == "0 to run on 1 workers: 0 waves"


def test_the_time_limits_that_hold():
    assert time_limits([-1, 0]) == "time limit of a RUN: none"
    assert time_limits([0.5]) == "time limit of a RUN: 0.5 s"
    assert time_limits([7200000, -1, -1, 7200000]) == "time limit of a RUN: 7200000 s (2 RUNs), none (2 RUNs)"
