"""Directories on a node's local disk that jobs share, keep from each other, and clean up after each other.

A job holds a lock on each directory that it uses. The kernel drops the lock however the job ends, so a directory that
nobody holds is garbage, or a copy that the next job may use again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

#: In a directory that is meant to outlive its job: what it is a copy of.
KEEP = ".keep"


class Hold:
    """A lock on a directory; other jobs may hold it as well, and nobody removes it meanwhile."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self, remove: bool = False) -> bool:
        """Let go, and if asked to, remove the directory unless others hold it. Returns whether it was removed."""
        removed = remove and _alone(self._fd) and _remove(self.path)
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


def make(path: Path) -> Hold:
    """Make a directory that only this job knows, and hold it."""
    path.mkdir(parents=True, mode=0o700)
    held = hold(path)
    if held is None:
        raise FileNotFoundError(None, "another job removed it", str(path))
    return held


def keep(path: Path, source: Path) -> None:
    """Let a directory outlive its job, until it is swept by one that has newer data from the same source."""
    (path / KEEP).write_bytes(os.fsencode(source))


def sweep(parent: Path, pattern: str, source: Path | None = None) -> list[str]:
    """Remove the directories that match and that nobody holds, but those to be kept; return their names.

    The caller holds the newest copy of `source`: older ones go even if they were to be kept.
    """
    removed = []
    for path in sorted(parent.glob(pattern)):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if not _is_kept(path, source) and _alone(fd) and _is_at(fd, path) and _remove(path):
                    removed.append(path.name)
            finally:
                os.close(fd)
    return removed


def _is_kept(path: Path, source: Path | None) -> bool:
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


def _remove(path: Path) -> bool:
    """Under a name that nobody looks for, first: removing takes time."""
    trash = path.with_name(f".{path.name.lstrip('.')}.trash-{os.getpid()}")
    path.rename(trash)
    for folder, _, _ in os.walk(trash):  # read-only directories are staged as they were
        Path(folder).chmod(0o700)
    shutil.rmtree(trash, ignore_errors=True)
    return True
