"""The program's side of the engine, on rank 0: calls in, futures out.

Whoever waits for a future drives the server (`_advance`); a thread does so while nobody waits. Calls are gathered in
runs (`gathering`), as many as follow each other with the same function and options, and handed to the scheduler when
somebody drives: the cost of a task in the scheduler is that of its run, shared.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from swiftpy.core.events import SubmissionClosed, ValueGiven
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind
from swiftpy.errors import ENGINE_THREAD, Deadlock, TaskError
from swiftpy.flow import deadlock
from swiftpy.flow.bulk import Bulk
from swiftpy.flow.client import ProgramClient
from swiftpy.flow.fetching import Fetching, HeldBack
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future
from swiftpy.flow.gathering import ENOUGH
from swiftpy.flow.turns import Turns
from swiftpy.runtime.server import Server
from swiftpy.runtime.transport import TICK, share_interpreter

T = TypeVar("T")

#: Seconds between the looks of the thread that drives while nobody waits.
NAP = 1e-3
#: Seconds that it lets calls gather while others wait for workers: chains that grow side by side would be cut short.
GATHER = 20e-3
#: Seconds without any event after which that thread sleeps until it is woken, or for so many.
QUIET, SLEEP = 0.05, 0.2
#: Seconds without any event after which it is asked whether one can ever come.
SILENCE = 1.0


class Engine(ProgramClient):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = Turns(self.wake)
        self._fetching = Fetching()
        self.held_back = HeldBack(self._fetching)
        self._rouse: Callable[[], None] | None = None  # what wakes the thread that drives alone, if it sleeps
        self._called = threading.Event()
        self._latest = self._handed_over_at = time.monotonic()
        self._ended = False
        self._telling: list[int] = []  # the threads that call callbacks
        self._advancing = 0  # the thread in `_advance`
        self.told_to_stop = False  # the program was

    def attach(self, server: Server, scheduler: Scheduler) -> None:
        """See ProgramClient."""
        super().attach(server, scheduler)
        share_interpreter()
        threading.Thread(target=self._drive_alone, daemon=True, name=ENGINE_THREAD).start()

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
        self._must_go_on()
        if future is None:
            future = Future()
        future.engine = self
        if self.held_back.futures and (held_back := self.held_back.among(args, kwargs)):
            again = functools.partial(self.submit, kind, function, args, kwargs, future)
            self.held_back.add(future, held_back, again, fetch=False)
            return future
        self._gathering.add(future, kind, function, args, kwargs)
        if self._rouse is not None:
            self._wake()
        elif len(self._gathering.added) >= ENOUGH:
            self._hand_over_if_free()
        return future

    def submit_all(self, kind: Kind, function: Function, calls: list[Any], column: bool = False) -> Bulk:
        """Add one run of calls without futures; its results, in order.

        A call is a tuple of arguments; in a `column`, the only argument.
        """
        self._must_go_on()
        bulk = Bulk(len(calls), self.drive, column, self.failures)
        self._gathering.add_all(kind, function, calls, bulk)
        if self._rouse is not None:
            self._wake()
        return bulk

    def _must_go_on(self) -> None:
        if self._ended:
            raise RuntimeError("cannot schedule new futures: the script has ended")

    @property
    def finished(self) -> bool:
        """Whether all calls that were handed over have ended, and no task has left any behind."""
        return self._scheduler.quiet and self._leftovers.none()

    @property
    def workers(self) -> int:
        """How many workers the job has."""
        return self._scheduler.workers

    def given(self, future: Future) -> None:
        """A future that was made by hand is done."""
        self._gathering.give(future)
        self.wake()

    def wake(self) -> None:
        """Somebody may wait for what has just come about without us."""
        self._server.transport.wake()

    def wait_for(self, future: Future, timeout: float | None = None) -> None:
        """Drive until a future is done, or so many seconds have passed."""
        self.drive(future.done, timeout)

    def request(self, futures: Iterable[Future]) -> None:
        """Ask for the results that lie with workers, all at once: they will be fetched."""
        self._fetching.request(futures)

    def fetch(self, future: Future) -> None:
        """Get a result that lies with a worker."""
        self._fetching.request([future])
        self.wake()  # who leads may be asleep
        self.drive(lambda: future.elsewhere is None)

    def drive(self, enough: Callable[[], bool], timeout: float | None = None) -> None:
        """Drive until `enough()`, or for so many seconds. Raises Deadlock if neither can ever be."""
        if self._advancing == threading.get_ident():  # it would wait for itself
            raise RuntimeError("nothing can wait for a future while it is pickled or freed: pass the future itself on")
        deadline = None if timeout is None else time.monotonic() + timeout
        turns = self._turns
        turns.waiting += 1
        try:
            while not enough():
                if self.stop.reason is not None:
                    self.told_to_stop = True
                    raise KeyboardInterrupt(self.stop.reason)
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0:
                    return
                led = turns.lead(enough, left, bool(self._gathering))
                try:
                    if self._ended:  # this is a thread that the script left behind, and MPI is the main thread's
                        raise SystemExit("the script has ended")
                    if not led:
                        continue
                    # Again: it may have come about between the last look and this turn, by another thread's doing.
                    came = enough() or self._advance(left, enough=enough)
                finally:
                    if led:
                        turns.end()
                self._tell()
                turns.tell_followers()
                if deadline is None and not came and time.monotonic() - self._latest > SILENCE and not enough():
                    self._check_for_deadlock()
        finally:
            turns.waiting -= 1
            turns.tell_followers()

    def wait_for_all(self) -> None:
        """Wait for all that was submitted. Raises Deadlock."""
        futures = self._gathering.futures
        try:
            self._drive_to_the_end()
        except Deadlock:
            if not all(future.done() or future.by_hand for future in [*futures.values(), *self.held_back.futures]):
                raise
            self._give_up_unset()
            self._drive_to_the_end()
        if count := sum(self._leftovers.stranded.values()):
            raise Deadlock(f"{count} calls of tasks can never be made: futures that they need were never set")

    def _drive_to_the_end(self) -> None:
        """Wait until nothing is left, nor a callback that may submit more."""

        def over() -> bool:  # in this order, for that is how calls move on
            calling = self.settling.untold or self._fetching.due or self._others_tell
            return (
                not (calling or self._gathering or self.held_back.futures or self._gathering.futures) and self.finished
            )

        while True:
            self.drive(over)
            # Without the lock, a call may just become a future whose callbacks are due, and have been in neither.
            with self._turns.lock:
                if over():
                    return

    def _give_up_unset(self) -> None:
        """Only calls that were cancelled wait for the futures that nobody has set: nobody waits for them.

        After `run` the program may go on, set them, and use them: then they are met for the first time.
        """
        self.held_back.futures.clear()
        unset = [id for id, future in self._gathering.futures.items() if future.by_hand]
        error = TaskError("cancelled", "it was never set")
        with self._turns.lock:
            for id in unset:
                self._gathering.futures.pop(id).engine = None
            self._server.take([ValueGiven(id, error) for id in unset])

    def close(self) -> None:
        """No more tasks: let the workers end. Tasks that still run are given up if the job shall end early."""
        self._ended = True
        self.wake()  # a thread that the script left behind may drive
        with self._turns.lock:
            self._server.take([SubmissionClosed()])
            self._server.progress(0.0)  # sees at once whether the job shall end early
            while not self._scheduler.over:
                self._server.progress(TICK)

    # -- driving -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Wake the thread that drives alone: once, as a program may submit a thousand tasks before it is awake."""
        rouse, self._rouse = self._rouse, None
        if rouse is not None:
            rouse()

    def _hand_over_if_free(self) -> None:
        """Callbacks are called by who drives next: who submits may have a lock that they take, as an executor does."""
        if self._turns.lock.acquire(blocking=False):
            try:
                self._advance(0.0)
            finally:
                self._turns.lock.release()

    def _advance(self, timeout: float, hand_over: bool = True, enough: Callable[[], bool] = lambda: False) -> bool:
        """Hand over what was gathered, take in what has come, or wait so long for it; whether anything came."""
        self._advancing = threading.get_ident()
        try:
            if hand_over and self._gathering:
                self._latest = self._handed_over_at = time.monotonic()
                runs, given, _ = self._gathering.take()
                self._server.take(self._handed_over(runs, given))
            if self._fetching and self._fetching.advance(self._data):
                timeout = 0.0
            self._data.tell_released()
            self._leftovers.ask(self._server.transport.send)
            if self.settling.untold or enough():  # what was handed over may have failed at once
                timeout = 0.0
            came = self._server.progress(timeout)
            if came:
                self._latest = time.monotonic()
            return came
        finally:
            self._advancing = 0

    def _tell(self) -> None:
        """Call the callbacks. Nobody drives meanwhile: one may do anything, even wait for another future."""
        untold, due = self.settling.untold, self._fetching.due
        if not (untold or due):
            return
        self._telling.append(threading.get_ident())  # first: see `_drive_to_the_end`
        try:
            while untold or due:
                for future in _taken(untold):
                    future.tell()
                for call in _taken(due):
                    call()
        finally:
            self._telling.remove(threading.get_ident())
        if self._turns.lock.locked():  # who drives now may wait for what the callbacks did
            self.wake()

    @property
    def _others_tell(self) -> bool:
        """Whether another thread calls callbacks at this moment."""
        return bool(set(self._telling) - {threading.get_ident()})

    def _drive_alone(self) -> None:
        """What the thread does that drives while the program computes."""
        nap = NAP
        while not self._ended:
            if self._turns.waiting:
                time.sleep(nap)
                nap = min(2 * nap, QUIET)
                continue
            nap, idle = NAP, False
            with self._turns.lock:
                quiet = time.monotonic() - self._latest > QUIET
                if not self._ended and not self._turns.waiting:
                    late = time.monotonic() - self._handed_over_at > GATHER
                    dull = self._scheduler.quiet  # nothing can come
                    self._rouse = (self._called.set if dull else self.wake) if quiet else None
                    # Who adds a call looks for a sleeper afterwards.
                    sleepy = quiet and not (self._gathering or self._fetching)
                    idle = sleepy and dull
                    seconds = SLEEP if sleepy and not dull else 0.0
                    self._advance(seconds, hand_over=late or not self._scheduler.queued)
            self._tell()
            if idle:  # without the lock: who submits a call, and waits for it, need not wait for us to wake up, too
                self._called.wait(SLEEP)
            elif not quiet:
                time.sleep(NAP)
            self._rouse = None
            self._called.clear()

    def _check_for_deadlock(self) -> None:
        """Called when nothing came for SILENCE, so that no message is on its way: can what is waited for ever come?"""
        only_program = threading.current_thread() is threading.main_thread() and threading.active_count() == 2
        if only_program and not (self._others_tell or self._gathering or self._data.waiting):
            futures, silence = self._gathering.futures.values(), time.monotonic() - self._latest
            if found := deadlock.find(self._scheduler, futures, self.held_back.futures, silence):
                raise found


def _taken(due: deque[T]) -> Iterator[T]:
    """What is due, each for one of the threads that call this."""
    while True:
        try:
            yield due.popleft()
        except IndexError:
            return
