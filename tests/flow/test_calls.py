"""Which calls travel together, and that they do not share what they are given."""

import pickle
from collections import OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from swiftpy.core.task import Kind
from swiftpy.flow.calls import Deferred, needs, pack_calls
from swiftpy.flow.functions import Functions
from swiftpy.flow.future import Future
from swiftpy.flow.gathering import Gathering
from swiftpy.runtime.call import PREVIOUS, Run


def grow(values, value):
    values.append(value)
    return len(values)


def add(a, b=0):
    return a + b


def shown(value):
    return repr(value)


def made(function, calls):
    answer = Run(f"{__name__}:{function.__name__}", pack_calls(None, calls, None, hold=None)).make()
    return pickle.loads(answer.value), [index for index, _ in answer.failures]


class Pair(NamedTuple):
    left: object
    right: object


def good(value):
    future = Future()
    future.settle(value, None)
    return future


class Unloadable:
    def __reduce__(self):
        return int, ("not a number",)


@pytest.mark.parametrize("given", [lambda: [], lambda: good([])], ids=["value", "future"])
def test_a_task_that_changes_its_argument_does_not_change_that_of_the_next(given):
    shared = given()
    calls = [Deferred((shared, i), {}) if isinstance(shared, Future) else (shared, i) for i in range(3)]
    assert made(grow, calls) == ([1, 1, 1], [])


def test_arguments_of_all_forms_in_one_message():
    calls = [(1, 2), Deferred((good(3), 4), {}), Deferred((5,), {"b": good(6)}), (7.5,), ([1], [2])]
    assert made(add, calls) == ([3, 7, 11, 7.5, [1, 2]], [])


def test_an_argument_that_cannot_be_unpickled_is_that_of_one_call():
    assert made(add, [(1,), (Unloadable(),), (2,)]) == ([1, None, 2], [1])


@pytest.mark.parametrize(
    "hold",
    [
        lambda future: {future: 1},
        lambda future: {Pair(1, future): 1},
        lambda future: Pair(1, [future]),
        lambda future: deque([future]),
        lambda future: OrderedDict(a=future),
        lambda future: defaultdict(list, a=frozenset([future])),
    ],
    ids=["key", "in key", "named tuple", "deque", "ordered", "default"],
)
def test_futures_are_found_in_whatever_is_like_a_list_or_a_dict(hold):
    future = Future()
    assert needs((hold(future),), {}) == [future]


@pytest.mark.parametrize("future", [Future(), good(3)], ids=["pending", "done"])
def test_a_future_that_is_not_found_is_refused(future):
    """It would be taken for the result of the call before, and the task work with that."""
    hidden = SimpleNamespace(a=future)
    calls = [Deferred((good(1),), {}), (hidden,), Deferred(([good(2), hidden],), {})]
    assert made(shown, calls) == (["1", None, None], [1, 2])


def test_what_goes_on_with_the_call_before():
    """In one message: what is pickled with the others, and what is opened when its turn has come."""
    calls = [(1, 2), (PREVIOUS, 3), Deferred((Future(), 4), {}), Deferred((Future(),), {"b": 5}), (5, PREVIOUS)]
    answer = Run(f"{__name__}:add", pack_calls(None, calls, None, hold=None), chained=True).make()
    assert (pickle.loads(answer.value), answer.failures) == ([3, 6, 10, 15, 20], ())


def test_chains_grow_side_by_side():
    step, other = Kind("step"), Kind("other")
    alone = Kind("alone")
    gathering, function = Gathering(alone={alone.function}), Functions().find(add)

    def submit(kind, *args):
        future = Future()
        future.engine = "an engine"
        gathering.add(future, kind, function, args, {})
        return future

    roots = [submit(step, i) for i in range(2)]
    left, right = (submit(step, root) for root in roots)
    for _ in range(2):
        left, right = submit(step, left), submit(step, right)
    submit(other, right)
    middle, right = right, submit(step, right)
    submit(step, middle)  # the chain has gone on without it
    submit(alone, submit(alone, right))
    runs, _, _ = gathering.take()
    assert [(run.first, len(run.calls), run.variant.chained) for run in runs] == [
        (0, 2, False),
        (2, 3, True),
        (5, 4, True),
        (9, 1, False),
        (10, 1, False),
        (11, 1, False),
        (12, 1, False),
    ]
    assert [[future.id for future in run.needed] for run in runs] == [[], [0], [1], [7], [7], [8], [11]]
    assert [future.id for future in gathering.futures.values()] == list(range(13))
    again = submit(step, right)
    (run,), _, _ = gathering.take()
    assert run.needed == [right] and again.id == 13


def test_a_future_that_gets_its_value_just_when_it_is_met_is_not_waited_for(monkeypatch):
    gathering, by_hand, call, done = Gathering(()), Future(), Future(), Future.done

    def set_by_another_thread_meanwhile(future):
        was = done(future)
        future.settle(1, None)
        return was

    call.engine = SimpleNamespace(given=gathering.give)
    gathering.add(call, Kind("f"), Functions().find(add), (by_hand,), {})
    monkeypatch.setattr(Future, "done", set_by_another_thread_meanwhile)
    (run,), given, _ = gathering.take()
    assert not run.needed and given == [by_hand.id]
