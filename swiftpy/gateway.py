"""Rank 0 of a job whose server is a process that is no rank (see `own_job`): passes messages on, to and from a socket.

It ends the job when that socket ends, however the process came to its end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from swiftpy.core.events import DrainRequested, StartTask
from swiftpy.core.scheduler import Scheduler
from swiftpy.errors import UserError
from swiftpy.flow import nested
from swiftpy.runtime import job
from swiftpy.runtime.call import Payload
from swiftpy.runtime.server import BATCH, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.transport import TICK

#: Variables with the socket's name, and the key without which nobody gets through. Not on the command line, which
#: anybody can read.
SOCKET, KEY = "SWIFTPY_GATEWAY", "SWIFTPY_GATEWAY_KEY"


class Gateway(job.Application):
    """Rank 0 of the job, see the module. It has no tasks itself."""

    _link: Connection
    _stop: StopRequest

    def __init__(self, name: str) -> None:
        self._address = f"\0{name}"

    def prepare(self, lead: job.Lead) -> job.JobSpec:
        """See Application."""
        self._stop = lead.stop
        try:
            self._link = Client(self._address, authkey=multiprocessing.current_process().authkey)
            self._link.send(lead.layout.workers)
        except (OSError, EOFError, AuthenticationError) as error:
            here = lead.layout.hosts[0]
            raise UserError(f"rank 0, on {here}, cannot reach the process that started the job: {error}") from None
        return job.JobSpec(outputs=(), grace=0.0, folder=sys.path[0])

    def serve(self, server: Server, scheduler: Scheduler) -> None:
        """See Application: pass messages on until the other side says that this is all."""
        with contextlib.suppress(OSError, EOFError):
            while self._stop.reason is None:
                self._pass_up(server)
                while self._link.poll():
                    message = pickle.loads(self._link.recv_bytes())
                    if message is None:
                        return
                    server.transport.send(*message)
        with Path(os.devnull).open("w") as null:  # MPI's report of what we do on purpose
            os.dup2(null.fileno(), 2)
        server.transport.abort(1)

    def finish(self) -> int:
        """See Application."""
        return 0

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        raise AssertionError("nobody submits tasks here")

    def _pass_up(self, server: Server) -> None:
        """Wait for messages of the workers, or for the other side; pass those on that are there."""
        messages: list[Any] = []
        message = server.transport.recv(TICK, (self._link.fileno(),))
        while message is not None:
            if isinstance(message, DrainRequested):
                self._stop.reason = message.reason
            messages.append(message)
            message = server.transport.recv(0) if len(messages) < BATCH else None
        if messages:
            self._link.send_bytes(pickle.dumps(messages, protocol=5))


if __name__ == "__main__":
    # As in the process that started the job, where a module of the same name in the current directory, which `-m` puts
    # first, may be another one than that which it found beside its script.
    sys.path[:] = os.environ["PYTHONPATH"].split(os.pathsep)
    name = os.environ.pop(SOCKET)
    # On workers, so that they reach what is a `multiprocessing.Manager`'s in the process that started the job.
    multiprocessing.current_process().authkey = bytes.fromhex(os.environ.pop(KEY))
    sys.exit(job.run(lambda: Gateway(name), nested.join))
