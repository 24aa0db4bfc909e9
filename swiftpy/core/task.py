"""What a task is, the states it goes through, and the one table of legal transitions, which tests hold it to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import Any

#: Where workers are, as tuples that are quickly compared: (rank, node, kind), each None for any.
Place = tuple[int | None, str | None, str | None]
EVERYWHERE: Place = (None, None, None)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a task may run: anywhere, on one rank, on any worker of one node, or of one kind.

    `kind` may be combined with `node`. A `soft` target is a preference: another worker takes the task before it waits.
    """

    rank: int | None = None
    node: str | None = None
    kind: str | None = None
    soft: bool = False
    #: Where the workers are that it names.
    place: Place = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rank is not None and (self.node is not None or self.kind is not None):
            raise ValueError("a target names a rank, or a node or kind of workers, not both")
        object.__setattr__(self, "place", (self.rank, self.node, self.kind))

    def __reduce__(self) -> str | tuple[Any, ...]:
        return "ANYWHERE" if self is ANYWHERE else (Target, (self.rank, self.node, self.kind, self.soft))

    def __str__(self) -> str:
        if self.rank is not None:
            return f"rank {self.rank}"
        kind = f"{self.kind} worker" if self.kind else "worker"
        return f"any {kind}" if self.node is None else f"a {kind} of node {self.node}"


ANYWHERE = Target()


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker is and what it is: its node's name, and its kind (such as "gpu"), if it has one."""

    node: str
    kind: str | None = None
    #: Every place that a worker here is in, but that of its rank.
    places: tuple[Place, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places: list[Place] = [EVERYWHERE, (None, self.node, None)]
        if self.kind is not None:
            places += [(None, None, self.kind), (None, self.node, self.kind)]
        object.__setattr__(self, "places", tuple(places))


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
    priority: float = 0
    depth: int = 0
    target: Target = ANYWHERE
    timeout: float | None = None
    retries: int = 0
    isolated: bool = False
    ranks: int = 1
    chained: bool = False
    #: Whether any worker can make its calls, alone.
    anywhere: bool = field(init=False, repr=False, compare=False)
    #: Whether several calls may be one task; what can be killed, or gathers workers, goes alone.
    divisible: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        anywhere = self.ranks == 1 and (self.target.soft or self.target.place == EVERYWHERE)
        object.__setattr__(self, "anywhere", anywhere)
        object.__setattr__(self, "divisible", not self.isolated and self.ranks == 1 and self.timeout is None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Each call that a task submits brings its kind along, and what dataclasses do for that is slow."""
        return _kind, _given(self)

    @property
    def name(self) -> str:
        """What people call it: its label, or its function, without the digest that one sent by value has."""
        return self.label or self.function.partition("#")[0]


_given = attrgetter(*(field.name for field in fields(Kind) if field.init))


@lru_cache(maxsize=1024)
def _kind(*given: Any) -> Kind:
    return Kind(*given)


class Task:
    """A run of `count` calls of one kind, with the ids `id`, `id + 1`, ...; usually one call.

    `payload` holds the arguments: unread, but a sequence with an element for each call if there are several, so that
    the run can be cut. `after` are the ids of unresolved calls whose results it needs. `owner` is the client's own,
    unread. `attempt` counts the times that its calls were sent to a worker, so that no two attempts of a call have the
    same number; `failures` counts those that failed. Plain and mutable only for speed: nobody but the scheduler
    changes a task.
    """

    __slots__ = ("_offset", "_payload", "after", "attempt", "count", "failures", "id", "kind", "owner")

    def __init__(
        self, id: int, kind: Kind, payload: Any, count: int = 1, after: Sequence[int] = (), owner: Any = None
    ) -> None:
        self.id = id
        self.kind = kind
        self._payload = payload
        self._offset = 0
        self.count = count
        self.after = after
        self.owner = owner
        self.attempt = 0
        self.failures = 0

    def __repr__(self) -> str:
        return f"Task({self.id}{f'+{self.count}' if self.count > 1 else ''} {self.kind.name})"

    @property
    def ids(self) -> range:
        """Of its calls."""
        return range(self.id, self.id + self.count)

    @property
    def payload(self) -> Any:
        """The arguments of its calls."""
        return self._payload[self._offset :] if self._offset else self._payload

    def part(self, start: int, stop: int) -> Task:
        """The run of calls from index `start` to before `stop`, with the attempts that this one had.

        The last part shares the payload, up to half of it: a run of a million slow calls is cut a million times, and
        copying what is left each time would take an hour.
        """
        part = Task(self.id + start, self.kind, self._payload, stop - start, self.after, self.owner)
        part.attempt, part.failures = self.attempt, self.failures
        part._offset = self._offset + start
        if stop < self.count:
            part._payload, part._offset = self._payload[part._offset : self._offset + stop], 0
        elif 2 * part._offset > len(self._payload):
            part._payload, part._offset = part.payload, 0
        return part


class TaskState(Enum):
    """BLOCKED needs results of others; READY waits for a worker; RUNNING is on one; the others are final."""

    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


#: state -> states that may follow it. docs/architecture.md draws this table. In a chained run, BLOCKED calls are sent
#: along with the one that they need, and are BLOCKED again if that fails and is retried.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.BLOCKED: frozenset({TaskState.READY, TaskState.RUNNING, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.READY: frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.INTERRUPTED}),
    TaskState.RUNNING: frozenset(TaskState) - {TaskState.RUNNING},
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.INTERRUPTED: frozenset(),
}

FINAL_STATES = frozenset(state for state, successors in TRANSITIONS.items() if not successors)
