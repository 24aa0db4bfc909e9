"""Leader hook: bring the training data from DATA_SOURCE to every node's local disk, read once for all nodes."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

CHUNK = 32 << 20


class StagingError(Exception):
    """The data could not be brought to a node; every leader raises it, with the reason of the one that failed."""


def stage_data(leaders: MPI.Intracomm, env: Mapping[str, str]) -> None:
    """Broadcast `DATA_SOURCE/*.parquet` to TMP-ORIGINAL on every node; prints `hook time`.

    TMP-ORIGINAL is `TMP_ORIGINAL` in the environment, by default /tmp/$USER/original. A file that is there with the
    same content is left alone; others are replaced by renaming, so that a reader of the old one keeps it whole.
    """
    began = time.monotonic()
    source = Path(env["DATA_SOURCE"])
    target = Path(os.environ.get("TMP_ORIGINAL") or f"/tmp/{env['USER']}/original")
    names = _together(leaders, lambda: _list(source) if leaders.rank == 0 else [], "list " + str(source))
    names = leaders.bcast(names)
    _together(leaders, lambda: target.mkdir(parents=True, exist_ok=True), f"make {target}")
    sent = [name for name in names if _stage_file(leaders, source / name, target / name)]
    if leaders.rank == 0:
        print(f"staged {len(sent)} of {len(names)} files from {source} to {target} on {leaders.size} nodes")
        print(f"hook time: {time.monotonic() - began:.3f}")


def _list(source: Path) -> list[str]:
    names = sorted(path.name for path in source.glob("*.parquet"))
    if not names:
        raise FileNotFoundError(f"{source} holds no *.parquet files: is DATA_SOURCE right?")
    return names


def _stage_file(leaders: MPI.Intracomm, source: Path, target: Path) -> bool:
    """Bring one file to every node; False if all have it already."""
    reading = f"read {source}"
    identity = _together(leaders, lambda: _identity(source) if leaders.rank == 0 else None, reading)
    identity = leaders.bcast(identity)
    if leaders.allreduce(int(not (target.exists() and _identity(target) == identity))) == 0:
        return False
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _broadcast_file(leaders, source, temporary)
        _together(leaders, lambda: _check_and_rename(temporary, target, identity), f"write {target}")
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _broadcast_file(leaders: MPI.Intracomm, source: Path, temporary: Path) -> None:
    file = _together(leaders, lambda: temporary.open("wb"), f"write {temporary}")
    reader: BinaryIO | None = source.open("rb") if leaders.rank == 0 else None
    with file:
        while True:
            chunk = _together(leaders, lambda: reader.read(CHUNK) if reader else b"", f"read {source}")
            chunk = leaders.bcast(chunk)
            if not chunk:
                break
            _together(leaders, lambda data=chunk: file.write(data), f"write {temporary}")  # type: ignore[misc]
    if reader:
        reader.close()


def _check_and_rename(temporary: Path, target: Path, identity: tuple[int, int] | None) -> None:
    if _identity(temporary) != identity:
        raise OSError("what arrived differs from what was sent")
    temporary.replace(target)


def _identity(path: Path) -> tuple[int, int]:
    """(size, CRC32) of a file."""
    crc = size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return size, crc


def _together(leaders: MPI.Intracomm, action: Callable[[], T], what: str) -> T:
    """Do something on every leader; if it fails on one, raise on all, naming the host.

    Without this, the leaders that succeeded would wait in the next collective for one that never comes.
    """
    result, reason = None, None
    try:
        result = action()
    except OSError as error:
        reason = f"{os.uname().nodename}: cannot {what}: {error.strerror or error}"
    reasons = [r for r in leaders.allgather(reason) if r]
    if reasons:
        raise StagingError("; ".join(reasons))
    return result  # type: ignore[return-value]  # None only when T is
