"""The server's loop: messages in, `scheduler.step`, journal, messages out.

It knows neither MPI nor the wall clock: transport and clock are arguments, so that the simulator drives this very code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from swiftpy.core.events import (
    Command,
    DrainRequested,
    Event,
    GraceExpired,
    ReportOutcome,
    StartTask,
    SubmissionClosed,
    TaskSubmitted,
    WorkerLost,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Task
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.transport import Transport

#: Seconds between two looks at the clock while nothing comes in.
TICK = 0.2
#: Messages that are taken in before what follows from them is recorded and sent: one fsync for all of them.
BATCH = 256
#: Seconds that a worker has to end a task that it was told to kill.
PATIENCE = 10.0


class Client(Protocol):
    """Whose tasks the server runs. All is called on the server's rank, from the server's loop."""

    def started(self, command: StartTask) -> None:
        """An attempt is about to be sent to its worker."""

    def resolved(self, report: ReportOutcome) -> None:
        """An attempt ended."""

    def commit(self) -> None:
        """Make durable what `started` and `resolved` said; only then does anyone else hear of it."""

    def draining(self, reason: str) -> None:
        """The job is ending early."""

    def tick(self) -> None:
        """Called several times a second."""


class Server:
    """Drives a scheduler until its tasks are resolved.

    `grace` is how many seconds running tasks get to end by themselves once the job is asked to end early.
    """

    def __init__(
        self,
        transport: Transport,
        scheduler: Scheduler,
        client: Client,
        stop: StopRequest,
        grace: float,
        clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._scheduler = scheduler
        self._client = client
        self._stop = stop
        self._grace = grace
        self._clock = clock
        self._kill_at = float("inf")
        self._give_up_at = float("inf")

    def run(self, tasks: Iterable[Task]) -> bool:
        """Run the tasks; False if workers had to be given up, so that the job can only be aborted."""
        self._take([*(TaskSubmitted(task) for task in tasks), SubmissionClosed()])
        while not self._scheduler.over:
            self._take(self._receive())
            self._watch_the_clock()
            self._client.tick()
        return self._give_up_at > self._clock()

    def _receive(self) -> list[Event]:
        events: list[Event] = []
        message = self._transport.recv(TICK)
        while message is not None:
            events.append(message)
            message = self._transport.recv(0) if len(events) < BATCH else None
        return events

    def _watch_the_clock(self) -> None:
        now = self._clock()
        if self._stop.reason is not None and not self._scheduler.draining:
            self._take([DrainRequested(self._stop.reason)])
        if self._scheduler.draining and (now >= self._kill_at or self._stop.insisted):
            self._kill_at = float("inf")
            if self._give_up_at == float("inf"):
                self._give_up_at = now + PATIENCE
                self._take([GraceExpired()])
        if now >= self._give_up_at:
            reason = f"it did not end within {PATIENCE:g} s of being told to"
            self._take([WorkerLost(worker, reason) for worker in self._scheduler.running])

    def _take(self, events: list[Event]) -> None:
        """Step through the events; record what follows; and only then send it."""
        commands: list[Command] = []
        for event in events:
            if isinstance(event, DrainRequested):
                if self._scheduler.draining:
                    continue  # every rank that got the signal asks
                self._kill_at = self._clock() + self._grace
                self._client.draining(event.reason)
            commands += self._scheduler.step(event)
        for command in commands:
            if isinstance(command, ReportOutcome):
                self._client.resolved(command)
            elif isinstance(command, StartTask):
                self._client.started(command)
        if commands:
            self._client.commit()
        for command in commands:
            if not isinstance(command, ReportOutcome):
                self._transport.send(command.worker, command)
