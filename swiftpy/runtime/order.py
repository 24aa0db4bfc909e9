"""What a worker is told to run: the part of a StartTask that it needs, in a form that is quickly pickled."""

from __future__ import annotations

from typing import NamedTuple

from swiftpy.core.events import StartTask


class Order(NamedTuple):
    """One attempt of a task; `payload` is as in `call`, the other fields as in `core.task`."""

    task_id: int
    attempt: int
    function: str
    payload: bytes
    label: str = ""
    timeout: float | None = None
    isolated: bool = False
    chained: bool = False
    gang: tuple[int, ...] = ()
    depth: int = 0


def order(command: StartTask, payload: bytes) -> Order:
    """The order for a command, with its task's payload as bytes."""
    task, kind = command.task, command.task.kind
    return Order(
        task.id,
        command.attempt,
        kind.function,
        payload,
        kind.label,
        kind.timeout,
        kind.isolated,
        kind.chained,
        command.gang,
        kind.depth,
    )
