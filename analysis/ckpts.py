"""`clean-ckpts.sh`: remove models of older epochs. The checkpoint module removes those of its own job only.

`best` and `last` are never touched, and the ckpt-info.json of every epoch stays.
"""

import os
import re
import shutil
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from analysis.command import (
    AnalysisError,
    add_exp,
    add_formats,
    count_text,
    exp_path,
    note,
    notes,
    positive,
    show,
    size_text,
)
from analysis.exp import checkpoint_directory, checkpoints, run_directories

INFO = "ckpt-info.json"


@dataclass
class Old:
    """What of an epoch is to be removed, and how many bytes that frees (files with other hard links free none)."""

    directory: Path
    entries: list[Path]
    size: int


def clean(parser: ArgumentParser, arguments: list[str]) -> None:
    """`clean-ckpts.sh D [N]`."""
    add_exp(parser)
    parser.add_argument(
        "keep", metavar="N", nargs="?", type=positive, default=3, help="models to keep besides best, last (3)"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")
    add_formats(parser)
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp)
    problems: list[str] = []
    runs = run_directories(exp)
    found = [old for run in runs for old in old_models(run, options.keep)]
    size = sum(old.size for old in found)
    if not options.dry_run:
        found = [old for old in found if _remove(old, problems)]
    verb = "would remove" if options.dry_run else "removed"
    lines = [f"{verb} {old.directory.relative_to(exp)} ({size_text(old.size)})" for old in found]
    rows = [{"directory": str(old.directory), "bytes": old.size} for old in found]
    free = f"{'would free' if options.dry_run else 'freed'} {size_text(size)}"
    show(options, rows, [*lines, f"{verb} the models of {len(found)} epochs: {free}"])
    if elsewhere := [run for run in runs if not _is_own(run)]:
        place = checkpoint_directory(elsewhere[0]).resolve()
        note(f"{count_text(len(elsewhere), 'RUN')} not looked at: checkpoints outside of the RUN directory ({place})")
    notes(problems)
    if problems:
        raise AnalysisError(f"{len(problems)} files could not be removed")


def old_models(run: Path, keep: int) -> list[Old]:
    """The epochs that have a model and are neither linked nor among the `keep` newest (1 or more).

    The newest is never old: a job at work may not have linked it yet.
    """
    if not _is_own(run):
        return []
    epochs = checkpoint_directory(run) / "epochs"
    saved = sorted((int(path.name), path) for path in _list(epochs) if path.name.isdecimal() and _has_model(path))
    kept = linked_epochs(run) | {epoch for epoch, _ in saved[-keep:]}
    return [_old(path) for epoch, path in saved if epoch not in kept]


def _is_own(run: Path) -> bool:
    """Whether the RUN's checkpoints lie in its own directory: what lies elsewhere is not this EXP's to clean."""
    epochs = checkpoint_directory(run) / "epochs"
    return not run.is_symlink() and epochs.resolve().is_relative_to(run.resolve())


def linked_epochs(run: Path) -> set[int]:
    """The epochs of `best` and `last`, by the number at the end of the link.

    Links of the original system are absolute: they name another EXP after a restart, and yet mean the copy in
    this one. Where `best` is no link (lost in a crash: the original removes it before it makes the new one), the
    records of the epochs tell which one was best; where `last` is none, the newest epoch is kept.
    """
    found = {}
    for name in ("best", "last"):
        link = checkpoint_directory(run) / name
        match = re.search(r"(\d+)/*$", str(link.readlink()) if link.is_symlink() else "")
        if match:
            found[name] = int(match[1])
    if len(found) == 2:
        return set(found.values())
    saved = checkpoints(run)
    metrics = [record.best for record in saved]
    if "best" not in found and metrics and metrics[-1] is not None:
        first = metrics.index(metrics[-1])  # the epoch since which the best has not changed
        found["best"] = saved[first].epoch
    if "last" not in found and saved:
        found["last"] = saved[-1].epoch
    return set(found.values())


def _has_model(directory: Path) -> bool:
    return not directory.is_symlink() and any(entry.name != INFO for entry in _list(directory))


def _list(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:  # there is none, or a job at work has removed it in this moment
        return []


def _old(directory: Path) -> Old:
    entries = [path for path in _list(directory) if path.name != INFO]
    files = [Path(top, name) for entry in entries for top, _, names in os.walk(entry) for name in names]
    files += [entry for entry in entries if entry.is_file()]
    size = 0
    for file in files:
        try:
            status = file.lstat()
        except OSError:
            continue
        size += status.st_size if status.st_nlink == 1 else 0
    return Old(directory, entries, size)


def _remove(old: Old, problems: list[str]) -> bool:
    for entry in old.entries:
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{entry}: {error.strerror}")
            return False
    return True
