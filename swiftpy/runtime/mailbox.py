"""A worker's mailbox: what it was sent and has not begun, and what its server has not been told yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from swiftpy.core.events import RecallAnswered, RecallTasks, TaskKilled, TaskReturned
from swiftpy.runtime.call import Run, learn
from swiftpy.runtime.order import Order
from swiftpy.runtime.store import Exchange, Reference
from swiftpy.runtime.transport import TICK, Transport

#: While there are tasks at hand, seconds between two exchanges with the server: to send outcomes one by one would take
#: longer than short tasks do.
GATHER = 0.5e-3

#: A task and its calls, some of which may have been made.
Running = tuple[Order, Run]


class Mailbox:
    """One worker's messages. `server` is the rank of its server.

    Two threads use it in turns (`_turn`): the rank's own, and one that stands by while a task keeps that for long. What
    neither may wait with is handled as it comes: requests for data, recalls, and what `at_once` says it has handled.
    All else waits in `_inbox` for the rank.
    """

    def __init__(self, transport: Transport, server: int, at_once: Callable[[Any], bool]) -> None:
        self._transport, self._server, self._at_once = transport, server, at_once
        self.data = Exchange(transport.rank, transport.send)
        #: What runs in the rank itself; the rank says so.
        self.running: Running | None = None
        self._inbox: deque[Any] = deque()
        self._outbox: list[Any] = []  # for the server
        self._exchanged = 0.0  # when we last did so with the server
        self._turn = threading.Lock()

    def tell(self, *messages: Any) -> None:
        """Tell the server, after all that it was to be told before."""
        with self._turn:
            self._outbox += messages
            self._flush()

    def tell_soon(self, message: Any) -> None:
        """Tell the server, together with what follows if there are tasks at hand."""
        with self._turn:
            self._outbox.append(message)
            if not self._inbox:
                self._flush()

    def send(self, rank: int, message: Any) -> None:
        """Send to another worker."""
        with self._turn:
            self._transport.send(rank, message)

    def request(self, reference: Reference) -> None:
        """Ask for what another rank holds."""
        with self._turn:
            self.data.request(reference)

    def tell_released(self) -> None:
        """Tell other ranks what is needed no more of what they hold."""
        with self._turn:
            self.data.tell_released()

    def next(self, descriptors: Sequence[int] = ()) -> Any | None:
        """The next message for the rank; None if there is none after TICK, or a descriptor is readable."""
        with self._turn:
            if not self._inbox or time.perf_counter() - self._exchanged > GATHER:
                self._flush()
                message = self._transport.recv(0.0 if self._inbox else TICK, descriptors)
                self._exchanged = time.perf_counter()
                if message is not None:
                    self._take_in(message)
            return self._inbox.popleft() if self._inbox else None

    def attend(self, seconds: float = 0.0, running: Running | None = None) -> None:
        """In the middle of a task: tell and take in what there is, or wait for it.

        `running` is given by the thread that stands by: what it saw to run when it decided to.
        """
        with self._turn:
            if running is not None and running is not self.running:
                return  # it has ended meanwhile, and with it perhaps the job
            self._flush()
            while (message := self._transport.recv(seconds)) is not None:
                seconds = 0.0
                self._take_in(message, running)

    def pick(self, wanted: Callable[[Any], bool], running: Running) -> Any | None:
        """The first such message that the rank has not taken, which is not the rank's any more; None if there is none,
        or if what ran has ended, for the rank may have taken an earlier one by then."""
        with self._turn:
            if running is not self.running:
                return None
            found = next(filter(wanted, self._inbox), None)
            if found is not None:
                self._inbox.remove(found)
            return found

    def let_go(self, message: Any) -> None:
        """Give back all that was not begun, and tell the server something: what runs will wait for other tasks."""
        with self._turn:
            self._give_back(self.running)
            self._outbox.append(message)
            self._flush()

    def withdraw(self, attempt: tuple[int, int]) -> None:
        """What was not begun of this attempt shall not be."""
        with self._turn:
            for order in [o for o in self._inbox if type(o) is Order and (o.task_id, o.attempt) == attempt]:
                self._inbox.remove(order)
                self._outbox.append(TaskKilled(self._transport.rank, *attempt, 0.0))

    def look_again(self) -> None:
        """Let the rank, if it waits for messages, see what has changed."""
        self._transport.wake()

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._transport.send(self._server, outbox if len(outbox) > 1 else outbox[0])

    def _take_in(self, message: Any, running: Running | None = None) -> None:
        """Sort a message, or the list of those that came together."""
        for each in message if type(message) is list else (message,):
            if type(each) is Order:
                self._inbox.append(each)
            elif type(each) is RecallTasks:
                self._give_back(running)
                self._outbox.append(RecallAnswered(self._transport.rank))
                self._flush()
            elif not (self.data.handle(each) or self._at_once(each)):
                self._inbox.append(each)

    def _give_back(self, running: Running | None) -> None:
        """Give back what was not begun; of what runs here, the calls after this one, if they do not need it."""
        rank = self._transport.rank
        if running is not None and not running[0].chained:
            order, run = running
            kept = run.give_up()
            if kept is not None:
                self._outbox.append(TaskReturned(rank, order.task_id, order.attempt, kept))
        orders = [order for order in self._inbox if type(order) is Order and not order.gang]
        if self.running is None:  # the first begins now: if only we may run it, it would come back with the next recall
            del orders[:1]
        for order in orders:
            self._inbox.remove(order)
            learn(order.function, order.payload)
            self._outbox.append(TaskReturned(rank, order.task_id, order.attempt, 0))
