"""Calls that tasks left behind when they ended: whether all of them have been made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class LeftoversAsked(NamedTuple):
    """Rank 0 has nothing left to do: does the receiver have calls that wait for something?"""


class LeftoversTold(NamedTuple):
    """The answer of a worker: so many calls wait on it, for what is not the result of another call."""

    worker: int
    waiting: int


class Leftovers:
    """Rank 0's knowledge of calls that wait on the workers whose tasks submitted them.

    A task may end after `g(f(1))`. Its worker sends the call of g when it has heard what f returned; rank 0 had nothing
    left to do when it said so, and would have ended the job. So it asks, after all that it has said before, the workers
    that have submitted calls since they were last asked: what they then had to send is there before their answers.
    """

    def __init__(self) -> None:
        #: Calls that can never be made: those of each worker that wait for a future which nobody sets.
        self.stranded: dict[int, int] = {}
        self._submitters: set[int] = set()
        self._to_ask: set[int] = set()
        self._asked: set[int] = set()

    def submitted(self, worker: int) -> None:
        """A task on this worker has submitted a call."""
        self._submitters.add(worker)

    def none(self) -> bool:
        """Whether there are none, as far as is known when there is nothing else to do; else the workers are asked."""
        # Who has not answered yet is asked again after that: the answer may be older than what was submitted since.
        for worker in self._submitters - self._asked:
            self._submitters.discard(worker)  # first: it may submit more at any time, and one thread alone looks
            self._to_ask.add(worker)
        return not (self._submitters or self._to_ask or self._asked)

    def ask(self, send: Callable[[int, Any], None]) -> None:
        """Send the questions; by the thread that may."""
        for worker in list(self._to_ask):
            self._asked.add(worker)  # first: another thread may look whether there are none
            self._to_ask.discard(worker)
            send(worker, LeftoversAsked())

    def told(self, answer: LeftoversTold) -> None:
        """A worker has answered."""
        self._asked.discard(answer.worker)
        self.stranded[answer.worker] = answer.waiting
