"""The worker's loop: take a task, run it, say how it ended; stay answerable meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from swiftpy.core.events import (
    DrainRequested,
    InterruptTask,
    KillTask,
    StopWorker,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskResumed,
    TaskSuspended,
    WorkerReady,
)
from swiftpy.errors import ENGINE_THREAD
from swiftpy.runtime.call import Run, forget
from swiftpy.runtime.exceptions import Killed
from swiftpy.runtime.executors import InlineExecutor, IsolatedExecutor, Outcome
from swiftpy.runtime.mailbox import Mailbox, Running
from swiftpy.runtime.order import FunctionForgotten, Order
from swiftpy.runtime.output import flush
from swiftpy.runtime.store import LostError, Packed, Reference, fetch_with, released
from swiftpy.runtime.transport import SERVER, TICK, Transport, share_interpreter

#: A task that has kept its rank for so many seconds is not waited for: a thread answers in the rank's place.
BUSY = 20e-3
#: Seconds for which a worker tries to start its child. A node may lack memory or processes for a moment; and where that
#: stays so, its workers must not be the first to be free for each of the tasks, and fail them all within a minute.
CHILDLESS = 60.0
#: Seconds after which a task that waits for a value lets its rank do other things. What comes then may take longer.
STUCK = 10.0
#: Messages that the loop handles itself.
_OURS = (Order, StopWorker, InterruptTask, KillTask, FunctionForgotten)


class Assembled(NamedTuple):
    """The sender has what it needs for this parallel task, of which the receiver is a worker, too."""

    task_id: int


class Worker:
    """One worker rank of the server `server`. `stop_reason()` says why it was asked to end early (a signal), if it was.

    Tasks that run in the rank itself keep it from its messages. While one does so for long, a thread stands by, which
    attends to the mailbox: it takes messages in and gives calls back that were not begun (see RecallTasks).

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
        self.rank = transport.rank
        self._inline = inline
        self._isolated = isolated
        self._stop_reason = stop_reason
        self._mail = Mailbox(transport, server, self._count_assembled)
        self._asked_to_drain = False
        self._beside: Order | None = None  # runs in the isolated process
        self._waiting: list[tuple[Callable[[], bool], threading.Event]] = []
        self._killed: set[tuple[int, int]] = set()  # attempts that shall wait no more
        self._stopped = threading.Event()
        self._assembled: Counter[int] = Counter()  # task -> ranks of its gang that are known to be there
        #: What this rank holds for others, and gets from them.
        self.data = self._mail.data
        fetch_with(self.fetch)
        #: What takes and handles messages that are not the engine's. While a task computes, the thread that stands by
        #: calls it, and may still be at it when the rank does.
        self.guest: Callable[[Iterable[Any]], None] | None = None
        self._bystander = 0  # that thread
        self._runner = 0  # the thread that runs a task in the rank itself

    def run(self) -> None:
        """Work until the server says stop."""
        self.send(WorkerReady(self.rank))
        share_interpreter()
        threading.Thread(target=self._stand_by, daemon=True, name=ENGINE_THREAD).start()
        self._loop()
        # This thread's loop ends, too, when it lets a task go on in another thread, which then takes up the loop: to
        # leave now would be to call MPI from two threads at once, and to end what runs beside.
        self._stopped.wait()
        self._isolated.close()

    @property
    def depth(self) -> int:
        """How deep the running task is below the program's own, see `Kind.depth`."""
        return self._mail.running[0].depth if self._mail.running is not None else 0

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is the one that runs a task, and keeps the rank from all others."""
        return self._mail.running is not None and threading.get_ident() == self._runner

    def send(self, message: Any) -> None:
        """Send to the server, after all that it was to be told before."""
        self._mail.tell(message)

    def wait_until(self, enough: Callable[[], bool], timed: bool = False) -> None:
        """Called by a running task: let this rank do other things until `enough()`. Raises Killed.

        `timed`: that will be at some time, whatever others do.
        """
        running, runner, went_on = self._mail.running, self._runner, threading.Event()
        if threading.get_ident() == self._bystander:
            raise RuntimeError("a callback that runs while its task computes cannot wait for futures")
        if running is None:
            raise RuntimeError("only one thread of a running task can wait for futures at a time")
        order, _ = running
        if not self._leads(order):
            # A rank that is back in MPI sees no orders, nor requests for what it holds: if others of the task still
            # waited for tasks then, they might wait for just those.
            raise RuntimeError("of a parallel task, only rank 0 of its communicator can wait for tasks")
        attempt = order.task_id, order.attempt
        self._mail.let_go(TaskSuspended(self.rank, *attempt, timed))  # what it waits for goes first
        self._mail.running = None
        self._waiting.append((lambda: attempt in self._killed or enough(), went_on))
        began = time.perf_counter()
        threading.Thread(target=self._loop, daemon=True, name=ENGINE_THREAD).start()
        went_on.wait()
        running[1].waited += time.perf_counter() - began
        if self._stopped.is_set():
            raise SystemExit("the job ends")
        self._mail.running, self._runner = running, runner
        self.send(TaskResumed(self.rank, *attempt))
        if attempt in self._killed:
            raise Killed("the job ends")

    def _leads(self, order: Order) -> bool:
        """Whether this rank is the first of those that run it."""
        return not order.gang or order.gang[0] == self.rank

    def look_again(self) -> None:
        """What a task waits for may have come about without messages; any thread may say so."""
        self._mail.look_again()

    def request(self, reference: Reference) -> None:
        """Ask for what another rank holds, to fetch it later."""
        self._mail.request(reference)

    def fetch(self, reference: Reference) -> Packed:
        """Called by a running task: get what another rank holds. Raises LostError.

        The rank that holds it may be inside of MPI, with a parallel task that waits for another of its ranks, which
        waits for a task that is to run here, or has waited here before this one came: so it does not wait for long.
        """
        self.request(reference)
        deadline = time.monotonic() + (TICK if self._waiting else STUCK)
        can_wait = self._mail.running is not None and self._leads(self._mail.running[0])
        self._attend_until(lambda: self.data.arrived(reference) or (can_wait and time.monotonic() > deadline))
        if not self.data.arrived(reference):
            self.wait_until(lambda: self.data.arrived(reference), timed=True)
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
            message = self._mail.next(self._isolated.descriptors if self._beside is not None else ())
            if message is not None:
                self._handle(message)
                if self._stopped.is_set():
                    return  # MPI is the main thread's from now on
            if self._beside is not None:
                self._look_beside(self._beside)
            if released:
                self._mail.tell_released()
            self._pass_on_signals()

    def _handle(self, message: Any) -> None:
        if type(message) is Order:
            if message.label:
                self._note(message, "started")
            if message.isolated:
                self._beside = message
                self._isolated.start(message, CHILDLESS)
            else:
                self._run_here(message)
        elif isinstance(message, StopWorker):
            self._stopped.set()
            for _, went_on in self._waiting:
                went_on.set()
        elif isinstance(message, InterruptTask | KillTask):
            self._end(message)
        elif isinstance(message, FunctionForgotten):
            forget(message.function)
        else:
            assert self.guest is not None, f"a worker cannot be sent {message}"
            self.guest((message,))

    def _count_assembled(self, message: Any) -> bool:
        if type(message) is not Assembled:
            return False
        self._assembled[message.task_id] += 1
        return True

    def _run_here(self, order: Order) -> None:
        run = Run(order.function, order.payload, order.chained)
        self._mail.running, self._runner = (order, run), threading.get_ident()
        if order.gang:
            run.bring()
            self._assemble(order)
        outcome = self._inline.make(run, order.timeout, order.gang)
        self._mail.running = None
        flush()
        self._report(order, outcome, run.waited)

    def _assemble(self, order: Order) -> None:
        """Wait for the other workers of a parallel task.

        Making their communicator blocks: if one did so while another still fetches an argument from it, none would
        go on.
        """
        others = [rank for rank in order.gang if rank != self.rank]
        self._mail.tell()  # nobody stands by during a parallel task
        for rank in others:
            self._mail.send(rank, Assembled(order.task_id))
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
            if self._isolated.wants is not None:  # it was killed before that came
                self.data.forget(self._isolated.wants)
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
            self._mail.withdraw(attempt)

    def _report(self, order: Order, outcome: Outcome, waited: float = 0.0) -> None:
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
            if self._leads(order):  # the others' results count for nothing
                self.data.held.update(held)
            message = TaskFinished(*attempt, value, outcome.seconds, made, failures, waited=waited)
        else:
            message = TaskKilled(*attempt, outcome.seconds)
        self._mail.tell_soon(message)

    def _note(self, order: Order, what: str) -> None:
        """A line in this rank's output, so that a reader finds where each attempt begins and ends."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{now} swiftpy INFO {order.label} attempt {order.attempt}: {what}")

    def _pass_on_signals(self) -> None:
        reason = self._stop_reason()
        if reason is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self.send(DrainRequested(reason))

    # -- in the middle of a task -------------------------------------------------------------------------------

    def _stand_by(self) -> None:
        """Answer in the rank's place whenever one task has kept it since the last look.

        Not during a parallel task, which itself calls MPI: no two threads may do so at once.
        """
        self._bystander, last = threading.get_ident(), None
        while not self._stopped.wait(BUSY):
            running = self._mail.running
            if running is not None and running is last and not running[0].gang:
                self._mail.attend(running=running)
                if self.guest is not None:
                    self.guest(self._picked(running))
            last = running

    def _picked(self, running: Running) -> Iterator[Any]:
        """For the guest: the task may look whether what it submitted is done, and other calls may need that."""
        while (message := self._mail.pick(lambda message: not isinstance(message, _OURS), running)) is not None:
            yield message
            self._mail.look_again()  # the task may wait for that meanwhile

    def _attend_until(self, enough: Callable[[], bool]) -> None:
        """Answer in the rank's own thread until something has come that the task needs."""
        while not enough():
            self._mail.attend(TICK)
