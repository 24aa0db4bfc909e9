"""Staging of a tree or an archive: who needs what, is there room, stream, verify, put in place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union

import xxhash

from swiftpy.runtime.group import Group
from swiftpy.runtime.stage import local, tree
from swiftpy.runtime.stage.stream import broadcast
from swiftpy.runtime.stage.tree import Entry
from swiftpy.runtime.stage.unpack import Unpacker

if TYPE_CHECKING:
    from mpi4py import MPI

#: In a staged directory: where it came from; size and XXH3 of every file in it, and where every link points.
RECORD = ".staged.json"
_BLOCK = 4096
_Contents = dict[str, "list[int] | str"]
#: Where to stage to: a path, or a function of the source's identity, a text that changes with whatever changes there.
Target = Union[Path, "Callable[[str], Path]"]
#: Called with a folder and the target: may change files in the folder before it gets the target's name, and returns
#: their names in it.
Adapt = Callable[[Path, Path], Sequence[str]]
#: Called on each node before room is looked for: may remove what nobody holds. The target is held by then.
MakeRoom = Callable[[], None]


@dataclass(frozen=True)
class Staged:
    """What staging did. `held` keeps other jobs from removing `folder`; release it when it is no longer used.

    `files` and `size` (bytes) count what was sent, as at least one node did not have it.
    """

    folder: Path
    held: local.Hold
    files: int
    size: int


def stage_tree(
    leaders: MPI.Comm,
    source: Path,
    target: Target,
    names: Sequence[str] | None = None,
    adapt: Adapt | None = None,
    make_room: MakeRoom = lambda: None,
) -> Staged:
    """Bring a directory, or the files in it that are named, to `target` on every node; all leaders call it.

    A file that is at the target with the right checksum is not sent again. Others there are left alone. GroupError
    on all leaders if it fails on one; no target has changed then, unless the last step, renaming, failed. See
    `Target`, `Adapt` and `MakeRoom`.
    """
    group = Group(leaders)
    listed = group.together(f"list {source}", lambda: tree.scan(source, names) if group.rank == 0 else None)
    entries: list[Entry] = group.broadcast(listed)
    files = [entry for entry in entries if entry.kind == "file"]
    origin = {entry.path: [entry.size, entry.mtime, entry.ctime] for entry in files}
    with _Place(group, target, [str(source.resolve()), entries]) as place:
        known = group.together(f"verify {place.target}", lambda: _intact(place.target, origin))
        sent = _wanted_anywhere(group, files, known)
        wanted = [entry.path not in known for entry in sent]
        place.make([entry.size for entry, want in zip(sent, wanted, strict=True) if want], make_room)
        group.together(f"write {place.part}", lambda: tree.make_folders(place.part, entries))
        writer = tree.TreeWriter(place.part, sent, wanted)
        size = sum(entry.size for entry in sent)
        broadcast(group, size, tree.TreeReader(source, sent), writer)
        place.same_everywhere(writer.checksums)
        arrived: _Contents = {e.path: [e.size, c] for e, c in zip(sent, writer.checksums, strict=True)}

        def finish() -> None:
            tree.make_links(place.part, entries)
            place.put(origin, {**known, **arrived}, adapt)
            tree.finish_folders(place.target, entries)

        group.together(f"write {place.target}", finish)
        return Staged(place.target, place.keep(), len(sent), size)


def stage_archive(
    leaders: MPI.Comm,
    archive: Path,
    target: Target,
    adapt: Adapt | None = None,
    make_room: MakeRoom = lambda: None,
) -> Staged:
    """Unpack a tar, plain or compressed by gzip or zstd, at `target` on every node; all leaders call it.

    It is unpacked while it arrives; the archive itself is stored nowhere. Where the target holds the same archive,
    intact, it is left alone. GroupError as for `stage_tree`; also for a broken or unsafe archive (see `unpack`).
    """
    group = Group(leaders)
    identity = group.together(f"read {archive}", lambda: _identity(archive) if group.rank == 0 else None)
    origin: dict[str, list[int]] = group.broadcast(identity)
    size, mtime, _ = origin[str(archive)]
    with _Place(group, target, origin) as place:
        mine = not group.together(f"verify {place.target}", lambda: _is_whole(place.target, origin))
        if not any(group.gather(mine)):
            return Staged(place.target, place.keep(), 0, 0)
        place.make([size] if mine else [], make_room)
        consumer = Unpacker(place.part) if mine else _Passing()
        reader = tree.TreeReader(archive.parent, [Entry(archive.name, "file", 0, mtime, size)])
        broadcast(group, size, reader, consumer)
        place.same_everywhere(consumer.checksum)

        def finish() -> None:
            if isinstance(consumer, Unpacker):
                place.put(origin, consumer.contents, adapt)
                tree.finish_folders(place.target, consumer.folders)

        group.together(f"write {place.target}", finish)
        return Staged(place.target, place.keep(), 1, size)


class _Place:
    """The target on this node, and the directory beside it in which it is made."""

    def __init__(self, group: Group, target: Target, identity: Any) -> None:
        if not isinstance(target, Path):
            target = target(hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest())
        self.target = Path(os.path.realpath(target))
        self._group = group
        self._held: local.Hold | None = None
        self._making: local.Hold | None = None

    def __enter__(self) -> _Place:
        self._held = self._group.together(f"use {self.target}", lambda: local.hold(self.target))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._making:
            self._making.release(remove=True)
        if self._held and error:
            self._held.release()

    @property
    def part(self) -> Path:
        """Where the target is made."""
        assert self._making is not None
        return self._making.path

    def make(self, sizes: Sequence[int], make_room: MakeRoom) -> None:
        """Make `part` on all nodes, if there is room on all for files of these sizes (bytes; may differ by node)."""

        def action() -> None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            local.sweep(self.target.parent, local.unfinished(re.escape(self.target.name.lstrip("."))))
            make_room()
            _check_room(self.target.parent, sizes)
            self._making = local.make(self.target)

        self._group.together(f"make {self.target}", action)

    def same_everywhere(self, checksums: Any) -> None:
        """Raise on all ranks if not all found the same."""
        digests = self._group.gather(xxhash.xxh3_64_intdigest(repr(checksums).encode()))
        usual = max(set(digests), key=digests.count)
        differs = digests[self._group.rank] != usual
        self._group.agree(f"{self._group.name}: what arrived is not what was sent" if differs else None)

    def put(self, origin: Mapping[str, list[int]], contents: _Contents, adapt: Adapt | None) -> None:
        """Give what is in `part` the target's name; where there is a target, its files one by one."""
        for name in adapt(self.part, self.target) if adapt else ():
            contents[name] = _content(self.part / name) or ""
        (self.part / RECORD).write_text(json.dumps({"origin": origin, "contents": contents}), encoding="ascii")
        if self._held is None:
            assert self._making is not None
            try:
                self._making.rename(self.target)
            except OSError:  # another job has been faster
                self._held = local.hold(self.target)
                if self._held is None:
                    raise
            else:
                self._held, self._making = self._making, None
                return
        _merge(self.part, self.target)

    def keep(self) -> local.Hold:
        """The lock on the target, now the caller's."""
        assert self._held is not None
        held, self._held = self._held, None
        return held


class _Passing:
    """Consumes a stream that only others need."""

    checksum = 0

    def __call__(self, pieces: Iterator[memoryview]) -> None:
        checksum = xxhash.xxh3_64()
        for piece in pieces:
            checksum.update(piece)
        self.checksum = checksum.intdigest()


def _wanted_anywhere(group: Group, files: Sequence[Entry], known: Mapping[str, Any]) -> list[Entry]:
    mine = b"" if not known else bytes(entry.path not in known for entry in files)  # b"": all
    answers = set(group.gather(mine))
    if b"" in answers:
        return list(files)
    return [entry for number, entry in enumerate(files) if any(answer[number] for answer in answers)]


def _intact(target: Path, origin: Mapping[str, list[int]]) -> _Contents:
    """The files at the target that are what staging them again would give."""
    record = _record(target)
    same = {
        name: content
        for name, content in record["contents"].items()
        if name in origin and record["origin"].get(name) == origin[name]
    }
    folders = {(target / name).parent for name in same}
    # A link in the place of a folder is not kept, so what lies behind it does not count.
    real = {folder for folder in folders if os.path.realpath(folder) == str(folder)}
    return {
        name: content
        for name, content in same.items()
        if (target / name).parent in real and _content(target / name) == content
    }


def _is_whole(target: Path, origin: Mapping[str, list[int]]) -> bool:
    record = _record(target)
    return bool(record["origin"] == origin) and all(
        _content(target / name) == content for name, content in record["contents"].items()
    )


def _record(target: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((target / RECORD).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {"origin": {}, "contents": {}}
    return record


def _content(path: Path) -> list[int] | str | None:
    """As it stands in a record: [size, XXH3] of a file, the text of a link; None for what is neither."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(path)  # noqa: PTH115  # a Path would change ./x
        return [status.st_size, tree.checksum_of(path)] if stat.S_ISREG(status.st_mode) else None
    except OSError:
        return None


def _identity(archive: Path) -> dict[str, list[int]]:
    status = archive.stat()
    return {str(archive): [status.st_size, status.st_mtime_ns, status.st_ctime_ns]}


def _check_room(folder: Path, sizes: Sequence[int]) -> None:
    disk = os.statvfs(folder)
    needed = sum(-(-size // _BLOCK) * _BLOCK for size in sizes)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise OSError(None, f"{needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free", str(folder))
    if disk.f_files and len(sizes) > disk.f_favail:
        raise OSError(None, f"{len(sizes)} files are needed, {disk.f_favail} more can be made", str(folder))


def _merge(part: Path, target: Path) -> None:
    """Move all files and links to where they belong; a reader of an old file keeps it whole.

    What the target has of another kind under a name makes room for it. No link there is followed: one in the place of a
    folder would lead files into another, or out of the target.
    """
    for folder, folders, files in os.walk(part):
        here = target / Path(folder).relative_to(part)
        if not _is_folder(here):
            here.unlink(missing_ok=True)
            here.mkdir()
        here.chmod(here.stat().st_mode | stat.S_IRWXU)  # a read-only folder gets its mode back at the end
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            if _is_folder(here / name):
                local.remove_tree(here / name)
            Path(folder, name).replace(here / name)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
