"""The server's loop: messages in, `scheduler.step`, journal, messages out.

It knows neither MPI nor the wall clock: transport and clock are arguments, so that the simulator drives this very code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, get_args

from swiftpy.core.events import (
    Command,
    DrainRequested,
    Event,
    GraceExpired,
    InterruptRequested,
    ReportOutcome,
    StartTask,
    SubmissionClosed,
    TaskSubmitted,
    WorkerLost,
)
from swiftpy.core.task import Task
from swiftpy.runtime.call import Payload
from swiftpy.runtime.order import Report, Taken, assignment, order
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.transport import TICK, Transport

if TYPE_CHECKING:
    from swiftpy.core.scheduler import Scheduler

#: Messages that are taken in before what follows from them is recorded and sent: one fsync for all of them.
BATCH = 256
#: Seconds that a worker has to end a task that it was told to kill.
PATIENCE = 10.0
#: What goes to the scheduler as it comes; that a rank got a signal is for somebody else to judge.
EVENTS = frozenset(get_args(Event)) - {DrainRequested}


class Client(Protocol):
    """Whose tasks a server runs. All is called on the server's rank, from the server's loop.

    Clients derive from it, and leave out what they have no use for.
    """

    def started(self, command: StartTask) -> None:
        """An attempt is about to be sent to its worker."""
        return

    def payload(self, command: StartTask) -> Payload:
        """The task's payload as it is sent to the worker (see `call`)."""
        ...

    def resolved(self, report: ReportOutcome) -> None:
        """An attempt ended."""
        return

    def commit(self) -> None:
        """Make durable what `started` and `resolved` said; only then does anyone else hear of it."""
        return

    def heard(self, message: Any) -> list[Event]:
        """A worker sent something that is no event of the scheduler: what events follow from it."""
        raise AssertionError(f"no task can send {message!r}")

    def tick(self) -> None:
        """Called several times a second, and after each time that something came."""
        return


class JobClient(Client, Protocol):
    """The client of the server of a whole job."""

    def draining(self, reason: str) -> None:
        """The job is ending early: because of a signal, or of its walltime."""
        return

    def seconds_needed(self) -> float:
        """How long a task must run for its work not to be lost; 0 if that is not known."""
        return 0.0


class Loop:
    """What every server does: take messages in, step the scheduler, send what follows."""

    def __init__(self, transport: Transport, scheduler: Scheduler, client: Client) -> None:
        self.transport = transport  # for the client's messages to what it has on workers, too
        self._scheduler = scheduler
        self._client = client
        self._reporters: list[int] = []

    def progress(self, timeout: float) -> bool:
        """Take in what has come, or wait so long for it, and do what follows; whether anything came."""
        came, events = self._receive(timeout)
        self.take(events)
        while self._reporters:
            self.transport.send(self._reporters.pop(), Taken())
        self._client.tick()
        return came

    def _receive(self, timeout: float) -> tuple[bool, list[Event]]:
        """Whether something came, and the events that the scheduler has not seen."""
        events: list[Event] = []
        message = self.transport.recv(timeout)
        came = message is not None
        while message is not None:
            if type(message) in EVENTS:
                events.append(message)
            else:
                events = self._sort(message, events)
            if len(events) >= BATCH:
                break
            message = self.transport.recv(0)
        return came, events

    def _sort(self, message: Any, events: list[Event]) -> list[Event]:
        """What is, after these events, in a message that is none: several, or something for the client."""
        if type(message) is Report:
            self._reporters.append(message.server)
            message = message.messages
        for each in message if type(message) is list else (message,):
            if type(each) in EVENTS:
                events.append(each)
            else:
                # First what came before: else a client that submits a task now would say that it needs the result
                # of a call which ends with one of these events, and which nobody resolves after them.
                self.take(events)
                events = self._hear(each)
        return events

    def _hear(self, message: Any) -> list[Event]:
        """What events follow from a message that is none."""
        return self._client.heard(message)

    def take(self, events: list[Event]) -> None:
        """Step through the events; record what follows; and only then send it."""
        commands: list[Command] = []
        for event in events:
            commands += self._scheduler.step(event)
        if not commands:
            return
        by_worker: dict[int, list[Command]] = {}
        for command in commands:
            if isinstance(command, ReportOutcome):
                self._client.resolved(command)
                continue
            if type(command) is StartTask:
                self._client.started(command)
            by_worker.setdefault(command.worker, []).append(command)
        self._client.commit()
        for worker, several in by_worker.items():  # as one message: more would wake it several times, and it us
            messages = [self._message(command) for command in several]
            self.transport.send(worker, messages if len(messages) > 1 else messages[0])

    def _message(self, command: Any) -> Any:
        """A command as it is sent."""
        if type(command) is not StartTask:
            return command
        if command.pieces is None:
            return order(command, self._client.payload(command))
        return assignment(command, command.pieces, self._client.payload)


class Server(Loop):
    """Drives the scheduler of the whole job until its tasks are resolved.

    `grace` is how many seconds running tasks get to end by themselves once they are asked to; `walltime` is in how many
    seconds the whole job will be killed. Early enough before that, running tasks are asked to stop; and no task is
    started that would have less time than the client says that one needs.
    """

    def __init__(
        self,
        transport: Transport,
        scheduler: Scheduler,
        client: JobClient,
        stop: StopRequest,
        grace: float,
        clock: Callable[[], float],
        walltime: float = math.inf,
    ) -> None:
        super().__init__(transport, scheduler, client)
        self._job = client
        self._stop = stop
        self._grace = grace
        self._clock = clock
        self._interrupt_at = clock() + walltime - grace - PATIENCE
        self._kill_at = math.inf
        self._give_up_at = math.inf
        self._not_ended = math.inf  # how many were busy when that was looked at last
        #: False if workers had to be given up, so that the job can only be aborted.
        self.clean = True

    def run(self, tasks: Iterable[Task]) -> None:
        """Run these tasks and no others."""
        self.take([*(TaskSubmitted(task) for task in tasks), SubmissionClosed()])
        while not self._scheduler.over:
            self.progress(TICK)

    def progress(self, timeout: float) -> bool:
        """See Loop."""
        came = super().progress(timeout)
        self._watch_the_clock()
        return came

    def _hear(self, message: Any) -> list[Event]:
        if isinstance(message, DrainRequested):  # a worker got a signal; usually all ranks get it
            self._stop.reason = self._stop.reason or message.reason
            return []
        return super()._hear(message)

    def _watch_the_clock(self) -> None:
        """End the job in steps, by signal or because its time runs out: start nothing, interrupt, kill, give up."""
        if self._stop.reason is None and self._interrupt_at == math.inf:
            return  # it need not end
        now = self._clock()
        if self._stop.reason is not None:
            self._interrupt_at = min(self._interrupt_at, now)
        if not self._scheduler.draining and now + self._job.seconds_needed() >= self._interrupt_at:
            reason = self._stop.reason or "walltime"
            self._job.draining(reason)
            self.take([DrainRequested(reason)])
        if now >= self._interrupt_at and self._kill_at == math.inf:
            self._kill_at = now + self._grace
            self.take([InterruptRequested()])
        insisted = self._stop.reason is not None and self._stop.insisted
        if (now >= self._kill_at or insisted) and self._give_up_at == math.inf:
            self.take([GraceExpired()])
            self._give_up_at = self._clock() + PATIENCE  # they were told only when the disk had the journal
        if now >= self._give_up_at and (busy := self._scheduler.busy):
            self._give_up(busy)

    def _give_up(self, busy: list[int]) -> None:
        """Take these for lost, unless there were more of them at the last look.

        The answers of hundreds that ended in time may still lie here: while all of them write checkpoints, one fsync of
        the journal can take longer than PATIENCE; and answers are taken in BATCH at a time.
        """
        if len(busy) < self._not_ended:
            self._not_ended = len(busy)
            return
        self.clean = False
        reason = f"it did not end within {PATIENCE:g} s of being told to"
        self.take([WorkerLost(worker, reason) for worker in busy])
