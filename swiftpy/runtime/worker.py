"""The worker's loop: take a task, run it, say how it ended; stay answerable meanwhile."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

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
    TaskReturned,
    WorkerReady,
)
from swiftpy.runtime.executors import Executor, InlineExecutor, IsolatedExecutor, Outcome
from swiftpy.runtime.order import Order
from swiftpy.runtime.transport import SERVER, Transport

#: Seconds between two looks at this rank's signals while nothing else happens.
TICK = 0.2
#: A task that has kept its rank for so many seconds is not waited for: a thread answers in the rank's place.
BUSY = 20e-3


class Worker:
    """One worker rank. `stop_reason()` says why this rank was asked to end early (a signal), if it was.

    Tasks that run in the rank itself keep it from its messages. While one does so for long, a thread stands by: it
    takes messages in and gives calls back that were not begun (see RecallTasks). The rank and the thread take turns
    (`_turn`) with the transport; what the thread does not handle waits in `_inbox`.
    """

    def __init__(
        self,
        transport: Transport,
        inline: InlineExecutor,
        isolated: IsolatedExecutor | None,
        stop_reason: Callable[[], str | None],
    ) -> None:
        self._transport = transport
        self._inline = inline
        self._isolated = isolated
        self._stop_reason = stop_reason
        self._asked_to_drain = False
        self._current: Order | None = None
        self._executor: Executor = inline
        self._inbox: deque[Any] = deque()
        self._turn = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Work until the server says stop."""
        self._transport.send(SERVER, WorkerReady(self._transport.rank))
        threading.Thread(target=self._stand_by, daemon=True).start()
        while True:
            message = self._receive()
            if type(message) is Order:
                self._begin(message)
            elif isinstance(message, StopWorker):
                self._stopped.set()
                self._inline.close()
                if self._isolated is not None:
                    self._isolated.close()
                return
            elif message is not None:
                self._obey(message)
            self._report()
            self._pass_on_signals()

    def _receive(self) -> Any | None:
        descriptors = self._isolated.descriptors if self._current is not None and self._isolated is not None else ()
        with self._turn:
            return self._inbox.popleft() if self._inbox else self._transport.recv(TICK, descriptors)

    def _send(self, message: Any) -> None:
        with self._turn:
            self._transport.send(SERVER, message)

    def _begin(self, order: Order) -> None:
        self._current = order
        self._executor = self._inline
        if order.isolated:
            assert self._isolated is not None
            self._executor = self._isolated
        if order.label:
            self._note(order, "started")
        self._executor.start(order)

    def _obey(self, message: InterruptTask | KillTask | RecallTasks) -> None:
        if isinstance(message, RecallTasks):
            self._send(RecallAnswered(self._transport.rank))  # what came before it has been done
        elif not self._runs(message):
            self._drop(message)
        elif isinstance(message, InterruptTask):
            self._executor.interrupt()
        else:
            self._executor.kill()

    def _runs(self, message: InterruptTask | KillTask) -> bool:
        """Whether this is about the attempt that runs: it may have ended while the message was on its way."""
        current = self._current
        return current is not None and (current.task_id, current.attempt) == (message.task_id, message.attempt)

    def _drop(self, message: InterruptTask | KillTask) -> None:
        """Kill an order that waits here for its turn."""
        for order in self._inbox:
            if type(order) is Order and (order.task_id, order.attempt) == (message.task_id, message.attempt):
                if isinstance(message, KillTask):
                    self._inbox.remove(order)
                    self._send(TaskKilled(self._transport.rank, order.task_id, order.attempt, 0.0))
                return

    def _report(self) -> None:
        current = self._current
        outcome = self._executor.poll() if current is not None else None
        if current is None or outcome is None:
            return
        self._current = None
        if current.label:
            ending = outcome.error.summary() if outcome.error else "finished" if outcome.answer else "killed"
            self._note(current, f"{ending} after {outcome.seconds:.1f} s")
            if outcome.error and outcome.error.traceback:
                print(outcome.error.traceback.rstrip())
        self._send(self._event(current, outcome))

    def _note(self, current: Order, what: str) -> None:
        """A line in this rank's output, so that a reader finds where each attempt begins and ends."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{now} swiftpy INFO {current.label} attempt {current.attempt}: {what}")

    def _event(self, current: Order, outcome: Outcome) -> TaskFinished | TaskFailed | TaskKilled:
        rank, task_id, attempt = self._transport.rank, current.task_id, current.attempt
        if outcome.error is not None:
            return TaskFailed(rank, task_id, attempt, outcome.error, outcome.seconds)
        if outcome.answer is not None:
            value, made, failures = outcome.answer
            return TaskFinished(rank, task_id, attempt, value, outcome.seconds, made, failures)
        return TaskKilled(rank, task_id, attempt, outcome.seconds)

    def _pass_on_signals(self) -> None:
        reason = self._stop_reason()
        if reason is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self._send(DrainRequested(reason))

    # -- the thread that stands by -----------------------------------------------------------------------------

    def _stand_by(self) -> None:
        """Answer in the rank's place whenever one task has kept it since the last look."""
        last: Order | None = None
        while not self._stopped.wait(BUSY):
            current = self._current
            if current is not None and current is last and not current.isolated:
                with self._turn:
                    self._attend(current)
            last = current

    def _attend(self, current: Order) -> None:
        while (message := self._transport.recv(0)) is not None:
            if isinstance(message, RecallTasks):
                self._give_back(current)
            else:
                self._inbox.append(message)

    def _give_back(self, current: Order) -> None:
        """Return all calls that were not begun: those after the one that runs, and orders that wait for their turn."""
        rank = self._transport.rank
        run = self._inline.run
        kept = run.give_up() if run is not None and self._current is current and not current.chained else None
        if kept is not None:
            self._transport.send(SERVER, TaskReturned(rank, current.task_id, current.attempt, kept))
        for order in [order for order in self._inbox if type(order) is Order]:
            self._inbox.remove(order)
            self._transport.send(SERVER, TaskReturned(rank, order.task_id, order.attempt, 0))
        self._transport.send(SERVER, RecallAnswered(rank))
