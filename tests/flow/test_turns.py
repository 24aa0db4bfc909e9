"""Which of several threads that wait drives the server."""

import threading

from swiftpy.flow.turns import Turns


def test_who_follows_looks_again_when_it_is_told_and_when_the_leader_ends():
    woken = []
    turns = Turns(lambda: woken.append(1))
    assert turns.lead(lambda: False, 0.0, False)
    for last in (False, True):
        answers = []
        follower = threading.Thread(target=lambda: answers.append(turns.lead(lambda: False, 60.0, True)))
        follower.start()
        while not turns._following:
            pass
        if last:
            turns.end()
        turns.tell_followers()
        follower.join(50)
        assert answers == [False]
    assert len(woken) == 2, "what it submitted waits for the leader, who may be asleep"
    assert turns.lead(lambda: False, 0.0, False)


def test_who_waits_takes_the_place_of_the_thread_that_drives_alone():
    turns = Turns(lambda: turns.lock.release())
    turns.lock.acquire()
    assert turns.lead(lambda: False, 60.0, False)
