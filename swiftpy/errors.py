"""Errors by blame: the user's input (`UserError`) or one RUN (`TaskError`). The rest are engine bugs."""

from dataclasses import dataclass


class UserError(Exception):
    """Input that the user must change; every element of `lines` is one complete message that says what to do.

    All problems that were found travel in one error, so that the user corrects them in one go.
    """

    exit_code = 2

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = list(lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why one attempt of a task ended without a value: data, to be sent and journaled, never raised.

    `kind` is "exception", "exit", "signal", "timeout", "lost" or "rejected"; `message` one line;
    `traceback` the text from the process that ran the task, or "".
    """

    kind: str
    message: str
    traceback: str = ""
    host: str = ""
    rank: int = -1

    def summary(self) -> str:
        """One line for people: what happened, and where if that is known."""
        where = " on ".join(part for part in (f"rank {self.rank}" if self.rank >= 0 else "", self.host) if part)
        return f"{self.kind}: {self.message}" + (f" ({where})" if where else "")
