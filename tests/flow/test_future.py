"""Futures between threads: one settles them while others wait for them, cancel them or add callbacks."""

import concurrent.futures
import sys
import threading

import pytest

from swiftpy.flow.future import Future, begin_all, settle_all

ROUNDS = 300


@pytest.fixture
def many_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


@pytest.mark.parametrize("error", [None, ValueError()])
def test_what_is_done_when_it_is_first_seen_is_handed_out_once(error):
    """The callbacks of a future may be called long after it is settled, so who waits is not told with them."""
    futures = [Future() for _ in range(3)]
    called = []
    for future in futures:
        future.add_done_callback(called.append)
    assert all(future.settle(1, error) for future in futures[:2])
    completed = concurrent.futures.as_completed(futures, timeout=60)
    seen = [next(completed)]
    for future in futures[:2]:
        future.tell()
    assert futures[2].settle(2, None)
    futures[2].tell()
    seen += completed
    assert seen[2] is futures[2] and set(seen) == set(futures) and called == futures


@pytest.mark.parametrize("shared", [False, True])
def test_waiting_while_they_are_settled(many_switches, shared):
    for _ in range(ROUNDS):
        futures = [Future() for _ in range(8)]
        called = []
        if shared:
            for future in futures:
                future.add_done_callback(called.append)

        def settle(futures=futures):
            for future in settle_all(futures, range(8)):
                future.tell()

        thread = in_a_thread(settle)
        seen = [future.result() for future in concurrent.futures.as_completed(futures, timeout=60)]
        thread.join()
        assert sorted(seen) == list(range(8)) and len(called) == 8 * shared


def test_a_call_is_cancelled_or_made(many_switches):
    cancelled_some = made_some = False
    for _ in range(ROUNDS):
        futures = [Future() for _ in range(8)]
        cancelled = []
        thread = in_a_thread(
            lambda futures=futures, cancelled=cancelled: cancelled.extend(
                index for index, future in enumerate(futures) if future.cancel()
            )
        )
        not_made = begin_all(futures)
        thread.join()
        assert sorted(not_made) == sorted(cancelled)
        assert all(future.running() for index, future in enumerate(futures) if index not in cancelled)
        cancelled_some |= bool(cancelled)
        made_some |= len(cancelled) < len(futures)
    assert made_some and cancelled_some


def test_what_is_done_is_not_cancelled_and_needs_nothing_for_that():
    """Executor.map cancels each future that it is done with, for which each made a lock."""
    future = Future()
    future.settle(7, None)
    assert not future.cancel() and not future._shared
    assert future.result() == 7 and not future.cancelled()
