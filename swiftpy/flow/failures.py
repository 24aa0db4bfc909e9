"""Which failures of calls nobody has heard of yet, and whether the first is to end the program."""

from __future__ import annotations

from collections.abc import Callable

from swiftpy.errors import TaskError
from swiftpy.runtime.transport import SERVER

#: Kinds of errors that follow from others, or from the program's will.
_FOLLOWS = frozenset(("cancelled", "interrupted"))


class Failures:
    """By the rank whose program or task submitted the call, and its id there. `end_early` asks for the end of the job.

    Of each a line is kept, not the error: a program that does not ask may go on for a million calls.
    """

    def __init__(self, end_early: Callable[[str], None]) -> None:
        self.stop_on_error = False
        self.culprit: TaskError | None = None  # the first error of the program's own calls, if it is to stop it
        self._end_early = end_early
        self._unheard: dict[tuple[int, int], str] = {}

    def note(self, id: int, error: TaskError, rank: int = SERVER) -> None:
        """A call has failed, for good."""
        if error.kind in _FOLLOWS:
            return
        self._unheard[rank, id] = error.summary()
        if rank == SERVER and self.stop_on_error and self.culprit is None:
            self.culprit = error
            self._end_early("a task failed")

    def heard(self, id: int, rank: int = SERVER) -> None:
        """Who submitted that call has asked how it ended, or how one ended that needed its result; any thread may say
        so."""
        self._unheard.pop((rank, id), None)

    @property
    def unheard(self) -> list[str]:
        """A line for each failure of which neither the program nor a task heard, as they did not ask for results."""
        return list(self._unheard.values())
