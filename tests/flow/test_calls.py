"""Calls that travel together do not share what they are given."""

import pickle

import pytest

from swiftpy.flow.calls import Deferred, pack_calls
from swiftpy.flow.future import Future
from swiftpy.runtime.call import Run


def grow(values, value):
    values.append(value)
    return len(values)


def add(a, b=0):
    return a + b


def made(function, calls):
    answer = Run(f"{__name__}:{function.__name__}", pack_calls(None, calls, None, hold=None)).make()
    return pickle.loads(answer.value), [index for index, _ in answer.failures]


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
