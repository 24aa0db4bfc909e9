"""How a worker rank runs a task: inline, in the rank itself, or isolated, in a persistent child beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from swiftpy.errors import TaskError
from swiftpy.runtime.call import Answer, Run
from swiftpy.runtime.exceptions import TimeLimitExceeded, describe
from swiftpy.runtime.order import Order
from swiftpy.runtime.spawner import Spawner
from swiftpy.runtime.store import LostError, Packed, Reference

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


#: Seconds between two attempts to start a child.
_PAUSE = 1.0


class Outcome(NamedTuple):
    """How an attempt ended: with an `answer`, with an `error`, or with neither because it was killed."""

    seconds: float
    answer: Answer | None = None
    error: TaskError | None = None


class InlineExecutor:
    """Runs tasks in the rank itself: nothing is faster, but a task that crashes takes the job with it.

    A time limit is raised in the task by an alarm, so it works only where Python code runs, and only in the main
    thread. `group` makes the communicator of the workers of a parallel task, which its function gets as its first
    argument, and which ends with the task.
    """

    def __init__(self, host: str, rank: int, group: Callable[[tuple[int, ...]], Any]) -> None:
        self._host, self._rank, self._group = host, rank, group

    def make(self, run: Run, timeout: float | None, gang: tuple[int, ...] = ()) -> Outcome:
        """Make the calls."""
        if gang:
            run.first = (self._group(gang),)
        began = time.perf_counter()
        try:
            if timeout is None:
                answer = run.make()
            else:
                with _alarm(timeout):
                    answer = run.make()
        except TimeLimitExceeded as late:  # not in the call, but while its result was pickled
            answer = Answer(b"", 1, ((0, describe(late)),))
        for _, error in answer.failures if gang else ():  # at once: if they do wait, nobody hears of it in another way
            if error.kind != "cancelled":
                where = f"swiftpy: rank {self._rank}: a parallel task failed here, for which its other ranks may wait"
                print(f"{where}: {error.message}", file=sys.stderr, flush=True)
        for communicator in run.first:
            if communicator:  # the task may have done so
                communicator.Free()  # MPI has room for some 2,000 of them
        return _outcome_of(answer, time.perf_counter() - began, self._host, self._rank, run.count)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeLimitExceeded in the main thread after so many seconds."""

    def time_is_up(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded("the time limit of the task is over")

    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class IsolatedExecutor:
    """Runs tasks one after another in a persistent child, which it can time out, kill, lose, and replace.

    After any failure the child is replaced: nobody knows what a task left behind that raised half-way.
    `env` gives the child's additional environment; `output` is the descriptor of its stdout and stderr;
    `folder`, if given, takes the place of the current directory where it looks for modules.
    """

    def __init__(
        self,
        spawner: Spawner,
        host: str,
        rank: int,
        env: dict[str, str],
        output: int,
        folder: str = "",
    ) -> None:
        self._spawner, self._host, self._rank = spawner, host, rank
        self._env, self._output, self._folder = env, output, folder
        self._pid = 0
        self._channel: Connection | None = None
        self._order: Order | None = None
        self._began = self._give_up_at = self._again_at = 0.0
        self._problem = ""  # why there is no child
        self._kill_reason: str | None = None
        self.wants: Reference | None = None  # what the child waits for, see `give`

    def start(self, order: Order, patience: float = 0.0) -> None:
        """Begin a task. That there is no child, and none can be started, is its failure after so many seconds."""
        self._order, self._began, self._kill_reason, self.wants = order, time.monotonic(), None, None
        self._give_up_at = self._began + patience
        self._begin(order)

    def poll(self) -> Outcome | None:
        """The outcome of the task that was started, once it is there."""
        if self._order is None:
            return None
        seconds = time.monotonic() - self._began
        if self._channel is None:
            return self._without_child(self._order, seconds)
        try:
            if self._kill_reason is None and self._channel.poll():
                answer = self._channel.recv()
                if not isinstance(answer, Reference):
                    return self._answered(answer, seconds)
                self.wants = answer
        except (EOFError, OSError):
            pass  # it died while or before answering; the helper will say how
        ended = self._spawner.exited()
        if ended is not None and ended[0] == self._pid:
            return self._died(ended[1], seconds)
        if self._order.timeout and seconds > self._order.timeout and self._kill_reason is None:
            self._kill("timeout")
        return None

    def give(self, packed: Packed | LostError) -> None:
        """Give the child what it waits for."""
        self.wants = None
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it died meanwhile: poll reports it
                self._channel.send(packed)

    def interrupt(self) -> None:
        """Ask the running task to save its state and return.

        By SIGTERM, which a child ignores unless its task does something about it.
        """
        if self._order is not None and self._channel is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the running task; its outcome will be neither answer nor error."""
        if self._order is not None and self._kill_reason is None:
            self._kill("killed")

    def close(self) -> None:
        """Let an idle child exit by itself; kill it if it does not within 5 s."""
        if self._channel is None:
            return
        with contextlib.suppress(OSError):
            self._channel.send(None)
        if self._spawner.exited(5.0) is None:
            self._spawner.kill(self._pid)
            self._spawner.exited(5.0)
        self._drop_child()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when something happens to the child."""
        return (self._spawner.fileno(), *([] if self._channel is None else [self._channel.fileno()]))

    def _begin(self, order: Order) -> None:
        """Send a task to the child, for which one is started if there is none."""
        try:
            self._channel = self._channel or self._new_child()
        except (OSError, ValueError) as problem:
            self._problem, self._again_at = str(problem), time.monotonic() + _PAUSE
            return
        with contextlib.suppress(OSError):  # the child died while idle: poll reports it as this attempt's end
            self._channel.send((order.function, order.payload))

    def _without_child(self, order: Order, seconds: float) -> Outcome | None:
        """Try again, or give up."""
        if self._kill_reason is None and time.monotonic() < self._give_up_at:
            if time.monotonic() >= self._again_at:
                self._begin(order)
            return None
        self._order = None
        if self._kill_reason is not None:
            return Outcome(seconds)
        message = f"its process could not be started: {self._problem}"
        return Outcome(seconds, error=TaskError("exit", message, host=self._host, rank=self._rank))

    def _new_child(self) -> Connection:
        from multiprocessing.connection import Connection  # it is much to import, and most ranks have no child

        ours, theirs = socket.socketpair()
        with ours, theirs:
            args = ["-m", "swiftpy.runtime.child", self._folder]
            self._pid = self._spawner.spawn(args, self._env, theirs.fileno(), self._output)
            return Connection(ours.detach())

    def _kill(self, reason: str) -> None:
        self._kill_reason = reason
        self._spawner.kill(self._pid)

    def _answered(self, answer: Answer, seconds: float) -> Outcome:
        outcome = _outcome_of(answer, seconds, self._host, self._rank)
        self._order = None
        if outcome.error and outcome.error.kind != "cancelled":  # then nothing was called
            self._spawner.kill(self._pid)
            self._spawner.exited(5.0)
            self._drop_child()
        return outcome

    def _died(self, code: int, seconds: float) -> Outcome:
        assert self._order is not None
        limit, self._order = self._order.timeout, None
        self._drop_child()
        if self._kill_reason == "killed":
            return Outcome(seconds)
        if self._kill_reason == "timeout":
            error = ("timeout", f"it ran longer than its time limit of {limit:g} s and was killed")
        elif code < 0:
            error = ("signal", f"its process was ended by signal {-code} ({_signal_name(-code)})")
        else:
            error = ("exit", f"its process exited with code {code}")
        return Outcome(seconds, error=TaskError(*error, host=self._host, rank=self._rank))

    def _drop_child(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel, self._pid = None, 0


def _outcome_of(answer: Answer, seconds: float, host: str, rank: int, calls: int = 1) -> Outcome:
    if not answer.failures:
        return Outcome(seconds, answer)
    failures = []
    for index, error in answer.failures:
        placed = TaskError(error.kind, error.message, error.traceback, host, rank, error.exception)
        failures.append((index, placed))
    if calls <= 1:  # 0: the function could not be found; a chain that ended with its first call has calls left
        return Outcome(seconds, error=failures[0][1])
    return Outcome(seconds, answer._replace(failures=tuple(failures)))


def _signal_name(number: int) -> str:
    if number == signal.SIGKILL:  # not by us: that has other reasons; nobody else sends it unasked, but the kernel
        return "SIGKILL: the node may have run out of memory"
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return signal.strsignal(number) or "unknown"
