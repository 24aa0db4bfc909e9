"""The threads that drive, and those that call callbacks meanwhile."""

import functools
import math
import pickle
import threading
import time
from types import SimpleNamespace

import pytest

from swiftpy.core.events import ReportOutcome
from swiftpy.core.task import Kind, Task, TaskState
from swiftpy.flow.engine import ENOUGH, Engine
from swiftpy.flow.future import Future
from swiftpy.flow.leftovers import Leftovers, LeftoversTold
from swiftpy.runtime import store


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


class Idle(Engine):
    """No task is left; `advanced` is called when somebody drives, and takes what was submitted."""

    def __init__(self, advanced=lambda: None):
        super().__init__()
        self._advanced = advanced
        self._scheduler = SimpleNamespace(quiet=True, stuck=[], forsaken={})
        self._data = SimpleNamespace(waiting=False)
        self._server = SimpleNamespace(transport=SimpleNamespace(wake=lambda: None))

    def _advance(self, timeout, **_):
        self._advanced()
        self._gathering.added.clear()
        return False

    def add(self):
        function = self.functions.find(abs)
        self.submit(Kind(function.name), function, (1,), {})

    def will_tell(self, callback):
        """A future that is done, whose callbacks are due."""
        future = Future()
        future.add_done_callback(callback)
        assert future.settle(1, None)
        self.settling.untold.append(future)
        return future


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_who_submits_many_calls_does_not_call_back():
    """It may hold a lock that a callback takes, as an executor does."""
    called = []
    engine = Idle(lambda: called or engine.will_tell(called.append))
    for _ in range(ENOUGH):
        engine.add()
    assert engine.settling.untold
    assert not called
    engine._tell()
    assert len(called) == 1


def test_a_callback_that_another_thread_calls_submits_before_the_program_ends():
    begun, go_on, submitted = threading.Event(), threading.Event(), []

    def submit(_):
        begun.set()
        assert go_on.wait(60)
        submitted.append(engine.add())

    engine = Idle(go_on.set)
    engine.will_tell(submit)
    teller = in_thread(engine._tell)
    assert begun.wait(60)
    engine._latest = -math.inf  # as after a long silence
    engine._check_for_deadlock()  # it may yet set what is waited for
    engine.wait_for_all()
    assert submitted
    teller.join()


def test_each_callback_is_called_once_though_others_are_settled_meanwhile():
    telling, settled, called = threading.Event(), threading.Event(), []

    def call(future):
        called.append(future)
        telling.set()
        assert len(called) > 1 or settled.wait(60)

    class Late(Future):
        def settle(self, value, exception):
            assert telling.wait(60)
            return super().settle(value, exception)

    def settle():
        engine.settling.resolved(ReportOutcome(Task(7, Kind("f"), [()]), TaskState.DONE, 1, 1, value=pickle.dumps([2])))
        teller = in_thread(engine._tell)
        teller.join()
        settled.set()

    engine = Idle()
    first, late = engine.will_tell(call), Late()
    late.add_done_callback(called.append)
    engine._gathering.futures[7] = late
    driver = in_thread(settle)
    while driver.is_alive() and engine._gathering.futures:  # until it is being settled
        time.sleep(0.001)
    engine._tell()
    driver.join()
    assert called == [first, late]


def test_a_thread_that_the_script_left_behind_does_not_drive():
    engine = Idle(lambda: pytest.fail("MPI is the main thread's"))
    engine._ended = True
    with pytest.raises(SystemExit):
        engine.drive(lambda: False)
    with engine._turns.lock, pytest.raises(SystemExit):  # nor does it wake the main thread until that is done
        engine.drive(lambda: False)


def test_a_worker_that_owes_an_answer_is_asked_again_after_that():
    """What it has submitted since may have ended, and a call that needs that is not in its first answer."""
    leftovers, asked = Leftovers(), []
    for _ in range(2):
        leftovers.submitted(1)
        assert not leftovers.none()
        leftovers.ask(lambda worker, _: asked.append(worker))
    for count in (1, 2):
        assert asked == [1] * count
        leftovers.told(LeftoversTold(1, 0))
        assert leftovers.none() == (count == 2)
        leftovers.ask(lambda worker, _: asked.append(worker))


def test_what_runs_while_values_are_pickled_or_freed_cannot_wait():
    """It has the lock that it would wait for: such a `__reduce__` or `__del__` hung its program for ever."""
    engine = Engine()
    engine._data = SimpleNamespace(tell_released=lambda: None, waiting=False)
    engine._server = SimpleNamespace(
        transport=SimpleNamespace(wake=lambda: None, send=None),
        progress=lambda timeout: engine.wait_for(Future(), 0.01),
    )
    with pytest.raises(RuntimeError, match="pass the future itself on"):
        engine.drive(lambda: False, 0.05)
    came = []
    engine._server.progress = lambda timeout: came.append(timeout) or True
    engine.drive(lambda: len(came) > 1)


def test_callbacks_that_are_due_are_called_before_the_program_ends():
    engine = Idle()
    engine._scheduler.over = True
    told = []
    engine._fetching.due.append(lambda: told.append(1))
    engine.wait_for_all()
    assert told == [1]


def test_a_call_that_needs_one_that_is_held_back_comes_after_it(monkeypatch):
    """Whoever submits it: the scheduler takes no call before those that it needs."""
    monkeypatch.setattr(store, "released", [])  # of what lies with no worker
    engine, value, held = Idle(), Future(), Future()
    function = engine.functions.find(abs)
    submit = functools.partial(engine.submit, Kind(function.name), function)
    nothing_stored = store.Exchange(0, lambda *_: None)

    def submit_held():
        behind.append(submit((held,), {}))  # another thread does, at this moment
        submit((value,), {}, held)

    def added_when(done, value=1):
        if done.settle(value, None):
            done.tell()
        while engine._fetching:
            engine._fetching.advance(nothing_stored)
            engine._tell()
        return [call[0] for call in engine._gathering.added]

    engine.held_back.add(held, [value], submit_held)
    behind = [submit(([held], 1), {})]
    behind.append(submit((), {"x": behind[0]}))
    assert added_when(value) == [held]
    assert added_when(held) == [held, behind[0], behind[2]]
    lies_with_a_worker = store.Stored(1, 7)
    assert added_when(behind[0], lies_with_a_worker) == [held, behind[0], behind[2], behind[1]]
    assert not engine.held_back.futures
