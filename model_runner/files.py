"""Files that are there as a whole or not at all, and on disk."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that is written in pieces, and takes the place of `path` at the end: on disk then, with its name.

    An error leaves what was there, and nothing else. No process id is in the temporary name: in containers that share a
    disk every job may be number 17.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def forget_unfinished(directory: Path) -> None:
    """Remove what `replacing` has left in a directory where a process was killed in the middle of it.

    For the only process that writes there: what another one writes at this moment has such a name, too.
    """
    for path in directory.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", path.name) and path.is_file():
            path.unlink()


def fsync(path: Path) -> None:
    """Have a file or directory on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
