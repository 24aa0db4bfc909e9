"""Of several calls that a worker makes in one go, each result is what it was when its call returned."""

import pickle

import cloudpickle
import numpy as np
import pytest

from swiftpy.runtime.call import PREVIOUS, Run, previous
from swiftpy.runtime.store import LARGE, Exchange, Reference, Stored

history = []
buffer = np.zeros(LARGE)


def remember(value):
    history.append(value)
    return history


def fill(value, size):
    buffer[:size] = value
    return buffer[:size]


def grow(array):
    array += 1
    return array


def kept(array):
    """Changes what it returned before, and then looks at what it was given."""
    buffer[:3] = -1
    buffer[:3] = array + 1
    return buffer[:3]


class Opened:
    """Arguments that are opened when their turn has come, and name the result of the call before."""

    def __reduce__(self):
        return previous, ()


def results(function, calls, place=(1, 100), chained=False):
    """As rank 0 gets them. Large ones are fetched from the worker, on rank 1."""
    run = Run(f"{__name__}:{function.__name__}", (None, pickle.dumps(calls, protocol=5), place), chained)
    answer = run.make()
    assert not answer.failures, answer.failures
    worker = Exchange(1, lambda *_: None)
    worker.held.update(answer.held)
    assert place is None or len(answer.value) < LARGE, "large ones do not come to rank 0"
    values = pickle.loads(answer.value)
    for index, value in enumerate(values):
        if type(value) is Stored:
            assert value.reference == Reference(1, 100 + index)
            worker.request(value.reference)
            values[index] = worker.take(value.reference).value()
    return values


@pytest.mark.parametrize("calls", [[(1,), (2,), (3,)], ([1, 2, 3],)], ids=["tuples", "column"])
def test_a_result_that_its_task_goes_on_changing(calls):
    history.clear()
    first, second, third = results(remember, calls)
    assert (first, second, third) == ([1], [1, 2], [1, 2, 3])
    first.append(4)
    assert second == [1, 2] and third == [1, 2, 3], "each is an object of its own"


@pytest.mark.parametrize("size", [3, LARGE // 8], ids=["small", "large"])
@pytest.mark.parametrize("place", [(1, 100), None], ids=["held", "sent"])
def test_arrays_that_share_memory_with_a_buffer(size, place):
    got = results(fill, [(value, size) for value in range(4)], place)
    for value, array in enumerate(got):
        np.testing.assert_array_equal(array, np.full(size, value))
        array[0] = 7  # it can be changed


@pytest.mark.parametrize("size", [3, LARGE // 8], ids=["small", "large"])
@pytest.mark.parametrize("opened", [False, True], ids=["tuples", "opened"])
def test_a_chain_in_which_each_call_changes_what_it_is_given(size, opened):
    following = pickle.dumps(((Opened(),), {})) if opened else (PREVIOUS,)
    for value, array in enumerate(results(grow, [(np.zeros(size),), *[following] * 4], chained=True)):
        np.testing.assert_array_equal(array, np.full(size, value + 1))


def test_a_chain_that_returns_a_buffer_is_given_what_was_in_it():
    got = results(kept, [(np.zeros(3),), (PREVIOUS,), (PREVIOUS,)], chained=True)
    assert [array[0] for array in got] == [1, 2, 3]


def test_results_of_a_class_that_came_by_value():
    class Own:
        def __init__(self, value):
            self.values = [value]

    def make(value):
        return Own(value)

    def answer_of(count):
        payload = (cloudpickle.dumps(make), pickle.dumps([(i,) for i in range(count)]), (1, 100))
        return Run("nowhere:make#1", payload).make()

    answer = answer_of(100)
    assert not answer.failures
    assert [own.values for own in pickle.loads(answer.value)] == [[i] for i in range(100)]
    assert len(answer.value) < 5 * len(answer_of(1).value), "the class is sent once"


class TwoPartsError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def give(_):
    return TwoPartsError(1, 2)


@pytest.mark.parametrize("chained", [False, True])
def test_a_result_that_cannot_be_unpickled_is_a_failure_of_its_call(chained):
    """Not of the whole run, nor of the worker, which makes a copy for the next call of a chain."""
    calls = [(0,), (PREVIOUS,)] if chained else [(0,), (1,)]
    answer = Run(f"{__name__}:give", (None, pickle.dumps(calls), (1, 100)), chained).make()
    index, error = answer.failures[0]
    assert index == 0 and "TwoPartsError" in error.traceback + error.message and answer.made == 2 - chained
