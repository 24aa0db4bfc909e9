"""Staging, where every rank stands for the leader of a node: whole on all of them, or the same reason on all."""

import os
import random
import re
import stat
import subprocess
from pathlib import Path

import pytest
from mpi4py import MPI

from hooks.leader import stage_data
from hooks.prelaunch import stage_software
from swiftpy.runtime.group import GroupError
from swiftpy.runtime.stage import stage_archive, stage_tree, stream
from swiftpy.runtime.stage.stream import CHUNK

pytestmark = pytest.mark.mpi(min_size=3)


def snapshot(root):
    """Everything that staging promises to keep."""
    found = {}
    for path in [root, *root.rglob("*")]:
        if path.name == ".staged.json":
            continue
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        if path.is_symlink():
            content = os.readlink(path)  # noqa: PTH115  # a Path would change ./x
        mode = None if path == root else (stat.S_IMODE(status.st_mode), status.st_mtime_ns)
        found[str(path.relative_to(root))] = (stat.S_IFMT(status.st_mode), content, mode)
    found["."] = None  # the target itself is new
    return found


@pytest.fixture
def source(world, shared):
    root = shared / "source"
    if world.rank == 0:
        chance = random.Random(1)
        root.mkdir()
        (root / "empty folder").mkdir()
        for folder in ("a", "a/b", "a/ü"):
            (root / folder).mkdir()
            for number in range(40):
                path = root / folder / f"{number}.bin"
                path.write_bytes(chance.randbytes(chance.choice([0, 1, 511, 70_000])))
                path.chmod(chance.choice([0o600, 0o644, 0o755, 0o444]))
                os.utime(path, ns=(1, chance.randrange(10**18)))
        (root / "large").write_bytes(chance.randbytes(CHUNK * 5 + 17))
        (root / "a/link").symlink_to("./b/../b/0.bin")
        (root / "dangling").symlink_to("/nowhere/at/all")
        (root / "to folder").symlink_to("a")
        (root / "a/ü").chmod(0o555)
        os.utime(root / "a", ns=(5, 5))
    world.gather(None)
    return root


def stage(world, shared, source, **options):
    return stage_tree(MPI.COMM_WORLD, source, shared / f"node{world.rank}" / "copy", **options)


def agreed(world, shared, action, match):
    """It fails on all ranks, none of which waits for another for ever, for the same reason, and leaves no part."""
    with pytest.raises(GroupError, match=match) as caught:
        action()
    assert len(set(world.gather(str(caught.value)))) == 1
    assert not list((shared / f"node{world.rank}").glob(".*")), "a part was left behind"


@pytest.mark.parametrize(("wrong", "why"), [("/", "nothing can lie beside"), ("$DISK/original", "the variable is")])
def test_a_setting_that_is_wrong_on_one_node_is_said_on_all_with_the_node(world, shared, wrong, why):
    """It named no node, and the others waited for it; data went to `$DISK/` in the directory of the submission."""
    env = {"DATA_SOURCE": "/data", "TMP_ORIGINAL": wrong if world.rank == 1 else f"{shared}/node{world.rank}/original"}
    match = rf"^[^;]+ node 1: cannot use TMP_ORIGINAL: ValueError: TMP_ORIGINAL={re.escape(wrong)}: {why}[^;]*$"
    agreed(world, shared, lambda: next(stage_data(MPI.COMM_WORLD, env)), match)


def test_software_that_cannot_be_looked_at_is_said_on_all(world, shared):
    """The others waited for the one leader that looks."""
    env = {"SOFTWARE_SOURCE": f"/{300 * 's'}", "SOFTWARE_TARGET": f"{shared}/node{world.rank}/software"}
    agreed(world, shared, lambda: next(stage_software(MPI.COMM_WORLD, env)), "File name too long$")


def test_a_tree_arrives_with_all_it_has(world, shared, source):
    staged = stage(world, shared, source)
    assert staged.files == 121
    assert snapshot(staged.folder) == snapshot(source)


def test_again_only_what_changed_or_was_damaged_is_sent(world, shared, source):
    copy = stage(world, shared, source).folder
    assert stage(world, shared, source).files == 0
    inode = (copy / "a/0.bin").stat().st_ino
    if world.rank == 0:
        (source / "large").write_bytes(b"new")
    if world.rank == 1:  # damaged, with size and time as before
        times = (copy / "a/1.bin").stat()
        (copy / "a/1.bin").chmod(0o600)
        (copy / "a/1.bin").write_bytes(bytes(times.st_size) or b"x")
        os.utime(copy / "a/1.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    if world.rank == 2:
        (copy / "a/b/2.bin").unlink()
    world.gather(None)
    staged = stage(world, shared, source)
    assert staged.files == 3
    assert snapshot(copy) == snapshot(source)
    assert (copy / "a/0.bin").stat().st_ino == inode


@pytest.mark.parametrize("outside", [False, True], ids=["to another of its folders", "out of it"])
def test_what_has_become_of_another_kind_replaces_what_it_was(world, shared, source, outside):
    """Through a link in the place of a folder, files went where it led; nothing of that tells a checksum before."""
    elsewhere = shared / f"elsewhere{world.rank}"
    elsewhere.mkdir()
    (elsewhere / "0.bin").write_text("the user's")
    if world.rank == 0:
        (source / "latest").symlink_to("a")
    world.gather(None)
    copy = stage(world, shared, source).folder
    if outside:
        (copy / "latest").unlink()
        (copy / "latest").symlink_to(elsewhere)
    if world.rank == 0:
        (source / "latest").unlink()
        (source / "latest").mkdir()
        (source / "latest/0.bin").write_bytes(b"of latest")
        for name, kind in {"to folder": "dir", "empty folder": "link", "large": "dir", "a/b": "file"}.items():
            path = source / name
            subprocess.run(["rm", "-r", path], check=True)
            {"dir": path.mkdir, "link": lambda p=path: p.symlink_to("a"), "file": lambda p=path: p.write_text("b")}[
                kind
            ]()
    world.gather(None)
    stage(world, shared, source)
    assert snapshot(copy) == snapshot(source)
    assert (elsewhere / "0.bin").read_text() == "the user's"


def test_what_is_found_behind_a_link_is_not_taken_for_there(world, shared, source):
    """The link gives way to the folder that belongs there, and what was behind it would be missing."""
    copy = stage(world, shared, source).folder
    (copy / "a/b").rename(shared / f"moved{world.rank}")
    (copy / "a/b").symlink_to(shared / f"moved{world.rank}")
    stage(world, shared, source)
    assert snapshot(copy) == snapshot(source)


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_any_number_of_readers_gives_the_same_bytes(world, monkeypatch, readers):
    from swiftpy.runtime.group import Group

    length = 23 * CHUNK + 5
    got = []

    def read(offset, view):
        view[:] = bytes([offset // CHUNK]) * len(view)

    def consume(pieces):
        got.extend((piece[0], piece[-1], len(piece)) for piece in pieces)

    monkeypatch.setattr(stream, "READERS", readers)
    stream.broadcast(Group(MPI.COMM_WORLD), length, read, consume)
    assert got == [(n, n, CHUNK if n < 23 else 5) for n in range(24)]


def test_a_failure_ends_a_long_stream_at_once(world, shared, monkeypatch):
    """No more chunks travel than were under way, on any rank; what the readers had not read they never do."""
    from swiftpy.runtime.group import Group

    read, arrived, put = [], [], stream._Sink.put

    def consume(pieces):
        for number, _ in enumerate(pieces):
            if world.rank == 1 and number == 3:
                raise OSError(5, "Input/output error", "/local/disk")

    def action():
        stream.broadcast(Group(MPI.COMM_WORLD), 10_000 * CHUNK, lambda offset, view: read.append(offset), consume)

    monkeypatch.setattr(stream._Sink, "put", lambda sink, piece: put(sink, arrived.append(piece) or piece))
    agreed(world, shared, action, r"node 1: cannot stage: Input/output error \(/local/disk\)")
    assert sum(world.gather(len(read))) < 1_000
    assert max(world.gather(len(arrived))) < 1_000


def test_failures_anywhere_in_a_stream_end_it_on_all_ranks(world, monkeypatch):
    """At its beginning or its end, on readers or others, on several at once; the next stream has nothing of it."""
    from swiftpy.runtime.group import Group

    monkeypatch.setattr(stream, "CHUNK", 100)
    group, chance = Group(MPI.COMM_WORLD), random.Random(3)
    for _ in range(60):
        count = chance.randrange(1, 120)
        monkeypatch.setattr(stream, "READERS", chance.randrange(1, world.size + 1))
        fails = {(chance.randrange(world.size), chance.choice(["read", "consume"])): chance.randrange(count)}
        fails |= {(chance.randrange(world.size), "consume"): chance.randrange(count)} if chance.random() < 0.3 else {}
        got = bytearray()

        def fail(what, number, fails=fails):
            if fails.get((world.rank, what), 10**6) <= number:
                raise ValueError("on purpose")

        def read(offset, view, fail=fail):
            fail("read", offset // 100)
            view[:] = bytes([offset // 100]) * len(view)

        def consume(pieces, got=got, fail=fail):
            for number, piece in enumerate(pieces):
                fail("consume", number)
                got.extend(piece[:1])

        try:
            stream.broadcast(group, 100 * count, read, consume)
        except GroupError as error:
            assert "on purpose" in str(error)
            assert got == bytes(range(len(got)))
        else:  # the rank that was to fail in reading did not read so far
            assert got == bytes(range(count))
            assert all(what == "read" for _, what in fails)


def test_a_target_that_cannot_be_made_ends_it_on_all_nodes(world, shared, source):
    if world.rank == 1:
        (shared / "node1" / "copy").write_text("in the way")
    agreed(world, shared, lambda: stage(world, shared, source), r"node 1: cannot use .*node1/copy: Not a directory")
    assert not (shared / "node2" / "copy").exists()


def test_a_read_only_disk(world, shared, source):
    disk = shared / f"node{world.rank}"
    mount_small(world, disk, "size=100m,ro", at=2)
    try:
        agreed(world, shared, lambda: stage(world, shared, source), r"node 2: cannot make .*: Read-only file system")
    finally:
        unmount(world, disk, at=2)


def mount_small(world, disk, options, at):
    failed = False
    if world.rank == at:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        failed = subprocess.run(command, capture_output=True).returncode != 0
    if any(world.gather(failed)):
        pytest.skip("a small file system can only be mounted as root")


def unmount(world, disk, at):
    if world.rank == at:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    world.gather(None)


def test_too_little_room_is_seen_before_the_first_byte(world, shared, source):
    disk = shared / f"node{world.rank}"
    mount_small(world, disk, "size=1m", at=1)
    try:
        action = lambda: stage(world, shared, source)  # noqa: E731
        agreed(world, shared, action, r"node 1: cannot make .*: \d+\.\d MB are needed, \d\.\d MB are free")
    finally:
        unmount(world, disk, at=1)


def test_what_killed_jobs_left_makes_room_for_the_next(world, shared):
    """Every later job ended for want of the room that a copy took which nobody would ever use."""
    if world.rank == 0:
        (shared / "data").mkdir()
        (shared / "data/rsp_merged.parquet").write_bytes(bytes(5 << 20))
    disk = shared / f"node{world.rank}"
    mount_small(world, disk, "size=8m", at=1)
    try:
        left = disk / ".original-0123456789ab.part-01234567"
        left.mkdir()
        (left / "rsp_merged.parquet").write_bytes(bytes(4 << 20))
        env = {"DATA_SOURCE": str(shared / "data"), "TMP_ORIGINAL": str(disk / "original"), "STAGE_KEEP": "0"}
        hook = stage_data(MPI.COMM_WORLD, env)
        assert (Path(next(hook)["TMP_ORIGINAL"]) / "rsp_merged.parquet").stat().st_size == 5 << 20
        assert next(hook, None) is None and not list(disk.iterdir())
    finally:
        unmount(world, disk, at=1)


@pytest.mark.parametrize("given", [None, "", "/nowhere/at/all", "there"])
def test_what_the_data_hook_is_given_in_variables(world, shared, monkeypatch, given):
    """A name with $ in it passed the check, and failed here; TMPDIR may be empty, or on the login node alone."""
    data, own = shared / "da$$ta", shared / f"node{world.rank}"
    if world.rank == 0:
        data.mkdir()
        (data / "rsp_merged.parquet").touch()
    monkeypatch.delenv("TMPDIR", raising=False)
    if given is not None:
        monkeypatch.setenv("TMPDIR", str(own) if given == "there" else given)
    hook = stage_data(MPI.COMM_WORLD, {"DATA_SOURCE": str(data), "TMP_ORIGINAL": str(own / "original")})
    variables = next(hook)
    assert next(hook, None) is None
    assert ("TMPDIR" not in variables) if given == "there" else variables["TMPDIR"].startswith(f"{own}/original-job-")


def test_what_killed_jobs_left_of_a_target_goes(world, shared, source):
    """Where a hook of the user's own stages to one place, nobody else would remove it."""
    node = shared / f"node{world.rank}"
    left, others = node / ".copy.part-01234567", node / ".copy.part-of-mine"
    for folder in (left / "a", others):
        folder.mkdir(parents=True)
    stage_tree(MPI.COMM_WORLD, source, node / "copy").held.release()
    assert sorted(path.name for path in node.iterdir()) == [others.name, "copy"]


def test_a_disk_that_fills_up_meanwhile(world, shared, source):
    """A compressed archive does not say how large it is unpacked."""
    archive = shared / "zeros.tar.gz"
    if world.rank == 0:
        (shared / "zeros").write_bytes(bytes(64 << 20))
        subprocess.run(["tar", "-czf", archive, "-C", shared, "zeros"], check=True)
    disk = shared / f"node{world.rank}"
    mount_small(world, disk, "size=10m", at=1)
    try:
        action = lambda: stage_archive(MPI.COMM_WORLD, archive, disk / "copy")  # noqa: E731
        agreed(world, shared, action, r"node 1: cannot stage: No space left on device")
        assert not (disk / "copy").exists()
    finally:
        unmount(world, disk, at=1)


@pytest.mark.parametrize("size", [CHUNK, CHUNK * 5 + 17], ids=["shorter", "written to"])
def test_a_source_that_changes_while_it_is_read(world, shared, source, monkeypatch, size):
    """The reader that finds it, one of three, stops all."""
    real = stream.broadcast

    def changed(group, length, read, consume):
        if world.rank == 0:
            with (source / "large").open("r+b") as file:
                file.truncate(size)
                file.write(b"new")
        world.gather(None)
        real(group, length, read, consume)

    monkeypatch.setattr("swiftpy.runtime.stage.staging.broadcast", changed)
    agreed(world, shared, lambda: stage(world, shared, source), r"it was changed while it was staged \(.*large\)")


def test_chosen_files(world, shared, source):
    staged = stage(world, shared, source, names=["large", "a/b/0.bin"])
    assert staged.files == 2
    there = {str(path.relative_to(staged.folder)) for path in staged.folder.rglob("*")}
    assert there == {"large", "a", "a/b", "a/b/0.bin", ".staged.json"}
    agreed(world, shared, lambda: stage(world, shared, source, names=["large", "a"]), r"it is no file \(.*source/a\)")


def test_bytes_that_change_on_their_way(world, shared, source, monkeypatch):
    if world.rank == 2:
        monkeypatch.setattr(stream._Sink, "put", lambda sink, piece: sink._pieces.put(memoryview(bytes(len(piece)))))
    agreed(world, shared, lambda: stage(world, shared, source), r"node 2: what arrived is not what was sent")


def test_no_source(world, shared):
    agreed(world, shared, lambda: stage(world, shared, shared / "none"), r"node 0: cannot list .*none: No such file")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst"])
def test_an_archive_is_unpacked_once(world, shared, source, kind):
    archive = shared / f"source.{kind}"
    if world.rank == 0:
        (source / "dangling").unlink()  # it leads out
        options = {"tar": [], "tar.gz": ["-z"], "tar.zst": ["--zstd"]}[kind]
        subprocess.run(["tar", *options, "--format=posix", "-cf", archive, "-C", source, "."], check=True)
    world.gather(None)
    target = shared / f"node{world.rank}" / "copy"
    assert stage_archive(MPI.COMM_WORLD, archive, target).files == 1
    assert content(snapshot(target)) == content(snapshot(source))
    assert stage_archive(MPI.COMM_WORLD, archive, target).files == 0
    if world.rank == 1:
        (target / "large").write_bytes(b"damaged")
    assert stage_archive(MPI.COMM_WORLD, archive, target).files == 1
    assert content(snapshot(target)) == content(snapshot(source))


def content(found):
    """Less the nanoseconds, which tarfile reads as a float."""
    return {
        p: e and (e[0], e[1], (e[2][0], e[2][1] // 10**6) if e[0] != stat.S_IFLNK else None) for p, e in found.items()
    }


def test_an_unsafe_archive_is_refused_on_all_nodes(world, shared, source):
    archive = shared / "evil.tar"
    if world.rank == 0:
        subprocess.run(["tar", "-cPf", archive, "-C", source, "a", "/etc/hostname"], check=True)
    world.gather(None)
    target = shared / f"node{world.rank}" / "copy"
    action = lambda: stage_archive(MPI.COMM_WORLD, archive, target)  # noqa: E731
    agreed(world, shared, action, "/etc/hostname would lie outside the target")
    assert not target.exists()
