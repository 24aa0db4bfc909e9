"""Results on disk by key: append-only files with checksums, in which a killed job leaves at most a torn end."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import socket
import struct
import time
import zlib
from pathlib import Path

_MAGIC = b"spR1"
_HEADER = struct.Struct("<4s16sQI")  # magic, key, length of the data, checksum of the data
_CHECK = struct.Struct("<I")  # checksum of the header, which follows it: who walks the file relies on the length
_PREFIX = _HEADER.size + _CHECK.size
_numbers = itertools.count()  # of the files of this process


class Records:
    """All records of a directory, and this process' own new file in it.

    Each process that adds records has a file of its own: two jobs at once disturb neither each other nor what is
    there, and nothing is ever appended behind a torn record. Of records with equal keys the last counts: others may
    have been such that nobody could read them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._where: dict[bytes, tuple[Path, int]] = {}  # key -> file, offset
        self._buffer: list[bytes] = []
        self._unsaved: dict[bytes, int] = {}  # key -> its offset, once it is saved
        self._own: tuple[Path, int] | None = None  # its descriptor, too
        self._end = 0
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.glob("*.records")):
            self._scan(path)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where or key in self._unsaved

    def get(self, key: bytes) -> bytes | None:
        """The data of a saved record; None if there is none, or if it was removed or changed on disk."""
        where = self._where.get(key)  # once: another thread may find it damaged, and forget it
        if where is None:
            return None
        path, offset = where
        # Not kept open: a thousand jobs leave as many files.
        with contextlib.suppress(FileNotFoundError, struct.error), path.open("rb") as file:
            file.seek(offset)
            _, found, length, checksum = _HEADER.unpack(file.read(_PREFIX)[: _HEADER.size])
            if found == key:
                data = file.read(length)
                if zlib.crc32(data) == checksum:
                    return data
        self.forget(key)
        return None

    def forget(self, key: bytes) -> None:
        """A saved record is of no use: one that is added takes its place, also for later jobs."""
        self._where.pop(key, None)  # another thread may have found the same

    def add(self, key: bytes, data: bytes) -> None:
        """Add a record; it is safe, and can be got, after `save`."""
        header = _HEADER.pack(_MAGIC, key, len(data), zlib.crc32(data))
        self._unsaved[key] = self._end
        self._buffer += (header, _CHECK.pack(zlib.crc32(header)), data)
        self._end += _PREFIX + len(data)

    def save(self) -> None:
        """Bring what was added to disk. After an OSError it is forgotten, and what comes next takes its place."""
        if not self._buffer:
            return
        data, self._buffer = memoryview(b"".join(self._buffer)), []
        unsaved, self._unsaved = self._unsaved, {}
        end = self._end - len(data)  # of what is safe
        try:
            if self._own is None:
                self._own = self._new_file()
            path, file = self._own
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        except OSError:
            own, self._own, self._end = self._own, None, 0
            if own is not None:  # else it needs a new file; of which a disk that stays full would get thousands
                os.ftruncate(own[1], end)
                self._own, self._end = own, end
            raise
        self._where.update((key, (path, offset)) for key, offset in unsaved.items())

    def _new_file(self) -> tuple[Path, int]:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{os.getpid()}-{next(_numbers)}.records"
        path = self._directory / name
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        directory = os.open(self._directory, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(directory)
        os.close(directory)
        return path, file

    def _scan(self, path: Path) -> None:
        size = path.stat().st_size
        if size < _PREFIX:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as data:
            offset = 0
            while offset + _PREFIX <= size:
                header = data[offset : offset + _HEADER.size]
                magic, key, length, _ = _HEADER.unpack(header)
                intact = magic == _MAGIC and _CHECK.unpack_from(data, offset + _HEADER.size)[0] == zlib.crc32(header)
                following = offset + _PREFIX + length
                if not intact or following > size:
                    return  # torn: nothing comes after it
                self._where[key] = path, offset
                offset = following
