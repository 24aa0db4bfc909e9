"""Values that stay with a rank: their names, who fetches them, and when they go."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftpy.runtime import store
from swiftpy.runtime.store import LARGE, Exchange, LostError, Packed, Reference, Stored


class Ranks:
    """Exchanges that deliver to each other at once."""

    def __init__(self, count):
        self.sent = []
        self.exchanges = [Exchange(rank, self.send) for rank in range(count)]

    def send(self, dest, message):
        self.sent.append((dest, type(message).__name__))
        if isinstance(message, store.DataSent) and message.packed is not None:
            message = message._replace(packed=message.packed.copy())  # as if it had travelled
        assert self.exchanges[dest].handle(message)

    def fetch(self, rank, reference):
        self.exchanges[rank].request(reference)
        assert self.exchanges[rank].arrived(reference)
        return self.exchanges[rank].take(reference)


@given(st.lists(st.sampled_from([0, 10, LARGE - 200, LARGE, 3 * LARGE]), min_size=1, max_size=8))
def test_results_of_any_size_come_back(sizes):
    ranks = Ranks(2)
    values = [
        np.arange(size, dtype=np.uint8) if i % 2 else {"text": "x" * size, "n": i} for i, size in enumerate(sizes)
    ]
    data, held = store.pack_results(values, Reference(1, 100))
    ranks.exchanges[1].held.update(held)
    assert len(data) < LARGE * len(values) + 1000
    for i, got in enumerate(pickle.loads(data)):
        if isinstance(got, Stored):
            assert got.reference == Reference(1, 100 + i)
            got = ranks.fetch(0, got.reference).value()
        np.testing.assert_equal(got, values[i])
    ranks.exchanges[0].tell_released()
    assert not ranks.exchanges[1].held


def test_arguments_are_fetched_when_they_are_unpickled():
    ranks = Ranks(3)
    array = np.zeros(LARGE, np.uint8)
    data, held = store.pack_results([array], Reference(2, 7))
    ranks.exchanges[2].held.update(held)
    (stored,) = pickle.loads(data)
    store.fetch_with(lambda reference: ranks.fetch(1, reference))
    first, second = (pickle.loads(pickle.dumps(stored)) for _ in range(2))
    first[0] = 1
    assert second[0] == 0 and array[0] == 0, "each has its own"
    assert ranks.sent.count((2, "DataRequested")) == 2
    del stored
    ranks.exchanges[0].tell_released()
    with pytest.raises(LostError, match=r"rank 2 .* call 7"):
        ranks.fetch(1, Reference(2, 7))


@pytest.mark.parametrize("late", [True, False])
def test_what_nobody_wants_any_more_is_not_kept(late):
    """The task was killed that had asked for it, or the program dropped what it had asked for."""
    ranks = Ranks(3)
    data, held = store.pack_results([np.zeros(LARGE, np.uint8)], Reference(2, 7))
    ranks.exchanges[2].held.update(held)
    (stored,) = pickle.loads(data)
    delayed = Exchange(1, lambda dest, message: None)
    asked = delayed if late else ranks.exchanges[1]
    asked.request(stored.reference)
    if late:
        asked.forget(stored.reference)
        asked.handle(store.DataSent(stored.reference, held[7]))
    else:
        del stored
        asked.tell_released()
    assert not asked.arrived(Reference(2, 7)) and not asked.waiting


def test_what_two_want_is_asked_for_once():
    """The program and a call, or two calls; a second answer would stay for ever."""
    asked, sent = Exchange(1, lambda *message: sent.append(message)), []
    assert not asked.waiting
    for _ in range(2):
        asked.request(Reference(2, 7))
    assert asked.waiting and not asked.arrived(Reference(2, 7))
    asked.handle(store.DataSent(Reference(2, 7), Packed(b"", [])))
    asked.request(Reference(2, 7))
    assert not asked.waiting and asked.arrived(Reference(2, 7))
    assert sent == [(2, store.DataRequested(1, 7))]


def test_what_a_rank_holds_itself_is_copied_too():
    ranks = Ranks(1)
    ranks.exchanges[0].held[3] = packed = store.pack(np.zeros(LARGE, np.uint8))
    assert isinstance(packed, Packed)
    ranks.fetch(0, Reference(0, 3)).value()[0] = 1
    assert ranks.fetch(0, Reference(0, 3)).value()[0] == 0
    del packed
    Stored(0, 3)
    ranks.exchanges[0].tell_released()
    assert not ranks.exchanges[0].held and not ranks.sent


def test_what_is_small_travels_with_its_message():
    assert isinstance(store.pack([1, "a", np.zeros(10)]), bytes)
    assert store.pack_results([1] * 100_000, Reference(1, 0))[1] == {}, "many small values are no large one"
