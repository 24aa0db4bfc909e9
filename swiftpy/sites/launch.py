"""Start the UPF application on a site and wait for it.

    python -m swiftpy.sites SITE ARGUMENTS...

runs `python -m swiftpy.upf ARGUMENTS...` on the site's ranks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from swiftpy.errors import UserError
from swiftpy.sites.settings import Site, load_site, procs, resolve

_SHARED_MEMORY = Path("/dev/shm")


def command(site: Site, settings_procs: int, arguments: list[str]) -> list[str]:
    """The command line that starts the ranks. UserError if the launcher is not installed."""
    launch = [part.format(PROCS=settings_procs) for part in site.launch]
    here = str(Path(sys.executable).parent)  # an MPI from PyPI puts its launcher beside Python
    launcher = shutil.which(launch[0], path=here) or shutil.which(launch[0])
    if launcher is None:
        raise UserError(f"{launch[0]} is not installed: pip install mpich, or load the site's MPI module")
    return [launcher, *launch[1:], sys.executable, "-m", "swiftpy.upf", *arguments]


def run(arguments: list[str]) -> int:
    """Run `ARGUMENTS[0]` (a site) with the rest; return the job's exit code.

    The launcher gets a session of its own, so that Ctrl-C in a terminal reaches it once, through us, and not a
    second time from the terminal, which would mean: kill everything now.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    try:
        site = load_site(arguments[0])
        full = command(site, procs(resolve(site, os.environ)), arguments[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    before = _segments()
    process = subprocess.Popen(full, stdin=subprocess.DEVNULL, start_new_session=True)

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    code = process.wait()
    _remove_segments(_segments() - before)
    return code if code >= 0 else 128 - code


def _segments() -> set[Path]:
    return set(_SHARED_MEMORY.glob("mpich_shm_*"))


def _remove_segments(candidates: set[Path]) -> None:
    """Remove what MPICH leaves behind after an abnormal end, unless a process (of another job) has it mapped."""
    if not candidates:
        return
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped += maps.read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile, or is not ours
    for segment in candidates:
        if str(segment) not in mapped and segment.exists() and segment.stat().st_uid == os.getuid():
            segment.unlink(missing_ok=True)
