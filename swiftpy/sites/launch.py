"""Start the UPF application on a site, and what all who start ranks need: the launcher, its signals, its leftovers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

from swiftpy.errors import BAD_INPUT, DONE, UserError
from swiftpy.parent import end_with_parent
from swiftpy.sites.schedulers import JOBID, signal_steps
from swiftpy.sites.script import launch_command, values
from swiftpy.sites.settings import settings_of
from swiftpy.sites.site import Site, load_site

_USAGE = """\
Start the UPF application on a site: here and now, or as a job where the site has a scheduler.

    python -m swiftpy.sites SITE UPF DFLTS [OPTIONS]

runs `python -m swiftpy.upf UPF DFLTS OPTIONS` on the site's ranks. SITE is a name, such as local, aurora or slurm, or
the path of a .toml file; OPTIONS are those of `python -m swiftpy.upf --help`. For example:

    python -m swiftpy.sites local upf-12.json dflts.json
    PROJECT=mine python -m swiftpy.sites aurora upf-770.json dflts.json --dry-run
"""
_SHARED_MEMORY = Path("/dev/shm")
#: Bytes of it that MPICH takes for each rank: 5.3 MB, measured with 2 to 24.
_SHARED_BY_RANK = 5.5e6
_STALE, _SETTLED, _LOOK = 60.0, 1.0, 0.2  # seconds


def command(site: Site, arguments: list[str]) -> list[str]:
    """The command line that starts the ranks. UserError if the launcher is not installed."""
    launch = launch_command(site, values(site, settings_of(site, os.environ)))
    return [find_launcher(launch[0]), *launch[1:], sys.executable, "-m", "swiftpy.upf", *arguments]


def find_launcher(name: str = "mpiexec") -> str:
    """The launcher's path. UserError if it is not installed.

    An MPI from PyPI puts its launcher beside Python, but never into /usr/bin: what is beside the system's Python may be
    of another MPI than the one whose module the user has loaded, which comes before it in PATH.
    """
    here = "" if sys.prefix == "/usr" else str(Path(sys.executable).parent)
    launcher = shutil.which(name, path=here) or shutil.which(name)
    if launcher is None:
        raise UserError(f"{name} is not installed: pip install mpich, or load the site's MPI module")
    return launcher


def run(arguments: list[str]) -> int:
    """Run or submit on `ARGUMENTS[0]`, a site; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return DONE if arguments else BAD_INPUT
    try:
        site = load_site(arguments[0])
        if site.scheduler or {"--plan", "--dry-run"} & set(arguments):  # PROCS may be more than this machine can start
            os.execv(sys.executable, [sys.executable, "-m", "swiftpy.upf.submit", *arguments])
        full = command(site, [*arguments[1:], *(() if arguments[0] == "local" else ("--site", arguments[0]))])
        extra = {**site.environment, **({"SWIFTPY_SERVER_SLOT": "1"} if site.server_slot else {})}
        os.environ.update({name: value for name, value in extra.items() if name not in os.environ})
        return supervise(full, ranks=int(values(site, settings_of(site, os.environ))["RANKS"]))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def supervise(command: list[str], told_to_end: Callable[[], None] = lambda: None, ranks: int = 0) -> int:
    """Run the launcher, pass signals on to it, and return its exit code; `told_to_end` is called after the first one.

    `ranks` are those that it starts on this machine, as far as that is known.

    The launcher gets a session of its own, so that Ctrl-C in a terminal reaches it once, through us, and not a
    second time from the terminal, which would mean: kill everything now. UserError: it cannot be started.
    """
    remove_segments(older_than=_STALE)
    warn_of_crashes(ranks)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who started us may ignore it, and subprocess take any exit for 0
    process = _start(command)
    signals: list[int] = []
    # In batch jobs only: where salloc gave the nodes, the user's shell may be a step of its job, and we in it.
    steps_of = os.environ.get(JOBID) if Path(command[0]).name == "srun" else None

    def forward(number: int, frame: FrameType | None) -> None:
        # MPICH's mpiexec takes a second SIGINT for itself: it kills all ranks, without a summary, and returns 1 or 255.
        sent = signal.SIGTERM if number == signal.SIGHUP or signals else number
        if not (steps_of and signal_steps(steps_of, sent)) and not _signal_ranks(process.pid, sent):
            process.send_signal(sent)
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, forward)
    told = False
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_LOOK)
            break
        if signals and not told:
            told = True
            told_to_end()
    if code:
        remove_segments(older_than=_SETTLED)
    return code if code >= 0 else 128 - code


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=handed_on(1),
            stderr=handed_on(2),
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()),  # it must not go on unseen when we are killed: SIGKILL
        )
    except OSError as error:  # a script whose interpreter is gone, a program for another machine
        raise UserError(f"{command[0]} cannot be started ({error.strerror}): load another MPI module") from error


def _signal_ranks(launcher: int, number: int) -> bool:
    """Signal the ranks that Open MPI's launcher has started on this machine; False for launchers of others.

    Told to end itself, it kills them at once: RUNs lose what they did since their last checkpoint. Its other children
    may be its ways to other machines.
    """
    children, signalled = "", False
    with contextlib.suppress(OSError):  # it has ended, or this kernel keeps no such list
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    for child in children.split():
        with contextlib.suppress(OSError):  # that one has
            if b"\0OMPI_COMM_WORLD_RANK=" in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
                os.kill(int(child), number)
                signalled = True
    return signalled


def handed_on(descriptor: int) -> int | None:
    """The launcher's stdout (1) or stderr (2), for Popen: ours, but nothing where that is closed, as daemons have it.

    MPICH's mpiexec ends at once if one is missing. That it is, too, where a file that was opened since has the number.
    """
    try:
        return None if os.get_inheritable(descriptor) else subprocess.DEVNULL
    except OSError:
        return subprocess.DEVNULL


def warn_of_crashes(ranks: int) -> None:
    """Say so if this machine has too little shared memory for so many ranks.

    A container has 64 MB unless its owner asks for more: of 12 ranks one died of a segmentation fault while MPI began,
    and the launcher said that this is typically a problem of the application.
    """
    with contextlib.suppress(OSError):  # there is none, which MPI may do without
        status = os.statvfs(_SHARED_MEMORY)
        free, needed = status.f_bavail * status.f_frsize, ranks * _SHARED_BY_RANK
        if status.f_blocks and free < needed:  # a tmpfs of size=0, which has no limit, says that it has none
            said = f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB left, and {ranks} ranks may need {needed / 1e6:.0f}"
            print(f"swiftpy: {said}: with less they crash; start a container with --shm-size=1g", file=sys.stderr)


def remove_segments(older_than: float) -> None:
    """Remove shared memory that MPICH left behind after an abnormal end: ours, and mapped by no process.

    `older_than`, in seconds, spares the segment that another job makes at this moment and has not mapped yet.
    """
    ours = [s for s in _SHARED_MEMORY.glob("mpich_shm_*") if _is_ours(s, older_than)]
    mapped = "".join(_maps()) if ours else ""
    for segment in ours:
        if str(segment) not in mapped:
            segment.unlink(missing_ok=True)


def _is_ours(segment: Path, older_than: float) -> bool:
    try:
        status = segment.stat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.getuid() and time.time() - status.st_mtime >= older_than


def _maps() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's and so cannot map what is ours
            yield maps.read_text(errors="replace")
