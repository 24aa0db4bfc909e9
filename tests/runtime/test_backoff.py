"""How long who waits sleeps before the next look."""

import time

from swiftpy.runtime.transport import Backoff


def test_nobody_waits_longer_than_need_be_by_more_than_a_share(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    backoff, wakes = Backoff(0.1), 0
    assert backoff.pause() == Backoff.SHORTEST
    while (waited := now - 100.0) < 10.0:
        pause = backoff.pause()
        assert pause <= max(0.1 * waited, Backoff.SHORTEST) and pause <= Backoff.LONGEST
        now += pause
        wakes += 1
    assert wakes < 600, "of which 500 are those of the longest pause"


def test_it_yields_before_it_sleeps(monkeypatch):
    slept = []
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    backoff = Backoff(1.0)
    now += Backoff.SPIN / 2
    backoff.wait()
    assert slept == []
    now += Backoff.SPIN
    backoff.wait()
    assert len(slept) == 1 and abs(slept[0] - 1.5 * Backoff.SPIN) < 1e-9
