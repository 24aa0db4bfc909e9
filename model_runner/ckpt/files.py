"""Directories that are there as a whole or not at all, with checksums of what is in them."""

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from model_runner.files import fsync

CHECKSUMS = "checksums.json"


def put_directory(work: Path, target: Path, write: Callable[[Path], None]) -> None:
    """Make `target`, or replace it, by what `write(directory)` writes; on disk when this returns.

    `work`: a directory on the same file system, for this purpose only. Killed at any moment, it leaves the old
    `target` or the new one, or none where there was an old one, which lies in `work` then.
    """
    shutil.rmtree(work, ignore_errors=True)  # what a killed save has left
    new, old = work / "new", work / "old"
    new.mkdir(parents=True)
    write(new)
    _write_checksums(new)
    for path in (*new.iterdir(), new):
        fsync(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # after a roll back: a directory that is not empty cannot be replaced by a rename
        target.rename(old)
    new.rename(target)
    fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write_checksums(directory: Path) -> None:
    # A .npz carries checksums of its own, which are verified whenever it is read.
    sums = {path.name: None if path.suffix == ".npz" else crc32(path) for path in sorted(directory.iterdir())}
    (directory / CHECKSUMS).write_text(json.dumps(sums) + "\n", encoding="utf-8")


def verify_checksums(directory: Path) -> None:
    """ValueError or FileNotFoundError names a file that is not as it was written.

    Checkpoints of CANDLE itself have no checksums.
    """
    sums = directory / CHECKSUMS
    if not sums.exists():
        return
    for name, expected in json.loads(sums.read_text(encoding="utf-8")).items():
        (directory / name).stat()
        if expected is not None and crc32(directory / name) != expected:
            raise ValueError(f"{name} is not as it was written (checksum)")


def replace_link(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, or change it to that, in one step."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync(link.parent)


def crc32(path: Path) -> int:
    """CRC32 of a file's bytes."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
