"""Which of a program's threads drives the server."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Seconds that the thread which drives while nobody waits has to give way.
_PATIENCE = 1e-3


class Turns:
    """Of the threads that wait for something one leads, which is to drive, and the others follow.

    To queue up behind the leader for the server would be to wait until something comes that only the leader waits for.
    While nobody waits another thread drives, with `lock` alone, and gives way when it is woken. `wake` ends the sleep
    of whoever drives.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.lock = threading.Lock()  # who has it drives
        #: How many threads wait for something.
        self.waiting = 0
        self._led = False
        self._following = 0
        self._followers = threading.Condition()

    def lead(self, enough: Callable[[], bool], seconds: float, work: bool) -> bool:
        """Become the leader, until `end`. False if there is one, and now something has come, or time has passed.

        `work`: there is something that the leader must hand over.
        """
        if not self.lock.acquire(blocking=False):
            if self._led:
                if work:  # the leader may be asleep
                    self._wake()
                with self._followers:
                    self._following += 1
                    if self._led and not enough():
                        self._followers.wait(seconds)
                    self._following -= 1
                return False
            self._wake()
            if not self.lock.acquire(timeout=_PATIENCE):  # another that waits was faster
                return False
        self._led = True
        return True

    def end(self) -> None:
        """Let another lead."""
        self._led = False
        self.lock.release()

    def tell_followers(self) -> None:
        """Something has come, or there is no leader any more: let the others look."""
        if self._following:
            with self._followers:
                self._followers.notify_all()
