"""Which workers hold calls that others could make, and whom to ask for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from swiftpy.core.task import Task


class Sharing:
    """Workers that could give something back, and those that were asked to and have not answered.

    One that has answered has nothing left to give: it is not asked again before it was given more.
    """

    def __init__(self) -> None:
        self._loaded: OrderedDict[int, None] = OrderedDict()  # who has been at the same calls for longest is first
        self._asked: dict[int, bool] = {}  # worker -> whether it was given more since

    @property
    def unanswered(self) -> bool:
        """Whether somebody was asked and has not answered."""
        return bool(self._asked)

    def note(self, worker: int, held: Sequence[Task], more: bool = False) -> None:
        """What a worker holds changed; `more`: it was given something."""
        self._loaded.pop(worker, None)
        if worker in self._asked:
            self._asked[worker] = more or self._asked[worker]
        elif len(held) > 1 or (held and held[0].count > 1 and not held[0].kind.chained):
            self._loaded[worker] = None

    def ask(self) -> int | None:
        """The worker that shall be asked; None if nobody has anything to give."""
        if not self._loaded:
            return None
        worker, _ = self._loaded.popitem(last=False)
        self._asked[worker] = False
        return worker

    def answered(self, worker: int, held: Sequence[Task]) -> bool:
        """A worker gave back what it could, and now holds these; False if nobody had asked."""
        given = self._asked.pop(worker, None)
        if given:
            self.note(worker, held)
        return given is not None

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self._loaded.pop(worker, None)
        self._asked.pop(worker, None)
