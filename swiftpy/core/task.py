"""What a task is, the states it goes through, and the one table of legal transitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """Where a task may run: anywhere, on one rank, on any worker of one node, or of one kind.

    `kind` may be combined with `node`. A `soft` target is a preference: another worker takes the task before it waits.
    """

    rank: int | None = None
    node: str | None = None
    kind: str | None = None
    soft: bool = False

    def __post_init__(self) -> None:
        if self.rank is not None and (self.node is not None or self.kind is not None):
            raise ValueError("a target names a rank, or a node or kind of workers, not both")

    def __str__(self) -> str:
        if self.rank is not None:
            return f"rank {self.rank}"
        kind = f"{self.kind} worker" if self.kind else "worker"
        return f"any {kind}" if self.node is None else f"a {kind} of node {self.node}"


ANYWHERE = Target()


@dataclass(frozen=True, slots=True)
class Site:
    """Where a worker is and what it is: its node's name, and its kind (such as "gpu"), if it has one."""

    node: str
    kind: str | None = None

    def matches(self, rank: int, target: Target) -> bool:
        """Whether the worker with this rank may run a task with this target (softness aside)."""
        if target.rank is not None:
            return target.rank == rank
        return target.node in (None, self.node) and target.kind in (None, self.kind)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the tasks of one run have in common: what to call, and how.

    `function` names the callable (`package.module:name`); the scheduler only compares it. `label` is what people call
    the task (the RUN's id). Higher `priority` goes first; of equal priorities the deeper, then the first in. `depth`
    is 0 for tasks of the program, and one more than its own for tasks that a task submits: depth first, a recursion
    holds as many unfinished tasks as it is deep, breadth first as many as it has leaves. `timeout` is in seconds,
    None for no limit. `retries` is how many times a failed call is tried again. `isolated`: in a process of its own
    beside the worker. `ranks`: on so many workers at once, which share a communicator. `chained`: each call of the
    run needs the result of the one before.
    """

    function: str
    label: str = ""
    priority: int = 0
    depth: int = 0
    target: Target = ANYWHERE
    timeout: float | None = None
    retries: int = 0
    isolated: bool = False
    ranks: int = 1
    chained: bool = False

    @property
    def divisible(self) -> bool:
        """Whether several calls may travel together; what can be killed, or gathers workers, goes alone."""
        return not self.isolated and self.ranks == 1 and self.timeout is None


class Task:
    """A run of `count` calls of one kind, with the ids `id`, `id + 1`, ...; usually one call.

    `payload` holds the arguments: unread, but a sequence with an element for each call if there are several, so that
    the run can be cut. `after` are the ids of unresolved calls whose results it needs. `attempt` counts the attempts
    that were begun. Plain and mutable only for speed: nobody changes a task but the scheduler, which counts attempts.
    """

    __slots__ = ("after", "attempt", "count", "id", "kind", "payload")

    def __init__(
        self, id: int, kind: Kind, payload: Any, count: int = 1, after: Sequence[int] = (), attempt: int = 0
    ) -> None:
        self.id = id
        self.kind = kind
        self.payload = payload
        self.count = count
        self.after = after
        self.attempt = attempt

    def __repr__(self) -> str:
        name = self.kind.label or self.kind.function
        return f"Task({self.id}{f'+{self.count}' if self.count > 1 else ''} {name})"

    @property
    def label(self) -> str:
        """What people call it."""
        return self.kind.label

    def part(self, start: int, stop: int) -> Task:
        """The run of calls from index `start` to before `stop`, with the attempts that this one had."""
        return Task(self.id + start, self.kind, self.payload[start:stop], stop - start, self.after, self.attempt)


class TaskState(Enum):
    """BLOCKED needs results of others; READY waits for a worker; RUNNING is on one; the others are final."""

    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: state -> states that may follow it. docs/architecture.md draws this table.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.BLOCKED: frozenset({TaskState.READY, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.READY: frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.RUNNING: frozenset({TaskState.READY, TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.INTERRUPTED: frozenset(),
}

FINAL_STATES = frozenset(state for state, successors in TRANSITIONS.items() if not successors)
