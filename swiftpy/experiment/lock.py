"""Who is working on an EXP: a file held by the server, with a heartbeat that works on a shared file system.

The lock never protects an EXP from two writers (names are claimed atomically, a restart makes a new EXP): it
keeps a restart from training again what another job is training at this moment.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from swiftpy.errors import ENGINE_THREAD, UserError
from swiftpy.experiment.exp import Exp
from swiftpy.experiment.files import replace_text

BEAT_S = 10.0
DEAD_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock. `machine` and `start` (clock ticks after boot) are "" where there is no /proc."""

    host: str
    pid: int
    start: str
    machine: str
    jobid: str

    def __str__(self) -> str:
        if not self.pid:
            return "a job whose lock cannot be read"
        job = f"job {self.jobid}" if self.jobid else "a job"
        return f"{job} on {self.host} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class LockState:
    """What `holder` found: nobody (`owner` None) or an owner; `age` in seconds since the last beat."""

    owner: Owner | None
    alive: bool
    age: float


class Lock:
    """The lock of this process on one EXP. It beats until it is released, whatever else the process does meanwhile:
    to copy models, stage software, or print a summary takes minutes."""

    def __init__(self, exp: Exp, jobid: str = "") -> None:
        """Take the lock. OSError: the EXP cannot be written."""
        self._path = exp.lock
        self._released = threading.Event()
        owner = Owner(socket.gethostname(), os.getpid(), _start_of(os.getpid()), _machine(), jobid)
        replace_text(self._path, json.dumps(asdict(owner)) + "\n")
        threading.Thread(target=self._beat, daemon=True, name=ENGINE_THREAD).start()

    def release(self) -> None:
        """Give the lock back at the end of the job."""
        self._released.set()
        with contextlib.suppress(OSError):  # nothing beats it any more, so it does not pass for a living job's for long
            self._path.unlink()

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a file system that is away for a moment must not end the job
                os.utime(self._path)


def holder(exp: Exp, clock_dir: Path, ended: str = "") -> LockState:
    """Who holds the EXP, without changing anything in it.

    In the same process table (machine, boot and PID namespace) the process itself is looked at; its start
    time tells it from a later one with the same number. Everywhere else the heartbeat decides, by the clock
    of the file system: the time that it gives to a new file in `clock_dir`, a directory on the same one.
    Clocks of two nodes may differ by more than the limit.

    `ended` is the id of a job that is known to be over, whatever its heartbeat: its scheduler killed it seconds ago.
    """
    try:
        beat = exp.lock.stat().st_mtime
        owner = Owner(**json.loads(exp.lock.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return LockState(None, False, 0.0)
    except (ValueError, TypeError, PermissionError):  # its node went down before the content was on disk; or another's
        owner = Owner("", 0, "", "", "")
    age = max(0.0, _file_system_time(clock_dir) - beat)
    if ended and owner.jobid == ended:
        return LockState(owner, False, age)
    if owner.machine and owner.machine == _machine():
        return LockState(owner, owner.start == _start_of(owner.pid), age)
    return LockState(owner, age < DEAD_S, age)


def refuse_if_alive(exp: Exp, clock_dir: Path, ended: str = "") -> str | None:
    """Before a restart: UserError if the job lives; a line for the user if it died; None if it ended.

    `ended`: see `holder`.
    """
    state = holder(exp, clock_dir, ended)
    if state.owner is None:
        return None
    if state.alive:
        raise UserError(
            f"{exp.id} is in use by {state.owner}, last heard of {state.age:.0f} s ago: stop that job first"
            f" (if it is dead already, try again in {DEAD_S:.0f} s)"
        )
    return f"{exp.id} was left by {state.owner}, which died {state.age:.0f} s ago or less"


def _machine() -> str:
    """Equal for two processes if and only if a PID means the same to both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When the process started, in clock ticks after boot; "" if there is none or it is a zombie.

    The name in the second field may hold blanks and parentheses, so fields count from the last parenthesis.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in b"ZX" else fields[19].decode()


def _file_system_time(directory: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\n")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # not writable, as with --plan on somebody else's EXP: this machine's clock has to do
        return time.time()
