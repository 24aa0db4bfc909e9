"""A server between rank 0 and a group of workers: to rank 0 it is a worker that takes much, to its workers the server.

It schedules its group by itself, in pieces as rank 0 would. Outcomes go to rank 0 joined, as far as that delays none of
them by more than a moment, and in reports, of which one is under way: when rank 0 is busy, they grow. It asks
for more work before it runs out (`WorkWanted`), and gives back what its workers have not got when rank 0 needs it for
another group (`RecallTasks`). Whatever fails is tried again, if at all, by rank 0: it may go to another group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from swiftpy.core.events import (
    DrainRequested,
    Event,
    GroupStuck,
    PassOn,
    RecallAnswered,
    RecallTasks,
    ReportOutcome,
    Share,
    StartTask,
    StopWorker,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskReturned,
    TaskSubmitted,
    WithdrawalRequested,
    WorkWanted,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat, Task, TaskState
from swiftpy.runtime.call import Payload
from swiftpy.runtime.order import Assignment, Calls, FunctionForgotten, Report, Taken
from swiftpy.runtime.server import Client, Loop
from swiftpy.runtime.transport import SERVER, TICK, Transport

#: Seconds that a result waits for others of its assignment.
HOLD = 10e-3
#: Pieces that a server wants to have in hand for each of its workers: more are on their way before these are done.
LEAD = 2


class _Done(NamedTuple):
    """A piece that was made, by rank 0's first id of it."""

    id: int
    calls: int
    value: bytes
    seconds: float
    worker: int


class _Origin:
    """What an assignment is for rank 0: its ids there are higher by `shift`.

    `stays`: large results stay with their worker. `left` calls of it have no outcome yet; `done` rank 0 does not know.
    """

    __slots__ = ("attempt", "done", "left", "shift", "stays")

    def __init__(self, shift: int, attempt: int, stays: bool, left: int) -> None:
        self.shift, self.attempt, self.stays, self.left = shift, attempt, stays, left
        self.done: list[_Done] = []


class GroupServer(Client):
    """See the module. It is the client of its own scheduler.

    `workers` are those of the group; `stop_reason()` says why this rank was asked to end early, if it was. With
    `joins`, pieces of several workers are reported as one, in which case nobody learns who made them.
    """

    def __init__(
        self,
        transport: Transport,
        workers: Mapping[int, Seat],
        stop_reason: Callable[[], str | None],
        clock: Callable[[], float],
        joins: bool = True,
    ) -> None:
        self._transport = transport
        self._rank = transport.rank
        self._scheduler = Scheduler(workers)
        self._scheduler.pieces.whole_chains = True
        self._loop = Loop(transport, self._scheduler, self)
        self._stop_reason = stop_reason
        self._clock = clock
        self._joins = joins
        self._held: dict[_Origin, float] = {}  # since when something of them is held back
        self._under_way = False  # a report is
        self._next_id = 0
        self._kinds: dict[Kind, Kind] = {}
        self._definitions: dict[str, bytes] = {}
        self._sent: set[tuple[int, str]] = set()  # (worker, function) whose definition is there
        self._upward: list[Any] = []  # messages for rank 0
        self._holey: int | None = None  # index of a TaskFinished, of whose failed calls we hear next
        self._culprit = 0  # index of the latest failure
        self._piece = 1.0  # calls that a worker gets at once, on average
        self._asked = 0  # pieces that are on their way, or will be
        self._told_idle = self._told_stuck = False
        self._recalled = False
        self._gave_back = False
        self._asked_to_drain = False
        self._stopped = False

    def run(self) -> None:
        """Serve until it is over."""
        while not self.over:
            self.progress(min(TICK, self.patience))

    @property
    def over(self) -> bool:
        """Rank 0 said stop, and all workers were told so."""
        return self._stopped and self._scheduler.over

    @property
    def patience(self) -> float:
        """In how many seconds something must be done, even if nothing comes."""
        return HOLD if self._held else math.inf

    def progress(self, timeout: float) -> None:
        """Take in what has come, or wait so long for it, and do what follows."""
        self._loop.progress(timeout)

    # -- what the loop tells its client ------------------------------------------------------------------------

    def heard(self, message: Any) -> list[Event]:
        """See Client: from rank 0, or from a worker for rank 0."""
        if type(message) is Assignment:
            return [TaskSubmitted(self._accept(message))]
        if isinstance(message, RecallTasks):
            self._recalled, self._gave_back = True, False
            return [WithdrawalRequested()]
        if isinstance(message, PassOn):
            return [message.event]
        if isinstance(message, Taken):
            self._under_way = False
            return []
        if isinstance(message, FunctionForgotten):
            self._forget(message)
            return []
        if isinstance(message, StopWorker):
            self._stopped = True
            return [SubmissionClosed()]
        self._upward.append(message)
        return []

    def started(self, command: StartTask) -> None:
        """See Client."""
        self._piece += 0.1 * (command.task.count - self._piece)

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        task, function = command.task, command.task.kind.function
        origin: _Origin = task.owner
        definition = self._definitions.get(function)
        if definition is not None and not task.kind.isolated:
            if (command.worker, function) in self._sent:
                definition = None
            else:
                self._sent.add((command.worker, function))
        holder = command.gang[0] if command.gang else command.worker
        name = (holder, task.id + origin.shift) if origin.stays else None
        return definition, task.payload.parts, name

    def resolved(self, report: ReportOutcome) -> None:
        """See Client: rank 0 shall hear of it."""
        task, origin = report.task, report.task.owner
        share = Share(task.count, self._rank if report.worker is None else report.worker)
        name = (self._rank, task.id + origin.shift, origin.attempt)
        origin.left -= task.count - len(report.failed)
        if report.state is TaskState.DONE and self._joins and not report.failed:
            assert type(report.value) is bytes
            origin.done.append(_Done(name[1], task.count, report.value, report.seconds, share.worker))
            self._held.setdefault(origin, self._clock())
        elif report.state is TaskState.DONE:
            self._holey = len(self._upward) if report.failed else None
            value, waited = report.value or b"", report.waited
            self._upward.append(TaskFinished(*name, value, report.seconds, share=share, waited=waited))
        elif report.error is None and report.worker is not None:
            self._upward.append(TaskKilled(*name, report.seconds, share))
        elif report.error is None:
            self._gave_back = True
            self._upward.append(TaskReturned(*name, 0, share))
        elif report.error.kind == "cancelled" and report.worker is None:
            # The rest of a chain: it must be back before the failure is known.
            self._upward.insert(self._culprit, TaskReturned(*name, 0, share))
            self._culprit += 1
        else:
            self._failed(TaskFailed(*name, report.error, report.seconds, share, report.value))
        if not origin.left and origin.done:
            self._join(origin)

    def commit(self) -> None:
        """See Client: what fails from now on was not among what was done before."""
        self._holey = None

    def tick(self) -> None:
        """Tell rank 0 what there is to tell."""
        if self._recalled and not self._scheduler.recalling:
            self._recalled = False
            if not self._gave_back:  # what the workers have given back by now
                self._loop.take([WithdrawalRequested()])
            self._upward.append(RecallAnswered(self._rank))
        reason = self._stop_reason()
        if reason is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self._upward.append(DrainRequested(reason))
        if not self._scheduler.draining and not self._stopped:
            self._ask()
        if bool(self._scheduler.stuck) != self._told_stuck:
            self._told_stuck = not self._told_stuck
            self._upward.append(GroupStuck(self._rank, self._told_stuck))
        while self._held and self._clock() - next(iter(self._held.values())) >= HOLD:
            self._join(next(iter(self._held)))
        if self._upward and not self._under_way:
            upward, self._upward = self._upward, []
            self._under_way = True
            self._transport.send(SERVER, Report(self._rank, upward))

    # -- details -----------------------------------------------------------------------------------------------

    def _forget(self, forgotten: FunctionForgotten) -> None:
        """Pass it on to those workers that have the function."""
        self._definitions.pop(forgotten.function, None)
        for worker, function in [sent for sent in self._sent if sent[1] == forgotten.function]:
            self._sent.remove((worker, function))
            self._transport.send(worker, forgotten)

    def _accept(self, assignment: Assignment) -> Task:
        """Work from rank 0 as a task of our own."""
        parts: list[tuple[bytes, int, int]] = []
        place = None
        left = assignment.calls
        for unit in assignment.units:
            definition, packed, place = unit
            if definition is not None:
                self._definitions[assignment.kind.function] = definition
            parts.append((packed, 0, min(left, assignment.size)))
            left -= assignment.size
        kind = self._kinds.get(assignment.kind)
        if kind is None:
            kind = self._kinds[assignment.kind] = dataclasses.replace(assignment.kind, retries=0)
        id, self._next_id = self._next_id, self._next_id + assignment.calls
        origin = _Origin(assignment.task_id - id, assignment.attempt, place is not None, assignment.calls)
        if assignment.pieces:
            if not kind.chained:
                self._scheduler.pieces.given[kind.function] = -(-assignment.calls // assignment.pieces)
            self._asked -= assignment.pieces
            self._told_idle = False
        task = Task(id, kind, Calls(parts), assignment.calls, owner=origin)
        task.attempt = assignment.attempt - 1  # so that workers are told the number that rank 0 gave it
        return task

    def _join(self, origin: _Origin) -> None:
        """Report what is held back of an assignment: pieces that follow each other as one."""
        del self._held[origin]
        done, origin.done = sorted(origin.done), []
        start = 0
        for stop in range(1, len(done) + 1):
            if stop < len(done) and done[stop].id == done[stop - 1].id + done[stop - 1].calls:
                continue
            run, start = done[start:stop], stop
            share = Share(sum(each.calls for each in run), run[0].worker if len(run) == 1 else self._rank)
            values = run[0].value if len(run) == 1 else [each.value for each in run]
            seconds = sum(each.seconds for each in run)
            self._upward.append(TaskFinished(self._rank, run[0].id, origin.attempt, values, seconds, share=share))

    def _failed(self, failed: TaskFailed) -> None:
        """One call failed: among others, which were reported as done except for such calls, or by itself."""
        if self._holey is not None:
            holey: TaskFinished = self._upward[self._holey]
            index = failed.task_id - holey.task_id
            if holey.share is not None and 0 <= index < holey.share.calls:
                self._culprit = self._holey
                self._upward[self._holey] = holey._replace(failures=(*holey.failures, (index, failed.error)))
                return
        self._culprit = len(self._upward)
        self._upward.append(failed)

    def _ask(self) -> None:
        """Ask for work, a little ahead of time, and at once if some workers have none."""
        scheduler = self._scheduler
        waiting = scheduler.queued / max(1.0, self._piece)
        idle = scheduler.idle > 0 and not scheduler.queued
        wanted = max(0, int(LEAD * scheduler.workers + scheduler.idle - waiting - self._asked))
        if 2 * wanted > LEAD * scheduler.workers or (idle and not self._told_idle):
            self._asked += wanted
            self._told_idle = idle
            self._upward.append(WorkWanted(self._rank, wanted, idle))
