"""Tasks that submit tasks: what a worker's `program.engine()` is, and how it and rank 0 speak.

A task's own tasks are deeper than it is, so the scheduler runs them before tasks of the program that wait: a recursion
is worked off depth first. A task that waits for them frees its worker meanwhile (`Worker.wait_until`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import Kind, TaskState
from swiftpy.errors import TaskError
from swiftpy.flow import program
from swiftpy.flow.calls import Owner, because_of, error_of, needs, pack_one
from swiftpy.flow.functions import Function, Functions
from swiftpy.flow.future import Future, results, when_good
from swiftpy.flow.leftovers import LeftoversAsked, LeftoversTold
from swiftpy.runtime.store import InArguments, Packed
from swiftpy.runtime.worker import Worker

if TYPE_CHECKING:
    from swiftpy.flow.failures import Failures
    from swiftpy.runtime.transport import Transport


class CallSubmitted(NamedTuple):
    """A task on this worker submitted a call, which it knows by this id."""

    worker: int
    id: int
    kind: Kind
    function: Function
    call: bytes


class CallSettled(NamedTuple):
    """What became of a call that the worker submitted: the pickled list with the result, or an error."""

    id: int
    value: bytes | None
    error: TaskError | None


class FailureSeen(NamedTuple):
    """A task on this worker has asked for a call with this id, and heard that it failed."""

    id: int
    worker: int


class NestedEngine:
    """A worker's side; see `engine.Engine` for what the methods promise."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ids = itertools.count()
        self._futures: dict[int, Future] = {}
        self._needed: dict[int, list[Future]] = {}
        self._deeper: dict[tuple[Kind, int], Kind] = {}
        self._told = _Told()
        self._suspended: set[int] = set()  # threads of tasks that wait
        self._lock = threading.Lock()  # of the next two
        self._hearing = 0  # threads that take messages
        self._owes_answer = False  # to LeftoversAsked
        self.functions = Functions()

    def submit(
        self,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future | None = None,
    ) -> Future:
        """Add one call; its future. The call is sent when all futures among its arguments have values."""
        future = future or Future()
        future.engine, future.id = self, next(self._ids)
        self._futures[future.id] = future
        kind = self._at_depth(kind, self._worker.depth + 1)
        needed = needs(args, kwargs) or []
        if needed:  # if these went before the call has ended, so would what it fetches
            self._needed[future.id] = needed
        when_good(
            needed,
            lambda: self._send(future, kind, function, args, kwargs),
            lambda culprit: self._settle(future.id, None, because_of(culprit), culprit),
        )
        return future

    def submit_all(self, kind: Kind, function: Function, calls: list[Any], column: bool = False) -> Iterator[Any]:
        """Add calls; their results, in order."""
        return results([self.submit(kind, function, (args,) if column else args, {}) for args in calls])

    def wait_for(self, future: Future, timeout: float | None = None) -> None:
        """Let the worker do other things until a future is done, or so many seconds have passed."""
        self.drive(future.done, timeout)

    def drive(self, enough: Callable[[], bool], timeout: float | None = None) -> None:
        """Let the worker do other things until `enough()`, or for so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._told.untold:  # a callback that waits may wait for what is told after it
            self._told.untold.popleft().tell()
        if enough():
            return
        thread = threading.get_ident()
        self._suspended.add(thread)
        try:
            if deadline is None:
                self._worker.wait_until(enough)
            else:
                self._worker.wait_until(lambda: enough() or time.monotonic() > deadline, timed=True)
        finally:
            self._suspended.discard(thread)

    def make_way(self, thread: int) -> None:
        """Called by who needs something that another thread is making. If that one waits for tasks, and this one keeps
        the rank from them, let it go on."""
        if thread in self._suspended and self._worker.runs_here:
            self.drive(lambda: thread not in self._suspended)

    def wake(self) -> None:
        """See Engine."""
        self._worker.look_again()

    def request(self, futures: Iterable[Future]) -> None:
        """Ask for the results that lie with other workers, all at once: they will be fetched."""
        for future in futures:
            if (stored := future.elsewhere) is not None:
                self._worker.request(stored.reference)

    def fetch(self, future: Future) -> None:
        """Get a result that lies with another worker."""
        if (stored := future.elsewhere) is not None:
            future.bring(self._worker.fetch(stored.reference).value())

    def hear(self, messages: Iterable[Any]) -> None:
        """Rank 0 says what became of calls, or asks what is left of them.

        One thread may be in here for long, amid a callback, while another comes. This one does not wait for it, for the
        callback may need a lock that a task holds until it hears what became of a call. But of what is left the
        last one to leave tells, for the callback may be about to submit.
        """
        with self._lock:
            self._hearing += 1  # before it takes the first
        try:
            for message in messages:
                if type(message) is LeftoversAsked:
                    self._owes_answer = True
                else:
                    assert isinstance(message, CallSettled), f"a worker cannot be sent {message!r}"
                    self._settled(message)
        finally:
            with self._lock:
                self._hearing -= 1
                answers = self._owes_answer and not self._hearing
                if answers:
                    self._owes_answer = False
        if answers:
            waiting = sum(not future.done() for future in list(self._futures.values()))
            self._worker.send(LeftoversTold(self._worker.rank, waiting))

    def _settled(self, message: CallSettled) -> None:
        value, error = None, message.error
        if message.value is not None:
            try:
                (value,) = pickle.loads(message.value)
            except BaseException as exception:
                error = TaskError("exception", f"its result cannot be unpickled: {exception}")
        self._settle(message.id, value, error)

    def _settle(
        self, id: int, value: Any, error: TaskError | None, when_heard: Callable[[], None] | Future | None = None
    ) -> None:
        future = self._futures.pop(id, None)
        self._needed.pop(id, None)
        self._worker.data.held.pop(_key(id), None)
        if future is None:
            return
        if error is not None:
            seen = FailureSeen(id, self._worker.rank)
            future.when_heard(when_heard or functools.partial(self._worker.send, seen))
        if future.settle(value, error):
            self._tell(future)

    def _tell(self, future: Future) -> None:
        """Call the callbacks, of which one may settle what needs this: a long chain that fails is told one by one, for
        each inside of the one before would be too deep."""
        if self._told.untold is not None:
            self._told.untold.append(future)
            return
        self._told.untold = untold = deque([future])
        try:
            while untold:
                untold.popleft().tell()
        finally:
            self._told.untold = None

    def _send(
        self, future: Future, kind: Kind, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if not future.begin():
            self._settle(future.id, None, None)
            return
        rank, key = self._worker.rank, _key(future.id)
        call = pack_one(args, kwargs)
        if isinstance(call, Packed):
            self._worker.data.held[key] = call
            call = pickle.dumps(InArguments(rank, key))
        self._worker.send(CallSubmitted(rank, future.id, kind, function, call))

    def _at_depth(self, kind: Kind, depth: int) -> Kind:
        deeper = self._deeper.get((kind, depth))
        if deeper is None:
            deeper = self._deeper[kind, depth] = dataclasses.replace(kind, depth=depth)
        return deeper


class _Told(threading.local):
    """Futures whose callbacks a thread is to call after those that it calls now; None if it calls none."""

    untold: deque[Future] | None = None


def _key(id: int) -> int:
    """Under which key the arguments of a task's own call are held; those of rank 0's calls are not negative."""
    return -1 - id


class Relay(Owner):
    """Rank 0's side of one call that a worker submitted: its result goes back there, unopened."""

    may_be_held = True
    column = False

    def __init__(self, transport: Transport, failures: Failures, worker: int, id: int) -> None:
        self._transport, self._failures, self._worker, self._id = transport, failures, worker, id

    def begin(self, command: StartTask) -> list[Any]:
        """See Owner."""
        return list(command.task.payload)

    def deliver(self, report: ReportOutcome) -> None:
        """See Owner."""
        if report.state is TaskState.DONE:
            assert isinstance(report.value, bytes), "one call's result is not in parts"
            self._transport.send(self._worker, CallSettled(self._id, report.value, None))
        elif report.state is not TaskState.READY:
            error = error_of(report)
            self._failures.note(self._id, error, self._worker)
            self._transport.send(self._worker, CallSettled(self._id, None, error))


def join(worker: Worker) -> None:
    """Let the tasks that this worker will run submit tasks."""
    engine = NestedEngine(worker)
    worker.guest = engine.hear
    program.begin(engine)
