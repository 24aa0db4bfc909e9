"""A small helper process that starts, signals and reaps the isolated children of one rank.

It is forked before MPI is initialized, so that no process is ever forked on top of a fabric, and it speaks with its
rank over one socket. It exists also to end: when the rank dies, however it dies, the socket reports end-of-file, and
the helper kills its children's process groups. A child asks the kernel to be killed when the helper dies
(`end_with_parent`), so nobody outlives the rank and goes on writing.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess

#: Bytes of the longest message: more than the kernel takes at once, so that none is cut off.
_MESSAGE = 1 << 18
#: A child must not think that it is an MPI rank: with these set, importing mpi4py in it fails or hangs.
_LAUNCHER_VARIABLES = ("PMI", "HYD", "PALS_", "OMPI_", "PRTE_", "MPI_LOCAL")
#: ... but it is told which of the node's ranks it serves.
LOCAL_RANK_VARIABLES = ("PALS_LOCAL_RANKID", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")


class Spawner:
    """The rank's side: `spawn` and `kill` children, and hear of their end from `exited`."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._socket.close()
            _Helper(theirs).run()
        theirs.close()

    def spawn(self, args: list[str], env: dict[str, str], channel: int, output: int) -> int:
        """Start a child with `channel` as its descriptor 3 and `output` as stdout and stderr; return its pid.

        SWIFTPY_PYTHON in `env` names another interpreter to run it: that of staged software. Raises OSError or
        ValueError if it cannot be started.
        """
        request = pickle.dumps(("spawn", args, env))
        socket.send_fds(self._socket, [request], [channel, output])
        answer = self._receive()
        while "code" in answer:  # the end of one before it that was slow to die, and for which nobody waits any more
            answer = self._receive()
        if "problem" in answer:
            raise answer["problem"]
        return int(answer["pid"])

    def kill(self, pid: int) -> None:
        """Kill a child with its process group; its end is reported by `exited`."""
        self._socket.send(pickle.dumps(("kill", pid)))

    def exited(self, timeout: float = 0.0) -> tuple[int, int] | None:
        """(pid, return code) of a child that ended, -N for signal N; None if none did within `timeout` seconds."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return None
        message = self._receive()
        return int(message["pid"]), int(message["code"])

    def fileno(self) -> int:
        """The descriptor that is readable when `exited` has something to say."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the helper and what is left of its children."""
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        data = self._socket.recv(_MESSAGE)
        if not data:
            raise RuntimeError("the process that starts isolated children has died")
        message: dict[str, Any] = pickle.loads(data)
        return message


class _Helper:
    """The helper's side. It runs nothing but this, in one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def run(self) -> NoReturn:
        try:
            self._serve()
        finally:
            for pid in self._children:
                _kill_group(pid)
            os._exit(0)

    def _serve(self) -> None:
        os.setsid()  # Ctrl-C and the launcher's signals are the rank's business
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with Path(os.devnull).open("r+b") as null:  # the launcher waits until nobody holds its pipes
            for fd in (0, 1, 2):
                os.dup2(null.fileno(), fd)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        kept = sorted((self._socket.fileno(), wake_read, wake_write))
        for low, high in zip([2, *kept], [*kept, 1 << 16], strict=True):
            os.closerange(low + 1, high)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            readable = select.select([self._socket.fileno(), wake_read], [], [])[0]
            if wake_read in readable:
                os.read(wake_read, 4096)
                self._report_exits()
            if self._socket.fileno() in readable and not self._answer():
                return

    def _answer(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._socket, _MESSAGE, 2)
        if not data:
            return False  # the rank is gone
        verb, *arguments = pickle.loads(data)
        if verb == "spawn":
            self._spawn(*arguments, *fds)
        elif verb == "kill" and arguments[0] in self._children:
            _kill_group(arguments[0])
        return True

    def _spawn(self, args: list[str], extra: dict[str, str], channel: int, output: int) -> None:
        import subprocess  # where it is needed: most helpers never start a child

        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_LAUNCHER_VARIABLES) or name in LOCAL_RANK_VARIABLES
        }
        try:
            child = subprocess.Popen(
                [extra.get("SWIFTPY_PYTHON", sys.executable), *args, str(channel), str(os.getpid())],
                env=env | extra,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[channel],
                start_new_session=True,
            )
        except (OSError, ValueError) as problem:  # the rank's to judge, which lives on
            self._socket.send(pickle.dumps({"problem": problem}))
            return
        finally:
            os.close(channel)
            os.close(output)
        self._children[child.pid] = child
        self._socket.send(pickle.dumps({"pid": child.pid}))

    def _report_exits(self) -> None:
        for pid, child in list(self._children.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)  # what the child started; before it is reaped, while its number is still its own
            del self._children[pid]
            self._socket.send(pickle.dumps({"pid": pid, "code": child.wait()}))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
