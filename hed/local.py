"""Directories on a node's local disk that a process which is killed does not leave there for good.

Who makes one holds a lock on it, which the kernel drops however the process ends. So one that nobody holds is garbage,
and whoever comes next on that node removes it. Nodes may share TMPDIR and yet know their own locks only: names end with
the node's, and so do the patterns of what is swept.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

_held: dict[Path, int] = {}


def make(path: Path) -> None:
    """Make an empty directory, in the place of what is left there, and hold it until `remove`."""
    shutil.rmtree(path, ignore_errors=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # a sweep must not find it before it is held
    fresh.mkdir(parents=True)
    _held[path] = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a file system without locks: nothing there is ever swept
        fcntl.flock(_held[path], fcntl.LOCK_SH)
    fresh.rename(path)


def remove(path: Path) -> None:
    """Remove a directory that this process has made, if it is still there."""
    shutil.rmtree(path, ignore_errors=True)
    if path in _held:
        os.close(_held.pop(path))


def sweep(parent: Path, pattern: str) -> None:
    """Remove the directories that match and that nobody holds."""
    for path in parent.glob(pattern):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
