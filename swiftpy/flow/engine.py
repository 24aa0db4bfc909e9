"""The program's side of the engine, on rank 0: calls in, futures out.

Whoever waits for a future drives the server (`_advance`); a thread does so while nobody waits. Calls are gathered in
runs (`gathering`), as many as follow each other with the same function and options, and handed to the scheduler when
somebody drives: the cost of a task in the scheduler is that of its run, shared.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from swiftpy.core.events import Event, ReportOutcome, StartTask, SubmissionClosed, TaskSubmitted, ValueGiven
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Task
from swiftpy.errors import Deadlock
from swiftpy.flow.bulk import Bulk
from swiftpy.flow.calls import failure_of
from swiftpy.flow.functions import Function, Functions
from swiftpy.flow.future import Future
from swiftpy.flow.gathering import ENOUGH, GatheredRun, Gathering
from swiftpy.flow.nested import CallSubmitted, FailureSeen, Relay
from swiftpy.flow.sending import Sending
from swiftpy.flow.settling import Settling
from swiftpy.flow.trace import Trace
from swiftpy.runtime.call import Payload
from swiftpy.runtime.server import TICK, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.store import Reference

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper

#: Seconds between the looks of the thread that drives while nobody waits.
NAP = 1e-3
#: Seconds that it lets calls gather while others wait for workers: chains that grow side by side would be cut short.
GATHER = 20e-3
#: Seconds without any event after which that thread sleeps until it is woken.
QUIET = 0.05
#: Seconds without any event after which it is asked whether one can ever come.
PATIENCE = 1.0


class Engine:
    """See the module. It is the server's client."""

    def __init__(self) -> None:
        self._server: Server
        self.trace: Trace | None = None
        self.stop = StopRequest()  # somebody wants the job to end early
        self._scheduler: Scheduler
        keepers: dict[str, Keeper] = {}
        self._gathering = Gathering(keepers)
        self.settling = Settling(self._gathering.futures, keepers, self._end_early)
        self.functions = Functions()
        self._driving = threading.Lock()  # the server
        self._fetching = threading.RLock()
        self._requested: deque[Reference] = deque()
        self._sending: Sending
        self._asleep = False  # the thread that drives alone
        self._drivers = 0
        self._led = False  # one of the threads that wait drives; the others follow
        self._following = 0
        self._followers = threading.Condition()
        self._latest = self._handed_over_at = time.monotonic()
        self._ended = False

    def attach(self, server: Server, scheduler: Scheduler) -> None:
        """The server is there."""
        self._server, self._scheduler = server, scheduler
        self._sending = Sending(server, self._gathering.futures, self.settling.keepers)
        threading.Thread(target=self._drive_alone, daemon=True, name="swiftpy").start()

    # -- for the program ---------------------------------------------------------------------------------------

    def submit(
        self,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future | None = None,
    ) -> Future:
        """Add one call; its future, which may be one that the caller has prepared."""
        if future is None:
            future = Future()
        future.engine = self
        self._gathering.add(future, kind, function, args, kwargs)
        if self._asleep:
            self._wake()
        elif len(self._gathering.added) >= ENOUGH:
            self._hand_over_if_free()
        return future

    def submit_all(self, kind: Kind, function: Function, calls: list[Any], column: bool = False) -> Bulk:
        """Add one run of calls without futures; its results, in order.

        A call is a tuple of arguments; in a `column`, the only argument.
        """
        bulk = self._gathering.add_all(kind, function, calls, self.drive, column)
        if self._asleep:
            self._wake()
        return bulk

    @property
    def workers(self) -> int:
        """How many workers the job has."""
        return self._scheduler.workers

    def given(self, future: Future) -> None:
        """A future that was made by hand is done."""
        self._gathering.give(future)
        self._server.wake()

    def wait_for(self, future: Future, timeout: float | None = None) -> None:
        """Drive until a future is done, or so many seconds have passed."""
        self.drive(future.done, timeout)

    def request(self, futures: Iterable[Future]) -> None:
        """Ask for the results that lie with workers, all at once: they will be fetched."""
        self._requested.extend(stored.reference for future in futures if (stored := future.elsewhere) is not None)

    def fetch(self, future: Future) -> None:
        """Get a result that lies with a worker."""
        with self._fetching:
            if (stored := future.elsewhere) is not None:
                self._requested.append(stored.reference)
                self.drive(lambda: self._sending.data.arrived(stored.reference))
                future.bring(self._sending.data.take(stored.reference).value())

    def drive(self, enough: Callable[[], bool], timeout: float | None = None) -> None:
        """Drive until `enough()`, or for so many seconds. Raises Deadlock if that can never be."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._drivers += 1
        try:
            while not enough():
                if self.stop.reason is not None:
                    raise KeyboardInterrupt(self.stop.reason)
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0:
                    return
                if not self._take_over(enough, left):
                    continue
                try:
                    # Again: it may have come about between the last look and this turn, by another thread's doing.
                    came = enough() or self._advance(left)
                finally:
                    self._led = False
                    self._driving.release()
                self._tell()
                self._tell_followers()
                if not came and time.monotonic() - self._latest > PATIENCE and not enough():
                    self._check_for_deadlock()
        finally:
            self._drivers -= 1
            self._tell_followers()

    def _take_over(self, enough: Callable[[], bool], seconds: float) -> bool:
        """Become the thread that drives. False if another that waits does, and now something has come, or time passed:
        to queue up behind it for the server would be to wait until something comes that only it waits for."""
        if not self._driving.acquire(blocking=False):
            if self._led:
                if self._gathering:  # the other may be asleep
                    self._server.wake()
                with self._followers:
                    self._following += 1
                    if self._led and not enough():
                        self._followers.wait(seconds)
                    self._following -= 1
                return False
            self._server.wake()  # the thread that drives alone may be asleep
            if not self._driving.acquire(timeout=NAP):  # or another that waits was faster
                return False
        self._led = True
        return True

    def _tell_followers(self) -> None:
        if self._following:
            with self._followers:
                self._followers.notify_all()

    def wait_for_all(self) -> None:
        """Wait for all that was submitted."""
        # In this order, for that is how calls move on.
        self.drive(lambda: not (self._gathering or self._gathering.futures) and self._scheduler.quiet)

    def close(self) -> None:
        """No more tasks: let the workers end. Tasks that still run are given up if the job shall end early."""
        with self._driving:
            self._ended = True
            self.submit = self.submit_all = _refuse  # type: ignore[method-assign]
            self._server.take([SubmissionClosed()])
            self._server.progress(0.0)  # sees at once whether the job shall end early
            while not self._scheduler.over:
                self._server.progress(TICK)

    def _end_early(self, reason: str) -> None:
        self.stop.reason = reason

    # -- driving -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Wake the thread that drives alone: once, as a program may submit a thousand tasks before it is awake."""
        self._asleep = False
        self._server.wake()

    def _hand_over_if_free(self) -> None:
        if self._driving.acquire(blocking=False):
            try:
                self._advance(0.0)
            finally:
                self._driving.release()
            self._tell()

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
            self._sending.know(run.function)
            task = Task(run.first, run.variant, run.calls, len(run.calls), after, owner=run.owner)
            events.append(TaskSubmitted(task))
        for id in given:
            future = self._gathering.futures.pop(id)
            error = None if future.good() else failure_of(future)
            events.append(ValueGiven(id, error))
        return events

    def _advance(self, timeout: float, hand_over: bool = True) -> bool:
        if hand_over and self._gathering:
            self._latest = self._handed_over_at = time.monotonic()
            runs, given, _ = self._gathering.take()
            self._server.take(self._handed_over(runs, given))
        while self._requested:
            self._sending.data.request(self._requested.popleft())
        self._sending.data.tell_released()
        came = self._server.progress(timeout if not self.settling.untold else 0.0)
        if came:
            self._latest = time.monotonic()
        return came

    def _tell(self) -> None:
        """Tell who waits. Nobody drives meanwhile: a callback may do anything, even wait for another future."""
        settling = self.settling
        if not settling.untold:
            return
        while settling.untold:
            untold, settling.untold = settling.untold, []
            for future in untold:
                future.tell()
        if self._driving.locked():  # who drives now may wait for what the callbacks did
            self._server.wake()

    def _drive_alone(self) -> None:
        """What the thread does that drives while the program computes."""
        nap = NAP
        while not self._ended:
            if self._drivers:
                time.sleep(nap)
                nap = min(2 * nap, QUIET)
                continue
            nap = NAP
            with self._driving:
                quiet = time.monotonic() - self._latest > QUIET
                if not self._ended and not self._drivers:
                    late = time.monotonic() - self._handed_over_at > GATHER
                    self._asleep = quiet  # and then look for calls: who adds one looks for a sleeper afterwards
                    seconds = 0.2 if quiet and not self._gathering else 0.0
                    self._advance(seconds, hand_over=late or not self._scheduler.waiting)
                    self._asleep = False
            self._tell()
            if not quiet:
                time.sleep(NAP)

    def _check_for_deadlock(self) -> None:
        """Called when nothing came for PATIENCE, so that no message is on its way: can what is waited for ever come?"""
        only_program = threading.current_thread() is threading.main_thread() and threading.active_count() == 2
        stuck = self._scheduler.stuck
        if not only_program or self._gathering or self._sending.data.waiting or not (stuck or self._scheduler.quiet):
            return
        unset = {future.id for future in self._gathering.futures.values() if future.by_hand}
        lines = [f"{task.kind.name} waits for {_waited_for(task, stuck, unset)}" for task in stuck[:10]]
        count = sum(task.count for task in stuck)
        raise Deadlock(f"{count} tasks can never run, {len(unset)} futures were never set", *lines)

    # -- what the server tells its client ----------------------------------------------------------------------

    def heard(self, message: object) -> list[Event]:
        """See Client: a task on a worker submitted others."""
        if self._sending.data.handle(message):
            return []
        if type(message) is FailureSeen:
            self.settling.seen_in_task(*message)
            return []
        assert isinstance(message, CallSubmitted), f"no task can send {message!r}"
        runs, given, id = self._gathering.take(reserve=1)  # what was submitted before has lower ids
        events = self._handed_over(runs, given)
        self._sending.know(message.function)
        relay = Relay(self._server, self.settling, message.worker, message.id)
        task = Task(id, message.kind, [message.call], owner=relay)
        return [*events, TaskSubmitted(task)]

    def started(self, command: StartTask) -> None:
        """See Client."""

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        return self._sending.payload(command)

    def resolved(self, report: ReportOutcome) -> None:
        """See Client."""
        if self.trace is not None:
            self.trace.resolved(report, self._scheduler.waiting)
        self._sending.ended(report)
        self.settling.resolved(report)

    def commit(self) -> None:
        """See Client."""
        self.settling.commit()

    def draining(self, reason: str) -> None:
        """See Client."""

    def seconds_needed(self) -> float:
        """See Client."""
        return 0.0

    def tick(self) -> None:
        """See Client."""


def _refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the script has ended: no tasks can be submitted any more")


def _waited_for(task: Task, stuck: list[Task], unset: set[int]) -> str:
    """What a task waits for that can never run, for people."""
    names = [other.kind.name for other in stuck if any(other.id <= id < other.id + other.count for id in task.after)]
    if not unset.isdisjoint(task.after):
        names.append("a future that was never set")
    return ", ".join(names[:3]) or "what it submitted"
