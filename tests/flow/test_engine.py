"""The thread that drives while nobody waits."""

import math
from types import SimpleNamespace

from swiftpy.core.task import Kind
from swiftpy.flow.engine import Engine


class Watched(Engine):
    """Notes how long it would have slept, and lets another thread add calls meanwhile."""

    def __init__(self):
        super().__init__()
        self.slept, self.woken = [], 0
        self._latest = -math.inf
        self._scheduler = SimpleNamespace(waiting=0)
        self._server = SimpleNamespace(wake=self.count)

    def count(self):
        self.woken += 1

    def add(self):
        function = self.functions.find(abs)
        self.submit(Kind(function.name), function, (1,), {})

    def _advance(self, timeout, hand_over=True):
        self.slept.append(timeout)
        if len(self.slept) == 1:
            self.add()
            self.add()
        else:
            self._ended = True
        return False


def test_calls_wake_it_once_and_it_does_not_sleep_while_there_are_some():
    engine = Watched()
    engine._drive_alone()
    assert engine.slept[0] > 0 and engine.woken == 1
    assert engine.slept[1:] == [0.0]
    engine.add()
    assert engine.woken == 1, "it is awake"
