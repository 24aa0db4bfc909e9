"""The thread that drives while nobody waits."""

import math
from types import SimpleNamespace

import pytest

from swiftpy.core.task import Kind
from swiftpy.flow.engine import Engine


class Watched(Engine):
    """Notes how long it would have slept with the server, and without; another thread adds calls as it falls asleep."""

    def __init__(self, quiet):
        super().__init__()
        self.slept, self.dozed, self.woken = [], [], 0
        self._latest = -math.inf
        self._scheduler = SimpleNamespace(queued=0, quiet=quiet)
        self._server = SimpleNamespace(transport=SimpleNamespace(wake=self.count))
        self._called = SimpleNamespace(set=self.count, wait=self.doze, clear=lambda: None)

    def count(self):
        self.woken += 1

    def add(self):
        function = self.functions.find(abs)
        self.submit(Kind(function.name), function, (1,), {})

    def doze(self, seconds):
        assert not self._turns.lock.locked(), "who waits for a call could not drive"
        self.dozed.append(seconds)
        self.add()
        self.add()

    def _advance(self, timeout, hand_over=True):
        assert self._turns.lock.locked()
        self.slept.append(timeout)
        if timeout:
            self.add()
            self.add()
        elif self._gathering:
            self._ended = True
        return False


@pytest.mark.parametrize("quiet", [False, True])
def test_calls_wake_it_once_and_it_does_not_sleep_while_there_are_some(quiet):
    engine = Watched(quiet)
    engine._drive_alone()
    assert engine.woken == 1
    assert [seconds > 0 for seconds in engine.slept] == ([False, False] if quiet else [True, False])
    assert [seconds > 0 for seconds in engine.dozed] == ([True] if quiet else [])
    engine._ended = False
    engine.add()
    assert engine.woken == 1, "it is awake"
