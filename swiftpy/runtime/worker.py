"""The worker's loop: take a task, run it, say how it ended; stay answerable meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from swiftpy.core.events import (
    DrainRequested,
    InterruptTask,
    KillTask,
    StartTask,
    StopWorker,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    WorkerReady,
)
from swiftpy.runtime.executors import Executor, Outcome
from swiftpy.runtime.transport import SERVER, Backoff, Transport


class Worker:
    """One worker rank. `stop_reason()` says why this rank was asked to end early (a signal), if it was."""

    def __init__(self, transport: Transport, executor: Executor, stop_reason: Callable[[], str | None]) -> None:
        self._transport = transport
        self._executor = executor
        self._stop_reason = stop_reason
        self._asked_to_drain = False
        self._current: StartTask | None = None

    def run(self) -> None:
        """Work until the server says stop."""
        self._transport.send(SERVER, WorkerReady(self._transport.rank))
        backoff = Backoff()
        while True:
            message = self._transport.recv(0)
            if isinstance(message, StopWorker):
                self._executor.close()
                return
            if isinstance(message, StartTask):
                self._begin(message)
            elif isinstance(message, InterruptTask) and self._runs(message):
                self._executor.interrupt()
            elif isinstance(message, KillTask) and self._runs(message):
                self._executor.kill()
            elif not isinstance(message, InterruptTask | KillTask | None):
                raise AssertionError(f"a worker cannot be sent {message}")
            if self._report() or message is not None:
                backoff.reset()
            else:
                backoff.wait()
            self._pass_on_signals()

    def _begin(self, message: StartTask) -> None:
        self._current = message
        self._note(message, "started")
        self._executor.start(message.task)

    def _runs(self, message: InterruptTask | KillTask) -> bool:
        """Whether this is about the attempt that runs: it may have ended while the message was on its way."""
        current = self._current
        return current is not None and (current.task.id, current.attempt) == (message.task_id, message.attempt)

    def _report(self) -> bool:
        current = self._current
        outcome = self._executor.poll() if current else None
        if current is None or outcome is None:
            return False
        self._current = None
        ending = outcome.error.summary() if outcome.error else "finished" if outcome.value else "killed"
        self._note(current, f"{ending} after {outcome.seconds:.1f} s")
        if outcome.error and outcome.error.traceback:
            print(outcome.error.traceback.rstrip())
        self._transport.send(SERVER, self._event(current, outcome))
        return True

    def _note(self, current: StartTask, what: str) -> None:
        """A line in this rank's output, so that a reader finds where each attempt begins and ends."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{now} swiftpy INFO {current.task.label} attempt {current.attempt}: {what}")

    def _event(self, current: StartTask, outcome: Outcome) -> TaskFinished | TaskFailed | TaskKilled:
        rank, task_id, attempt = self._transport.rank, current.task.id, current.attempt
        if outcome.error is not None:
            return TaskFailed(rank, task_id, attempt, outcome.error, outcome.seconds)
        if outcome.value is not None:
            return TaskFinished(rank, task_id, attempt, outcome.value, outcome.seconds)
        return TaskKilled(rank, task_id, attempt, outcome.seconds)

    def _pass_on_signals(self) -> None:
        reason = self._stop_reason()
        if reason is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self._transport.send(SERVER, DrainRequested(reason))
