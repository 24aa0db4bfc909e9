"""Unpack a tar (plain, gzip, zstd) while it arrives, without trusting it.

Nothing is written outside the target: absolute names and ".." are refused, and symbolic links are made only when all
files are there, so that no file can be written through one. Devices, FIFOs and links that lead out are refused.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from swiftpy.runtime.stage.tree import Entry, make_links, write_file

_PIECE = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: Bytes that zstd may look back: a leader has 256 MB in all. More is what `zstd --long=28` and above ask for.
_LARGEST_WINDOW = 1 << 27


class UnsafeError(Exception):
    """The archive holds something that must not be unpacked."""


class Unpacker:
    """Unpacks the archive of a stream below `root`, an empty directory.

    `contents` has [size, XXH3] of each file and the text of each link, by path; `checksum` is the archive's XXH3.
    `folders` are for `tree.finish_folders`, once everything is in its place.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, Entry] = {}
        self._parents = {""}
        self.contents: dict[str, list[int] | str] = {}
        self.checksum = 0
        self.folders: list[Entry] = []

    def __call__(self, pieces: Iterator[memoryview]) -> None:
        """See stream.Consume. UnsafeError, or OSError for an archive that is broken."""
        raw = _Pieces(pieces)
        try:
            stream = _Forward(_decompress(raw))
            with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
                while (member := tar.next()) is not None:
                    tar.members.clear()  # 50,000 of them are 50 MB
                    self._unpack(member, stream)
            # tarfile takes for the end a damaged header, and that of an archive that was cut off after a member.
            if not stream.last or stream.last.strip(b"\0"):
                raise EOFError("it does not end as a tar does: was it cut off?")
            while stream.read_some(_PIECE):  # the checksum of gzip, or zstd, comes after the last byte of the tar
                pass
            raw.skip_rest()
        except tarfile.TarError as error:
            raise OSError(None, f"the archive is broken, or no tar (plain, gzip or zstd): {error}") from error
        except (zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise OSError(None, f"the archive is broken: {error}") from error
        self.checksum = raw.checksum.intdigest()
        entries = [entry for entry in self._names.values() if entry.path]
        make_links(self._root, entries)
        for entry in entries:
            if entry.kind == "link":
                self._check_link(entry)
        self.folders = sorted((e for e in entries if e.kind == "dir"), key=lambda entry: entry.path.count("/"))

    def _unpack(self, member: tarfile.TarInfo, stream: _Forward) -> None:
        path = self._safe(member.name)
        if member.islnk() and path in self._names and path == self._safe(member.linkname):
            return  # what GNU tar writes of a file that it is given a second time
        mode, mtime = member.mode & 0o777, int(member.mtime * 1e9)
        if member.isdir():
            (self._root / path).mkdir(parents=True, exist_ok=True)
            self._names[path] = Entry(path, "dir", mode, mtime)
            return
        self._make_room(path)
        if member.issym():
            self._names[path] = Entry(path, "link", mode, mtime, link=member.linkname)
            self.contents[path] = member.linkname
        elif member.islnk():
            first = self._safe(member.linkname)
            if first not in self._names or self._names[first].kind != "file":
                raise UnsafeError(f"{member.name} is a hard link to {member.linkname}, which is no file before it")
            (self._root / path).hardlink_to(self._root / first)
            self._names[path], self.contents[path] = self._names[first]._replace(path=path), self.contents[first]
        elif member.isreg() and not member.issparse():
            self.contents[path] = [member.size, self._write(path, mode, mtime, member.size, stream)]
            self._names[path] = Entry(path, "file", mode, mtime, member.size)
        else:
            raise UnsafeError(f"{member.name} is neither a plain file nor a folder nor a link")

    def _safe(self, name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise UnsafeError(f"{name} would lie outside the target")
        return "/".join(parts)

    def _make_room(self, path: str) -> None:
        """A later member of a name replaces an earlier one, and folders need no members of their own."""
        if not path:
            raise UnsafeError("a member has no name")
        old = self._names.pop(path, None)
        if old and old.kind == "file":
            (self._root / path).unlink()
        parent = path.rpartition("/")[0]
        if parent not in self._parents:
            (self._root / parent).mkdir(parents=True, exist_ok=True)
            self._parents.add(parent)

    def _write(self, path: str, mode: int, mtime: int, size: int, stream: _Forward) -> int:
        checksum = xxhash.xxh3_64()

        def parts() -> Iterator[memoryview]:
            left = size
            while left:
                part = stream.read_some(min(left, _PIECE))
                if not part:
                    raise EOFError("it ends in the middle of a file")
                checksum.update(part)
                left -= len(part)
                yield part

        write_file(f"{self._root}/{path}", mode, mtime, parts())
        return checksum.intdigest()

    def _check_link(self, entry: Entry) -> None:
        """By where it really leads: with `up -> .` inside, `up/../..` looks harmless in every single name."""
        inside = Path(os.path.realpath(self._root))
        if entry.link.startswith("/") or not Path(os.path.realpath(self._root / entry.path)).is_relative_to(inside):
            raise UnsafeError(
                f"{entry.path} is a link to {entry.link}, outside the target; `swiftpy stage pack` makes archives"
                " of environments that have none"
            )


def _decompress(raw: _Pieces) -> Any:
    start = raw.peek(4)
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=io.BufferedReader(raw, _PIECE))
    if start.startswith(_ZSTD):
        return _Zstd(raw)
    return raw


class _Zstd:
    """What zstd has packed, as a file to be read."""

    def __init__(self, raw: _Pieces) -> None:
        import zstandard  # only here: most jobs need none

        decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._stream: Any = decompressor.stream_reader(raw, read_size=_PIECE, read_across_frames=True)  # type: ignore[arg-type]
        self._error = zstandard.ZstdError

    def readinto(self, buffer: memoryview) -> int:
        """OSError for what needs too large a window; EOFError, as gzip raises, for what is damaged."""
        try:
            return int(self._stream.readinto(buffer))
        except self._error as error:
            if "too much memory" in str(error):
                limit = f"{_LARGEST_WINDOW >> 20} MiB"
                raise OSError(
                    None, f"to unpack it takes a window of more than {limit}: pack it without --long"
                ) from error
            raise EOFError(str(error)) from error


class _Pieces(io.RawIOBase):
    """The stream as a file, with the XXH3 of what was read."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.checksum = xxhash.xxh3_64()

    def readable(self) -> bool:
        return True

    def peek(self, count: int) -> bytes:
        """The first bytes, which stay to be read (as far as the first piece has them)."""
        self._next()
        return bytes(self._piece[:count])

    def read_some(self, count: int) -> memoryview:
        """Up to `count` bytes without a copy, valid until the next call; empty at the end."""
        if not self._piece:
            self._next()
        part, self._piece = self._piece[:count], self._piece[count:]
        return part

    def readinto(self, buffer: Any) -> int:
        part = self.read_some(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def skip_rest(self) -> None:
        """Read to the end: what follows the archive belongs to its checksum."""
        while self._piece or self._next():
            self._piece = memoryview(b"")

    def _next(self) -> bool:
        self._piece = next(self._pieces, memoryview(b""))
        self.checksum.update(self._piece)
        return bool(self._piece)


class _Forward:
    """What tarfile needs of a file, on one that can only be read on. `read_some` is the way around its copies.

    `last` is what `read` returned last.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._buffer = memoryview(bytearray(_PIECE))
        self._position = 0
        self.last = b"?"

    def read_some(self, count: int) -> memoryview:
        if isinstance(self._file, _Pieces):
            part = self._file.read_some(count)
        else:
            part = self._buffer[: self._file.readinto(self._buffer[:count])]
        self._position += len(part)
        return part

    def read(self, count: int) -> bytes:
        parts = []
        while count and (part := self.read_some(count)):
            parts.append(bytes(part))
            count -= len(part)
        self.last = b"".join(parts)
        return self.last

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError(f"cannot go back from {self._position} to {position}")
        while self._position < position and self.read_some(min(position - self._position, _PIECE)):
            pass
