"""The client of a program's server: hands its calls over, has them sent, and lets their futures know the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swiftpy.core.events import Event, ReportOutcome, StartTask, TaskSubmitted, ValueGiven
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Task, TaskState
from swiftpy.flow.calls import failure_of, unpack_values
from swiftpy.flow.failures import Failures
from swiftpy.flow.functions import Functions
from swiftpy.flow.gathering import GatheredRun, Gathering
from swiftpy.flow.leftovers import Leftovers, LeftoversTold
from swiftpy.flow.nested import CallSubmitted, FailureSeen, Relay
from swiftpy.flow.sending import Sending
from swiftpy.flow.settling import Settling
from swiftpy.runtime.call import Payload
from swiftpy.runtime.server import JobClient, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.store import Exchange
from swiftpy.runtime.transport import SERVER

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper
    from swiftpy.flow.trace import Trace


class ProgramClient(JobClient):
    """See the module. `stop` is to be asked for an early end of the job, as the first failure may do."""

    def __init__(self) -> None:
        self.stop = StopRequest()
        self.trace: Trace | None = None
        self.functions = Functions()
        keepers: dict[str, Keeper] = {}
        self._gathering = Gathering()
        self.failures = Failures(self._end_early)
        self.settling = Settling(self._gathering.futures, keepers, self.failures)
        self._leftovers = Leftovers()
        self._server: Server
        self._scheduler: Scheduler
        self._sending: Sending
        self._data: Exchange  # rank 0's part in it

    def attach(self, server: Server, scheduler: Scheduler) -> None:
        """The server is there."""
        self._server, self._scheduler = server, scheduler
        self._data = Exchange(SERVER, server.transport.send)
        self._sending = Sending(server.transport, self._data, self._gathering.futures, self.settling.keepers)

    def _end_early(self, reason: str) -> None:
        self.stop.reason = reason

    def _handed_over(self, runs: list[GatheredRun], given: list[int]) -> list[Event]:
        """What the scheduler is told of gathered runs and given values."""
        events: list[Event] = []
        for run in runs:
            after: Sequence[int] = ()
            if run.needed:
                culprit = next((future for future in run.needed if future.failed()), None)
                if culprit is not None:
                    self.settling.cancel(range(run.first, run.first + len(run.calls)), culprit)
                    continue
                after = [future.id for future in run.needed if not future.done()]
            self._sending.know(run.function, len(run.calls))
            task = Task(run.first, run.variant, run.calls, len(run.calls), after, owner=run.owner)
            events.append(TaskSubmitted(task))
        for id in given:
            future = self._gathering.futures.pop(id, None)
            if future is not None:  # else it was given up, or is told twice because it was met again after that
                error = None if future.good() else failure_of(future)
                events.append(ValueGiven(id, error))
        return events

    def heard(self, message: object) -> list[Event]:
        """See Client: about calls that tasks submitted, and large values."""
        if self._data.handle(message):
            return []
        if type(message) is FailureSeen:
            self.failures.heard(*message)
            return []
        if type(message) is LeftoversTold:
            self._leftovers.told(message)
            return []
        if type(message) is not CallSubmitted:
            return super().heard(message)
        self._leftovers.submitted(message.worker)
        runs, given, id = self._gathering.take(reserve=1)  # what was submitted before has lower ids
        events = self._handed_over(runs, given)
        self._sending.know(message.function, 1)
        relay = Relay(self._server.transport, self.failures, message.worker, message.id)
        task = Task(id, message.kind, [message.call], owner=relay)
        return [*events, TaskSubmitted(task)]

    def started(self, command: StartTask) -> None:
        """See Client."""
        if self.trace is not None:
            self.trace.started(command)

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        return self._sending.payload(command)

    def resolved(self, report: ReportOutcome) -> None:
        """See Client."""
        if self.trace is not None:
            self.trace.resolved(report, self._scheduler.queued)
        self._sending.ended(report)
        if report.value is not None and report.state is not TaskState.DONE:
            unpack_values(report.value)  # nobody gets it: who holds large parts of it may forget them
            self._data.tell_released()  # before it is tried again, for what that returns is called the same
        self.settling.resolved(report)

    def commit(self) -> None:
        """See Client."""
        self.settling.commit()
