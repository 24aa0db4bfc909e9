"""Directories on a node's local disk that jobs share, keep from each other, and clean up after each other.

A job holds a lock on each directory that it uses. The kernel drops the lock however the job ends, so a directory that
nobody holds is garbage, or a copy that the next job may use again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

#: In a directory that is meant to outlive its job: what it is a copy of.
KEEP = ".staged.keep"


class Hold:
    """A lock on a directory; other jobs may hold it as well, and nobody removes it meanwhile."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def rename(self, path: Path) -> None:
        """Give the directory another name. OSError if that is taken."""
        self.path.rename(path)
        self.path = path

    def release(self, remove: bool = False) -> bool:
        """Let go, and if asked to, remove the directory unless it is kept or others hold it.

        Returns whether it was removed.
        """
        removed = remove and not _is_kept(self.path) and _alone(self._fd) and remove_tree(self.path)
        os.close(self._fd)
        return removed


def hold(path: Path) -> Hold | None:
    """Hold a directory; None if there is none. PermissionError if it is another user's: what is in it may be, too."""
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_uid != os.geteuid():
            os.close(fd)
            raise PermissionError(None, "it belongs to another user", str(path))
        if _is_at(fd, path):
            return Hold(path, fd)
        os.close(fd)  # between open and lock, a job that ended removed it


def unique(path: Path, what: str) -> Path:
    """A hidden name beside a path that nobody else has: `.NAME.part-5f0c11ab`, where `what` is "part".

    No process id: in containers that share a disk every job may be number 17, and so may the one that was killed.
    """
    return path.with_name(f".{path.name.lstrip('.')}.{what}-{secrets.token_hex(4)}")


def unfinished(name: str) -> Callable[[Path], bool]:
    """A test for what a job was making, or removing, when it was killed: a directory called as `unique` calls it.

    `name` is a pattern for the name that the directory was to get, or had. Nobody has such names by chance.
    """
    pattern = re.compile(rf"\.({name})(\.(part|trash)-[0-9a-f]{{8}})+")
    return lambda path: pattern.fullmatch(path.name) is not None


def make(path: Path) -> Hold:
    """Make a directory beside `path` that only this job knows, and hold it: where what `path` will name is made."""
    while True:
        part = unique(path, "part")
        part.mkdir(parents=True, mode=0o700)
        if (held := hold(part)) is not None:  # else another job swept it before it was held
            return held


def keep(path: Path, source: Path) -> None:
    """Let a directory outlive its job, until it is swept by one that has newer data from the same source."""
    fresh = unique(path / KEEP, "part")  # or a disk that is full leaves an empty one, which would keep it for good
    fresh.write_bytes(os.fsencode(source))
    fresh.replace(path / KEEP)


def sweep(parent: Path, is_ours: Callable[[Path], bool], source: Path | None = None) -> list[str]:
    """Remove the directories that are ours and that nobody holds, but those to be kept; return their names.

    If `source` is given, the caller holds the newest copy of it: older ones go even if they were to be kept.
    """
    removed = []
    for path in sorted(parent.iterdir()):
        with contextlib.suppress(OSError):  # such as another user's
            if not is_ours(path):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                mine = os.fstat(fd).st_uid == os.geteuid()
                if mine and not _is_kept(path, source) and _alone(fd) and _is_at(fd, path) and remove_tree(path):
                    removed.append(path.name)
            finally:
                os.close(fd)
    return removed


def _is_kept(path: Path, source: Path | None = None) -> bool:
    try:
        of = (path / KEEP).read_bytes()
    except FileNotFoundError:
        return False
    return source is None or of != os.fsencode(source)


def _alone(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open directory still has this name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def remove_tree(path: Path) -> bool:
    """Remove a directory, under a name that nobody looks for, as that takes time; True."""
    trash = unique(path, "trash")
    path.rename(trash)
    for folder, _, _ in os.walk(trash):  # read-only directories are staged as they were
        Path(folder).chmod(0o700)
    shutil.rmtree(trash, ignore_errors=True)
    return True
