"""The worker's loop: take a task, run it, say how it ended; stay answerable meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from swiftpy.core.events import (
    DrainRequested,
    InterruptTask,
    KillTask,
    RecallAnswered,
    RecallTasks,
    StopWorker,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskResumed,
    TaskReturned,
    TaskSuspended,
    WorkerReady,
)
from swiftpy.runtime.call import Killed, Run, learn
from swiftpy.runtime.executors import InlineExecutor, IsolatedExecutor, Outcome
from swiftpy.runtime.order import Order
from swiftpy.runtime.store import Exchange, LostError, Packed, Reference, fetch_with, released
from swiftpy.runtime.transport import SERVER, Transport

#: Seconds between two looks at this rank's signals while nothing else happens.
TICK = 0.2
#: A task that has kept its rank for so many seconds is not waited for: a thread answers in the rank's place.
BUSY = 20e-3
#: While there are tasks at hand, seconds between two exchanges with the server: to send outcomes one by one would take
#: longer than short tasks do.
GATHER = 0.5e-3


class Assembled(NamedTuple):
    """The sender has what it needs for this parallel task, of which the receiver is a worker, too."""

    task_id: int


class Worker:
    """One worker rank of the server `server`. `stop_reason()` says why it was asked to end early (a signal), if it was.

    Tasks that run in the rank itself keep it from its messages. While one does so for long, a thread stands by: it
    takes messages in and gives calls back that were not begun (see RecallTasks). The rank and the thread take turns
    (`_turn`) with the transport; what the thread does not handle waits in `_inbox`.

    A task may wait for tasks that it submitted (`wait_until`). Its thread sleeps then, and another takes up the loop,
    so that the rank can run what it waits for; when that is done, the loop ends and the task goes on. Of all these
    threads one is awake at a time.
    """

    def __init__(
        self,
        transport: Transport,
        inline: InlineExecutor,
        isolated: IsolatedExecutor,
        stop_reason: Callable[[], str | None],
        server: int = SERVER,
    ) -> None:
        self._transport = transport
        self._inline = inline
        self._isolated = isolated
        self._stop_reason = stop_reason
        self._server = server
        self._asked_to_drain = False
        self._beside: Order | None = None  # runs in the isolated process
        self._here: tuple[Order, Run] | None = None  # runs in this one
        self._waiting: list[tuple[Callable[[], bool], threading.Event]] = []
        self._killed: set[tuple[int, int]] = set()  # attempts that shall wait no more
        self._inbox: deque[Any] = deque()
        self._outbox: list[Any] = []  # for the server
        self._exchanged = 0.0  # when we last did so with the server
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._assembled: Counter[int] = Counter()  # task -> ranks of its gang that are known to be there
        self.data = Exchange(transport.rank, transport.send)
        fetch_with(self.fetch)
        #: What handles messages that are not the engine's.
        self.guest: Callable[[Any], None] | None = None

    def run(self) -> None:
        """Work until the server says stop."""
        self.send(WorkerReady(self._transport.rank))
        threading.Thread(target=self._stand_by, daemon=True, name="swiftpy").start()
        self._loop()
        self._isolated.close()

    @property
    def rank(self) -> int:
        """This worker's rank."""
        return self._transport.rank

    @property
    def depth(self) -> int:
        """How deep the running task is below the program's own, see `Kind.depth`."""
        return self._here[0].depth if self._here is not None else 0

    def send(self, message: Any) -> None:
        """Send to the server, after all that it was to be told before."""
        with self._turn:
            self._outbox.append(message)
            self._flush()

    def wait_until(self, enough: Callable[[], bool]) -> None:
        """Called by a running task: let this rank do other things until `enough()`. Raises Killed."""
        if self._here is None:
            raise RuntimeError("of a task's threads, one can wait for futures at a time")
        here, went_on = self._here, threading.Event()
        order, _ = here
        attempt = order.task_id, order.attempt
        with self._turn:
            self._give_back(here)  # what it waits for goes first
            self._outbox.append(TaskSuspended(self.rank, *attempt))
            self._flush()
        self._here = None
        self._waiting.append((lambda: attempt in self._killed or enough(), went_on))
        threading.Thread(target=self._loop, daemon=True, name="swiftpy").start()
        went_on.wait()
        if self._stopped.is_set():
            raise SystemExit("the job ends")
        self._here = here
        self.send(TaskResumed(self.rank, *attempt))
        if attempt in self._killed:
            raise Killed("the job ends")

    def request(self, reference: Reference) -> None:
        """Ask for what another rank holds, to fetch it later."""
        with self._turn:
            self.data.request(reference)

    def fetch(self, reference: Reference) -> Packed:
        """Called by a running task: get what another rank holds. Raises LostError."""
        self.request(reference)
        self._attend_until(lambda: self.data.arrived(reference))
        return self.data.take(reference)

    # -- the loop ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Handle messages until the server says stop, or a task that waited can go on in its own thread."""
        while not self._stopped.is_set():
            for waiting in reversed(self._waiting):
                if waiting[0]():
                    self._waiting.remove(waiting)
                    waiting[1].set()
                    return
            message = self._receive()
            if message is not None:
                self._handle(message)
            if self._beside is not None:
                self._look_beside(self._beside)
            if released:
                with self._turn:
                    self.data.tell_released()
            self._pass_on_signals()

    def _receive(self) -> Any | None:
        descriptors = self._isolated.descriptors if self._beside is not None else ()
        with self._turn:
            if not self._inbox or time.perf_counter() - self._exchanged > GATHER:
                self._flush()
                message = self._transport.recv(0.0 if self._inbox else TICK, descriptors)
                self._exchanged = time.perf_counter()
                if message is not None:
                    self._take_in(message)
            return self._inbox.popleft() if self._inbox else None

    def _take_in(self, message: Any, here: tuple[Order, Run] | None = None) -> None:
        """Sort a message, or the list of those that came together; `here` runs meanwhile."""
        for each in message if type(message) is list else (message,):
            if type(each) is Order:
                self._inbox.append(each)
            elif type(each) is RecallTasks:
                self._give_back(here)
                self._outbox.append(RecallAnswered(self.rank))
                self._flush()
            elif not self._handle_data(each):
                self._inbox.append(each)

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._transport.send(self._server, outbox if len(outbox) > 1 else outbox[0])

    def _handle(self, message: Any) -> None:
        if type(message) is Order:
            if message.label:
                self._note(message, "started")
            if message.isolated:
                self._beside = message
                self._isolated.start(message)
            else:
                self._run_here(message)
        elif isinstance(message, StopWorker):
            self._stopped.set()
            for _, went_on in self._waiting:
                went_on.set()
        elif isinstance(message, InterruptTask | KillTask):
            self._end(message)
        else:
            assert self.guest is not None, f"a worker cannot be sent {message}"
            self.guest(message)

    def _handle_data(self, message: Any) -> bool:
        if type(message) is Assembled:
            self._assembled[message.task_id] += 1
            return True
        return self.data.handle(message)

    def _run_here(self, order: Order) -> None:
        run = Run(order.function, order.payload, order.chained)
        self._here = (order, run)
        if order.gang:
            run.bring()
            self._assemble(order)
        outcome = self._inline.make(run, order.timeout, order.gang)
        self._here = None
        self._report(order, outcome)

    def _assemble(self, order: Order) -> None:
        """Wait for the other workers of a parallel task.

        Making their communicator blocks: if one did so while another still fetches an argument from it, none would
        go on.
        """
        others = [rank for rank in order.gang if rank != self.rank]
        with self._turn:
            self._flush()  # nobody stands by during a parallel task
            for rank in others:
                self._transport.send(rank, Assembled(order.task_id))
        self._attend_until(lambda: self._assembled[order.task_id] == len(others))
        del self._assembled[order.task_id]

    def _look_beside(self, order: Order) -> None:
        if (wanted := self._isolated.wants) is not None:
            self.request(wanted)
            if self.data.arrived(wanted):
                try:
                    self._isolated.give(self.data.take(wanted))
                except LostError as lost:
                    self._isolated.give(lost)
        outcome = self._isolated.poll()
        if outcome is not None:
            self._beside = None
            self._report(order, outcome)

    def _end(self, message: InterruptTask | KillTask) -> None:
        """Interrupt or kill an attempt. It may have ended while the message was on its way, or not begun."""
        attempt = (message.task_id, message.attempt)
        beside = self._beside
        if beside is not None and (beside.task_id, beside.attempt) == attempt:
            if isinstance(message, KillTask):
                self._isolated.kill()
            else:
                self._isolated.interrupt()
        elif isinstance(message, KillTask):
            self._killed.add(attempt)
            with self._turn:
                for order in [o for o in self._inbox if type(o) is Order and (o.task_id, o.attempt) == attempt]:
                    self._inbox.remove(order)
                    self._outbox.append(TaskKilled(self.rank, *attempt, 0.0))

    def _report(self, order: Order, outcome: Outcome) -> None:
        if order.label:
            ending = outcome.error.summary() if outcome.error else "finished" if outcome.answer else "killed"
            self._note(order, f"{ending} after {outcome.seconds:.1f} s")
            if outcome.error and outcome.error.traceback:
                print(outcome.error.traceback.rstrip())
        attempt = (self.rank, order.task_id, order.attempt)
        message: TaskFailed | TaskFinished | TaskKilled
        if outcome.error is not None:
            message = TaskFailed(*attempt, outcome.error, outcome.seconds)
        elif outcome.answer is not None:
            value, made, failures, held = outcome.answer
            if not order.gang or order.gang[0] == self.rank:  # the others' results count for nothing
                self.data.held.update(held)
            message = TaskFinished(*attempt, value, outcome.seconds, made, failures)
        else:
            message = TaskKilled(*attempt, outcome.seconds)
        with self._turn:
            self._outbox.append(message)
            if not self._inbox:
                self._flush()

    def _note(self, order: Order, what: str) -> None:
        """A line in this rank's output, so that a reader finds where each attempt begins and ends."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{now} swiftpy INFO {order.label} attempt {order.attempt}: {what}")

    def _pass_on_signals(self) -> None:
        reason = self._stop_reason()
        if reason is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self.send(DrainRequested(reason))

    # -- the thread that stands by -----------------------------------------------------------------------------

    def _stand_by(self) -> None:
        """Answer in the rank's place whenever one task has kept it since the last look.

        Not during a parallel task, which itself calls MPI: no two threads may do so at once.
        """
        last = None
        while not self._stopped.wait(BUSY):
            here = self._here
            if here is not None and here is last and not here[0].gang:
                with self._turn:
                    self._attend(here)
            last = here

    def _attend_until(self, enough: Callable[[], bool]) -> None:
        """Do so in the rank's own thread, in the middle of a task, until something has come that it needs."""
        while not enough():
            with self._turn:
                self._attend(None, TICK)

    def _attend(self, here: tuple[Order, Run] | None, seconds: float = 0.0) -> None:
        self._flush()
        while (message := self._transport.recv(seconds)) is not None:
            seconds = 0.0
            self._take_in(message, here)

    def _give_back(self, here: tuple[Order, Run] | None) -> None:
        """Give back what was not begun; of what runs here, the calls after this one, if they do not need it."""
        kept = here[1].give_up() if here is not None and self._here is here and not here[0].chained else None
        if here is not None and kept is not None:
            self._outbox.append(TaskReturned(self.rank, here[0].task_id, here[0].attempt, kept))
        orders = [order for order in self._inbox if type(order) is Order and not order.gang]
        if self._here is None:  # the first begins now: if only we may run it, it would come back with the next recall
            del orders[:1]
        for order in orders:
            self._inbox.remove(order)
            learn(order.function, order.payload)
            self._outbox.append(TaskReturned(self.rank, order.task_id, order.attempt, 0))
