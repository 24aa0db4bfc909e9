"""How long who waits sleeps before the next look."""

import time
from types import SimpleNamespace

import pytest

from swiftpy.runtime.group import Group
from swiftpy.runtime.transport import Backoff


class Clock:
    """Time goes on only by sleeping and yielding."""

    def __init__(self, monkeypatch):
        self.now, self.slept = 100.0, []
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        monkeypatch.setattr("time.sleep", self._sleep)
        monkeypatch.setattr("os.sched_yield", lambda: self._pass(1e-6))

    def _pass(self, seconds):
        self.now += seconds

    def _sleep(self, seconds):
        self.slept.append(seconds)
        self._pass(seconds)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("seconds", [0.0, 1e-4, 1e-3, 0.04, 0.3, 10.0])
def test_a_barrier_ends_soon_after_the_last_has_come(clock, seconds):
    """With pauses as long as the wait so far, jobs slept at their start and end beside what had come."""
    until = clock.now + seconds
    request = SimpleNamespace(Test=lambda: clock.now >= until)
    Group(SimpleNamespace(rank=0, size=2, Ibarrier=lambda: request), "a").meet()
    assert clock.now - until <= max(0.12 * seconds, Backoff.SHORTEST)
    assert clock.now - until <= Backoff.LONGEST
    assert len(clock.slept) <= 100 + seconds / Backoff.LONGEST, "but who waits for long sleeps for long"


def test_it_yields_before_it_sleeps(clock):
    backoff = Backoff(1.0)
    while time.perf_counter() < 100.0 + Backoff.SPIN:
        backoff.wait()
    assert clock.slept == []
    backoff.wait()
    assert clock.slept == [pytest.approx(Backoff.SPIN, rel=0.01)]
