"""How many calls travel together, as a function of what is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftpy.core.pieces import LEAST_SECONDS, MOST_CALLS, PIECE_SECONDS, SERVER_SECONDS, Pieces
from swiftpy.core.task import Kind, Task

seconds = st.floats(1e-7, 1e3)
workers = st.integers(1, 100_000)


def pieces(call_seconds):
    measured = Pieces()
    measured.measured("f", 1, call_seconds)
    return measured


def test_what_was_never_measured_goes_alone():
    assert Pieces().size("f", 1_000_000, 10) == 1
    assert Pieces().expected(Task(0, Kind("f"), [0])) == math.inf


@given(seconds, workers)
def test_while_there_is_plenty_the_server_is_at_most_half_busy(call_seconds, workers):
    size = pieces(call_seconds).size("f", 10**12, workers)
    wanted = max(PIECE_SECONDS, workers * SERVER_SECONDS) / call_seconds
    assert size == MOST_CALLS or size > wanted * 0.999 - 1
    assert size == 1 or size <= min(MOST_CALLS, wanted * 1.001)


@given(seconds, workers, st.integers(1, 10**7))
def test_near_the_end_pieces_shrink_so_that_all_end_together(call_seconds, workers, waiting):
    size = pieces(call_seconds).size("f", waiting, workers)
    least = max(LEAST_SECONDS, workers * SERVER_SECONDS / 2)
    assert size == 1 or size <= max(waiting // (2 * workers), 1.001 * least / call_seconds)
    plenty = min(MOST_CALLS, 0.999 * max(PIECE_SECONDS, 2 * least) / call_seconds - 1)
    assert size >= min(plenty, max(waiting // (2 * workers), 0.999 * least / call_seconds - 1)), "but no further"


def test_tasks_that_must_go_alone_are_never_short():
    assert pieces(1e-6).expected(Task(0, Kind("f", isolated=True), [0])) == math.inf
    assert pieces(1e-2).expected(Task(0, Kind("f"), [0, 1], 2)) == 2e-2


def test_calls_that_took_no_time_at_all_are_not_free():
    """A clock may not have moved. Without end, pieces of them would go to a worker in advance; with fewer than two, it
    would have to be woken for each."""
    assert pieces(0.0).size("f", 10**9, 1) == MOST_CALLS
    one = pieces(0.0).expected(Task(0, Kind("f"), [0] * MOST_CALLS, MOST_CALLS))
    assert 2 * one < PIECE_SECONDS < 10 * one


def test_the_mean_follows_longer_calls_faster():
    measured = pieces(1e-3)
    measured.measured("f", 1, 3e-3)
    assert measured.size("f", 10**9, 1) == 2
    measured.measured("f", 1, 1e-3)
    assert measured.expected(Task(0, Kind("f"), [0])) == pytest.approx(1.75e-3)
    for _ in range(20):
        measured.measured("f", 100, 100 * 1e-5)
    assert measured.size("f", 10**9, 1) > 100
