"""Bring into a new EXP what its RUNs need of the old one, which is never changed.

A RUN to `skip` comes whole, with its markers: it is finished, and readers want the results. A RUN to
`resume` comes without the files that tell how it ended (result, history, scores, predictions,
`stop.marker`): it writes them again at its end, and until then they would be a false answer. Of a `new` or
`fresh` one nothing comes.

Why no `stop.marker`: it makes the runner skip the RUN. One that is true has a result beside it, and then
`restart.plan` says skip; one without a result (the job died between the two) would leave the RUN without
results for good, while the early-stopping state in the checkpoint stops it again at once; and where more
epochs are asked for than before, it is out of date.

Hard links (no time, no space) only for files that nobody opens for writing again: models in `epochs/NNN/`,
and the predictions of finished RUNs. Everything else is copied, with its times. The new EXP is its owner's to write
to, also where the old one is write-protected (`chmod -R a-w EXP000`).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from swiftpy.experiment.exp import Exp
from swiftpy.experiment.files import flush_file_system
from swiftpy.experiment.restart import Decision

_OUTCOME = ("result.txt", "history.txt", "stop.marker", "*_scores.json", "*_predicted.csv")
#: RUNs at once. On a parallel file system to copy a small file is a dozen round trips to its servers: at 5 ms a file,
#: 770 RUNs with 200 epochs each take a quarter of an hour one after another, and all nodes wait.
_AT_ONCE = 16
_EPOCH = re.compile(r"/epochs/(\d+)$")


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes copied and hard-linked, and the symbolic links left out because they lead out of the EXP."""

    copied: int
    linked: int
    dropped: tuple[Path, ...]


def carry(old: Exp, new: Exp, decisions: Iterable[Decision]) -> Carried:
    """Carry over markers and RUN directories; on disk when this returns. Journal `job_started` after it.

    `old` is what `restart.source` returned, `new` is fresh from `create`. OSError, such as a full disk: `new` is
    useless, `old` as it was.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = list(pool.map(partial(_carry_run, old, new), decisions))
    flush_file_system(new.root)
    copied, linked = sum(run.copied for run in runs), sum(run.linked for run in runs)
    return Carried(copied, linked, tuple(link for run in runs for link in run.dropped))


def _carry_run(old: Exp, new: Exp, decision: Decision) -> _Carrier:
    carrier = _Carrier(old.root)
    if decision.verdict in ("skip", "resume"):
        carrier.directory(old.run_dir(decision.id), new.run_dir(decision.id), decision.verdict == "skip")
    for name in decision.markers:
        carrier.copy(old.markers / name, new.markers / name)
    return carrier


class _Carrier:
    def __init__(self, old_root: Path) -> None:
        self._old_root = old_root
        self.copied = 0
        self.linked = 0
        self.dropped: list[Path] = []

    def directory(self, source: Path, target: Path, finished: bool, top: bool = True) -> None:
        """Carry a directory; `top`: it is the RUN's own, where the outcome files lie."""
        target.mkdir()
        # By which a project's directory hands its group down, to what the RUN will make as well.
        setgid = target.stat().st_mode & stat.S_ISGID
        with os.scandir(source) as entries:
            # Links come last: what they lead to is in place then.
            ordered = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        names = {entry.name for entry in ordered}
        for entry in ordered:
            from_path, to_path = Path(entry.path), target / entry.name
            outcome = top and any(fnmatch(entry.name, pattern) for pattern in _OUTCOME)
            if outcome and not finished:
                continue
            if entry.is_symlink():
                self._link(from_path, to_path)
            elif entry.is_dir():
                if entry.name != "work" or "epochs" not in names:  # half a checkpoint
                    self.directory(from_path, to_path, finished, top=False)
            elif entry.is_file():
                if (outcome and fnmatch(entry.name, "*_predicted.csv")) or _is_model(from_path):
                    self._hard_link(from_path, to_path)
                else:
                    self.copy(from_path, to_path)
        shutil.copystat(source, target)
        _give(target, target.stat().st_mode, stat.S_IRWXU | setgid)

    def copy(self, source: Path, target: Path) -> None:
        """Copy one file with its times."""
        shutil.copy2(source, target)
        status = target.stat()
        _give(target, status.st_mode, stat.S_IRUSR | stat.S_IWUSR)
        self.copied += status.st_size

    def _hard_link(self, source: Path, target: Path) -> None:
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, one without hard links, or a file of another user
            self.copy(source, target)
        else:
            self.linked += target.stat().st_size

    def _link(self, source: Path, target: Path) -> None:
        """Make a symbolic link again so that it stays inside the new EXP, or leave it out.

        The original system wrote `best` and `last` as absolute links, some into an EXP before the old one
        (`best -> .../EXP283/run/RUN000/ckpts/epochs/002`): they mean the epoch of that number beside them.
        """
        to = source.readlink()
        epoch = _EPOCH.search(str(to)) if to.is_absolute() and source.name in ("best", "last") else None
        if epoch:
            to = Path("epochs", epoch[1])
            stays = (target.parent / to).is_dir()
        else:
            goal = Path(os.path.normpath(source.parent / to))
            stays = goal.is_relative_to(self._old_root)
            if to.is_absolute():
                to = Path(os.path.relpath(goal, source.parent))
        if stays:
            target.symlink_to(to)
        else:
            self.dropped.append(source)


def _give(path: Path, mode: int, rights: int) -> None:
    """Let the owner have these rights, whatever came over from a write-protected EXP; the rest of its mode stays."""
    if mode & rights != rights:
        path.chmod(mode | rights)


def _is_model(file: Path) -> bool:
    return file.parent.parent.name == "epochs" and file.suffix != ".json"
