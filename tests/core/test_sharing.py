"""Whom to ask to give calls back."""

from swiftpy.core.sharing import Sharing
from swiftpy.core.task import Kind, Task

TWO = [Task(1, Kind("f"), [0]), Task(2, Kind("f"), [0])]


def test_one_that_has_answered_is_asked_again_only_if_it_was_given_more():
    sharing = Sharing()
    sharing.note(5, TWO, more=True)
    assert sharing.ask() == 5 and sharing.ask() is None
    sharing.note(5, TWO, more=True)
    sharing.note(5, TWO)  # one of three has ended; it was given more all the same
    assert sharing.answered(5, TWO) and sharing.ask() == 5
    sharing.note(5, TWO)
    assert sharing.answered(5, TWO) and sharing.ask() is None


def test_a_run_can_be_shared_but_no_chain():
    sharing = Sharing()
    sharing.note(5, [Task(1, Kind("f", chained=True), [0, 0], 2)])
    sharing.note(6, TWO[:1])
    assert sharing.ask() is None
    sharing.note(5, [Task(1, Kind("f"), [0, 0], 2)])
    assert sharing.ask() == 5


def test_one_that_is_gone_owes_no_answer_and_can_be_asked_when_it_comes_back():
    """Else whoever waits for all answers would wait for ever."""
    sharing = Sharing()
    sharing.note(5, TWO, more=True)
    assert sharing.ask() == 5 and sharing.unanswered
    sharing.forget(5)
    assert not sharing.unanswered
    sharing.note(5, TWO, more=True)
    assert sharing.ask() == 5
