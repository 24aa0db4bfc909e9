"""A job of a process' own: the process starts mpiexec, and is the job's server without being one of its ranks.

The engine runs in that process as it does on rank 0 of other jobs. Rank 0 of this one (`gateway`) only passes messages
on, between the workers and a socket.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, NamedTuple

from swiftpy import gateway
from swiftpy.core.events import Event, WorkerLost
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat
from swiftpy.errors import TaskError
from swiftpy.flow.engine import Engine
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future
from swiftpy.runtime.server import BATCH, Server
from swiftpy.runtime.transport import SERVER, TICK, Transport
from swiftpy.sites.launch import find_launcher, handed_on, remove_segments, warn_of_crashes

#: Seconds that a job has to end once it was told to.
_PATIENCE = 10.0


class _Submitted(NamedTuple):
    """A thread of the program submitted a call."""

    kind: Kind
    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future


class _Closed(NamedTuple):
    """There will be no more calls: the job ends when the present ones have."""


class _Woken(NamedTuple):
    """Something has come about that no message tells of."""


class _Link(Transport):
    """The process' way to the workers. What comes from them, and from its own threads, is in `inbox`, which wakes."""

    rank = SERVER

    def __init__(self, connection: Connection | None, inbox: queue.SimpleQueue[Any]) -> None:
        self._connection, self._inbox = connection, inbox
        self._taken = 0

    def send(self, dest: int, message: Any) -> None:
        """See Transport."""
        self._put((dest, message))

    def say_goodbye(self) -> None:
        """All workers were told to end."""
        self._put(None)

    def _put(self, message: Any) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # the job has ended, of which who reads will hear
                self._connection.send_bytes(pickle.dumps(message, protocol=5))

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """See Transport. Says that nothing is there once in a while, or nothing would be done while calls come in."""
        self._taken = 0 if timeout > 0 else self._taken + 1
        if self._taken > BATCH:
            return None
        try:
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None
        return None if type(message) is _Woken else message

    def wake(self) -> None:
        """See Transport."""
        self._inbox.put(_Woken())

    def close(self) -> None:
        """Give up this process' end of the connection."""
        if self._connection is not None:
            self._connection.close()


class OwnJob(Engine):
    """The process' side: an engine for so many workers, which one thread drives.

    No other thread does: in the program's main thread KeyboardInterrupt may be raised between any two instructions, and
    would leave the engine between two states.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        #: Why nothing can run any more, if so.
        self.lost: str | None = None
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._link = _Link(None, self._inbox)
        self._driver = 0
        self._ending = False  # nothing more is to be submitted
        self._closing = False  # nothing more is to come
        self._over = threading.Event()
        remove_segments(older_than=60.0)
        warn_of_crashes(workers + 1)
        launcher = find_launcher()
        key = bytes(multiprocessing.current_process().authkey)
        name = f"swiftpy-{uuid.uuid4().hex}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{name}")  # abstract (Linux): nothing is left on any disk, however the process ends
        listener.listen()
        self._listener = listener
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        self._process = subprocess.Popen(
            [launcher, "-n", str(workers + 1), sys.executable, "-m", "swiftpy.gateway"],
            env={**os.environ, "PYTHONPATH": path, gateway.SOCKET: name, gateway.KEY: key.hex()},
            stdin=subprocess.DEVNULL,
            stdout=handed_on(1),
            stderr=handed_on(2),
            start_new_session=True,  # Ctrl-C in a terminal is for the program alone
        )
        threading.Thread(target=self._read, args=(key,), daemon=True, name="swiftpy link").start()

    # -- for the program ---------------------------------------------------------------------------------------

    def submit(
        self,
        kind: Kind,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future | None = None,
    ) -> Future:
        """See Engine. Raises RuntimeError after `end`."""
        if self._ending:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = future or Future()
        future.engine = self
        self._inbox.put(_Submitted(kind, function, args, kwargs, future))
        return future

    def wait_for(self, future: Future, timeout: float | None = None) -> None:
        """See Engine."""
        if threading.get_ident() == self._driver:  # in a callback
            super().wait_for(future, timeout)
            return
        with future._condition:
            future._condition.wait_for(future.done, timeout)

    def end(self) -> None:
        """Let the job end when all that was submitted has."""
        self._ending = True
        self._inbox.put(_Closed())

    def join(self) -> None:
        """Wait for the job's end."""
        if threading.get_ident() != self._driver:
            self._over.wait()

    def kill(self) -> None:
        """End the job now."""
        self._process.terminate()

    def leave(self) -> None:
        """Called in a process that was forked from the program: the job is not its own.

        The job ends when the connection does, which would live on with a copy here if the program is killed.
        """
        self._listener.close()
        self._link.close()
        self.lost = "the executor's job is that of the process from which this one was forked"
        self._over = threading.Event()  # no thread came along who could hold its lock, or set it
        self._over.set()

    # -- its threads -------------------------------------------------------------------------------------------

    def _read(self, key: bytes) -> None:
        """Take up the connection; put into the inbox what comes, and at the end that the workers are gone."""
        with self._listener:
            connection = self._accept(key)
        workers: dict[int, Seat] = {}
        with contextlib.suppress(OSError, EOFError):
            workers = connection.recv() if connection is not None else {}
        if not workers:
            self.lost = f"the executor's job did not start: {self._how_it_ended()}"
        self._link = _Link(connection, self._inbox)
        scheduler = Scheduler(workers)  # without workers it rejects whatever comes
        self.attach(Server(self._link, scheduler, self, self.stop, 0.0, time.monotonic), scheduler)
        with contextlib.suppress(OSError, EOFError):
            while connection is not None:
                for message in pickle.loads(connection.recv_bytes()):
                    self._inbox.put(message)
        if not self._ended:
            self.lost = self.lost or f"the executor's job has died: {self._how_it_ended()}"
            for worker in workers:
                self._inbox.put(WorkerLost(worker, self.lost))

    def _accept(self, key: bytes) -> Connection | None:
        """The gateway's connection, None if the job ended without."""
        self._listener.settimeout(TICK)
        while True:
            try:
                accepted = self._listener.accept()[0]
            except TimeoutError:
                if self._process.poll() is not None:
                    return None
                continue
            # Anybody can connect to an abstract socket; who has no key must not be able to end the job.
            _, user, _ = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user == os.geteuid():
                break
            accepted.close()
        connection = Connection(accepted.detach())
        self._link = _Link(connection, self._inbox)  # at once, see `leave`
        try:
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
        except (OSError, EOFError, AuthenticationError):
            return None
        return connection

    def _how_it_ended(self) -> str:
        """How the job ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._process.wait(_PATIENCE)}; see what it wrote"
        return "its connection ended"

    def _drive_alone(self) -> None:
        self._driver = threading.get_ident()
        try:
            while not (self._closing and not self._gathering and self.finished):
                with self._turns.lock:
                    self._advance(1.0)
                self._tell()
            self.close()
            self._link.say_goodbye()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        except BaseException as bug:
            self._give_up(f"a bug in the engine: {bug!r}")
            raise
        finally:
            if self._process.poll() != 0:
                self._process.kill()
                self._process.wait()
                remove_segments(older_than=1.0)  # a younger one may be that of a job which begins at this moment
            self._over.set()

    def _give_up(self, reason: str) -> None:
        """Nobody drives any more, and nobody shall wait for ever."""
        self.lost = reason
        unsettled = list(self._gathering.futures.values())
        while not self._inbox.empty():
            message = self._inbox.get()
            unsettled += [message.future] if type(message) is _Submitted else []
        for future in unsettled:
            if future.settle(None, TaskError("lost", reason)):
                future.tell()

    def heard(self, message: object) -> list[Event]:
        """See Client."""
        if type(message) is _Submitted:
            future = message.future
            try:
                self._gathering.add(future, message.kind, message.function, message.args, message.kwargs)
            except Exception as exception:  # the program changes a list among the arguments at this moment
                if future.settle(None, exception):
                    self.settling.untold.append(future)
            return []
        if type(message) is _Closed:
            self._closing = True
            return []
        return super().heard(message)
