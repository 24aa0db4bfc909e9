"""Errors by blame: the user's input (`UserError`) or one task (`TaskError`); the rest are engine bugs. Exit codes."""

from __future__ import annotations

from typing import Any

#: What the engine's own threads are called: an exception that nothing catches there is a bug, and ends the job.
ENGINE_THREAD = "swiftpy"
#: Exit codes: everything is done; nothing was started; some RUNs or tasks failed; to be restarted. 1 is an engine bug.
DONE, BAD_INPUT, SOME_FAILED, STOPPED_EARLY = 0, 2, 3, 4


class UserError(Exception):
    """Input that the user must change; every element of `lines` is one complete message that says what to do.

    All problems that were found travel in one error, so that the user corrects them in one go. What ends a command in
    the same way, by lines for the user, but is no fault of the input, is a subclass with another `exit_code`.
    """

    exit_code = BAD_INPUT

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = list(lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class StoppedError(UserError):
    """A signal ended the job before it had begun."""

    exit_code = STOPPED_EARLY


class TaskError(Exception):
    """Why one attempt of a task ended without a value: data to be sent and journaled, and what its future raises.

    `kind` is "exception", "exit", "signal", "timeout", "lost", "rejected", "cancelled" or "interrupted"; `message` one
    line; `traceback` the text from the process that ran the task, or ""; `exception` the exception that it raised,
    pickled, or b"" if there is none or it cannot be pickled. `task` is what people call the task, once the scheduler
    has heard of it; `culprit`, where it failed because another did, is that one's call (-1: it has no number).
    """

    task = ""
    culprit: int | None = None

    def __init__(
        self, kind: str, message: str, traceback: str = "", host: str = "", rank: int = -1, exception: bytes = b""
    ) -> None:
        super().__init__(kind, message, traceback, host, rank, exception)
        self.kind = kind
        self.message = message
        self.traceback = traceback
        self.host = host
        self.rank = rank
        self.exception = exception

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TaskError) and self.args == other.args

    __hash__ = Exception.__hash__

    def __str__(self) -> str:
        return self.summary() + (f"\n\n{self.traceback.rstrip()}" if self.traceback else "")

    def of_dependent(self, call: int = -1) -> TaskError:
        """Why what needs the result of the call that failed so fails, too. `call` is the number of that call."""
        if self.culprit is not None:
            return self
        task = self.task or "a call"
        error = TaskError("cancelled", f"it needs the result of {task}, which failed: {self.summary()}")
        error.culprit = call
        return error

    def summary(self) -> str:
        """One line for people: what happened, and where if that is known."""
        where = " on ".join(part for part in (f"rank {self.rank}" if self.rank >= 0 else "", self.host) if part)
        return f"{self.kind}: {self.message}" + (f" ({where})" if where else "")


def disk_says(error: OSError, where: object) -> str:
    """One line: the file, and what is wrong with it. `where` stands for the file of a write, which does not say it.

    A copy or a rename names two: nobody looks for a full disk where only the file lies that was to be copied.
    """
    files = " -> ".join(str(file) for file in (error.filename, error.filename2) if file)
    return f"{files or where}: {error.strerror or error}"


class Deadlock(Exception):  # noqa: N818  (it names a state of the program)
    """What the program waits for can never come; the arguments say what waits for what."""

    def __str__(self) -> str:
        return "\n".join(str(line) for line in self.args)
