"""A parallel task that runs: on which workers, and what they have said about its end."""

from __future__ import annotations

from dataclasses import dataclass

from swiftpy.errors import TaskError


@dataclass(slots=True)
class Gang:
    """The workers on which the task has not ended, and how it ended on the others. Its value is that of the `first`."""

    unfinished: set[int]
    first: int
    value: bytes | list[bytes] | None = None
    error: TaskError | None = None
    killed: bool = False

    def ended(self, worker: int, value: bytes | list[bytes] | None, error: TaskError | None, killed: bool) -> bool:
        """The task ended on a worker; True if it has on all."""
        self.unfinished.discard(worker)
        self.error = self.error or error
        self.killed = self.killed or killed
        if worker == self.first:
            self.value = value
        return not self.unfinished
