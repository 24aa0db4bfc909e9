"""What a task is, the states it goes through, and the one table of legal transitions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Target:
    """Where a task may run: anywhere, on one rank, or on any worker of one node."""

    rank: int | None = None
    node: str | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and self.node is not None:
            raise ValueError("a target names a rank or a node, not both")

    def __str__(self) -> str:
        if self.rank is not None:
            return f"rank {self.rank}"
        return "any worker" if self.node is None else f"node {self.node}"


ANYWHERE = Target()


@dataclass(frozen=True, slots=True)
class Task:
    """One call to make on a worker.

    `function` names the callable (`package.module:name`) and `payload` holds its pickled arguments; the scheduler
    passes both on unread. `label` is what people call the task (the RUN's id). Higher `priority` goes first, equal
    priorities first in, first out. `timeout` is in seconds, None for no limit. `retries` is how many times a failed
    task is tried again.
    """

    id: int
    function: str
    payload: bytes
    label: str = ""
    priority: int = 0
    target: Target = ANYWHERE
    timeout: float | None = None
    retries: int = 0


class TaskState(Enum):
    """READY waits for a worker; RUNNING is on one; the others are final for this job."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: state -> states that may follow it. docs/architecture.md draws this table.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.READY: frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.RUNNING: frozenset({TaskState.READY, TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.INTERRUPTED: frozenset(),
}

FINAL_STATES = frozenset(state for state, successors in TRANSITIONS.items() if not successors)
