"""Small files that are either old or new, never half: written beside, flushed, renamed."""

import ctypes
import os
import secrets
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Make `text` (UTF-8) the whole content of `path`, also for a reader or a crash in the middle of it.

    Names of files that are no UTF-8 stay the bytes that they are.

    The temporary name starts with a dot, which no RUN id does, and is no other writer's: why host and process id would
    not do for that, `runtime.stage.local.unique` says. OSError (disk full, no permission) leaves the old content and no
    temporary file.
    """
    temporary = path.with_name(f".{path.name[:150]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush(path: Path) -> None:
    """Make the content of a file, or the names in a directory, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_file_system(path: Path) -> None:
    """Make everything written so far to the file system that holds `path` survive a crash of the machine.

    One call in place of an fsync per file. `os.sync` would wait for every mounted file system, and hang
    with any of them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)
