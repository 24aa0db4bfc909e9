"""Whether what a program waits for can never come, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swiftpy.core.gang import Gang
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Task
from swiftpy.errors import Deadlock
from swiftpy.flow.future import Future

#: Seconds of silence after which parallel tasks that failed on one rank are given up, if nothing else runs: in MPI,
#: their other ranks may wait for that one for ever.
FORSAKEN = 60.0


def find(
    scheduler: Scheduler, futures: Iterable[Future], held_back: Mapping[Future, list[Future]], silence: float
) -> Deadlock | None:
    """What is wrong, if nobody but the program can make anything happen, and nothing has for so many seconds.

    `futures` are those that have no result; `held_back` those that the scheduler does not know, with what they need.
    """
    if silence > FORSAKEN and (forsaken := scheduler.forsaken):
        return Deadlock(*(_forsaken(task, gang, silence) for task, gang in forsaken.items()))
    stuck = scheduler.stuck
    if not stuck and not scheduler.quiet:
        return None
    unset = {future.id for future in futures if future.by_hand}
    others = {future for needed in held_back.values() for future in needed if not (future.engine or future.done())}
    lines = [f"{task.kind.name} waits for {_waited_for(task, stuck, unset)}" for task in stuck[:10]]
    count = sum(task.count for task in stuck) + len(held_back)
    return Deadlock(f"{count} tasks can never run, {len(unset) + len(others)} futures were never set", *lines)


def _forsaken(task: Task, gang: Gang, seconds: float) -> str:
    """What can be said of a parallel task that ended on some of its ranks only."""
    why = gang.error.summary() if gang.error is not None else ""
    others = ", ".join(map(str, sorted(gang.unfinished)))
    return f"{task.kind.name} failed: {why}; rank {others} may wait for it in MPI, {seconds:.0f} s by now"


def _waited_for(task: Task, stuck: list[Task], unset: set[int]) -> str:
    """What a task waits for that can never run, for people."""
    names = [other.kind.name for other in stuck if any(other.id <= id < other.id + other.count for id in task.after)]
    if not unset.isdisjoint(task.after):
        names.append("a future that was never set")
    return ", ".join(names[:3]) or "what it submitted"
