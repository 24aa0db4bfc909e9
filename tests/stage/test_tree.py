"""Trees as entries and a stream: what is listed, read and written, in one process."""

import os
import random
import socket

import pytest

from swiftpy.runtime.stage.tree import (
    TreeReader,
    TreeWriter,
    checksum_of,
    finish_folders,
    make_folders,
    make_links,
    scan,
    write_file,
)


@pytest.fixture
def source(tmp_path):
    root, chance = tmp_path / "source", random.Random(1)
    for number, (name, size) in enumerate(
        {"a/b/0": 0, "a/b/1": 100, "a/c": 0, "a.b": 1, "z/0": 33, "z/1": 0, "z/2": 0}.items()
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
        path.chmod(0o666 if number % 2 else 0o440)
        os.utime(path, ns=(1, 10**18 + number))
    (root / "a/link").symlink_to("./b/../c")
    os.utime(root / "a/link", ns=(7, 7), follow_symlinks=False)
    (root / "z").chmod(0o555)
    os.utime(root / "a/b", ns=(5, 5))
    return root


def without_ctimes(entries):
    return [entry._replace(ctime=0) for entry in entries]


def files_of(entries):
    return [entry for entry in entries if entry.kind == "file"]


def chunks(reader, total, size):
    for offset in range(0, total, size):
        buffer = bytearray(min(size, total - offset))
        reader(offset, memoryview(buffer))
        yield memoryview(buffer)


def test_folders_come_before_what_is_in_them_and_all_by_name(source):
    kinds = {"a": "dir", "a/b": "dir", "a/b/0": "file", "a/b/1": "file", "a/c": "file", "a/link": "link"}
    kinds |= {"a.b": "file", "z": "dir", "z/0": "file", "z/1": "file", "z/2": "file"}
    assert [(entry.path, entry.kind) for entry in scan(source)] == list(kinds.items())
    changed = (source / "a.b").stat().st_ctime_ns
    assert next(entry for entry in scan(source) if entry.path == "a.b").ctime == changed


@pytest.mark.parametrize("size", [1, 7, 33, 34, 100, 101, 134, 1000])
def test_a_tree_in_chunks_of_any_size_becomes_the_same_tree(source, tmp_path, size):
    entries, target = scan(source), tmp_path / "target"
    files = files_of(entries)
    left_out = [entry for entry in files if entry.path in ("a/b/1", "z/0")]
    writer = TreeWriter(target, files, [entry not in left_out for entry in files])
    make_folders(target, entries)
    writer(chunks(TreeReader(source, files), sum(entry.size for entry in files), size))
    assert writer.checksums == [checksum_of(source / entry.path) for entry in files]
    for path, _, mode, mtime, *_ in left_out:
        write_file(str(target / path), mode, mtime, [memoryview((source / path).read_bytes())])  # not there so far
    make_links(target, entries)
    finish_folders(target, entries)
    assert without_ctimes(scan(target)) == without_ctimes(entries)
    assert all((target / entry.path).read_bytes() == (source / entry.path).read_bytes() for entry in files)


@pytest.mark.parametrize("change", [b"X" * 100, b"", b"X" * 101], ids=["as long", "empty", "longer"])
def test_a_file_that_was_changed_since_it_was_listed(source, change):
    """Chunks from before and after a change would make a file that never was."""
    reader = TreeReader(source, files_of(scan(source)))
    (source / "a/b/1").chmod(0o600)
    (source / "a/b/1").write_bytes(change)
    with pytest.raises(OSError, match="changed while it was staged"):
        reader(0, memoryview(bytearray(10)))


def test_a_file_is_read_and_written_whole_where_a_call_takes_a_part_of_it(source, tmp_path, monkeypatch):
    write, read, whole = os.write, os.preadv, bytearray(134)
    monkeypatch.setattr(os, "preadv", lambda file, views, offset: read(file, [views[0][:3]], offset))
    TreeReader(source, files_of(scan(source)))(0, memoryview(whole))
    assert bytes(whole) == b"".join((source / name).read_bytes() for name in ("a/b/1", "a.b", "z/0"))
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    write_file(str(tmp_path / "x"), 0o600, 5, [memoryview(b"01234567"), memoryview(b"89")])
    assert (tmp_path / "x").read_bytes() == b"0123456789"


def test_nothing_is_written_over_nor_through_a_link(tmp_path):
    (tmp_path / "there").write_text("kept")
    (tmp_path / "dangling").symlink_to("elsewhere")
    for name in ("there", "dangling"):
        with pytest.raises(FileExistsError):
            write_file(str(tmp_path / name), 0o600, 5, [memoryview(b"x")])
    assert (tmp_path / "there").read_text() == "kept" and not (tmp_path / "elsewhere").exists()


def test_chosen_files_come_with_the_folders_above_them(source):
    names = ["a/b/1", "a.b", "a/link"]
    chosen = scan(source, names)
    assert [(entry.path, entry.kind) for entry in chosen] == [
        ("a", "dir"),
        ("a/b", "dir"),
        ("a/b/1", "file"),
        ("a.b", "file"),
        ("a/link", "file"),
    ]
    with pytest.raises(OSError, match="it is no file") as caught:
        scan(source, ["a/b"])
    assert caught.value.filename == str(source / "a/b")


def test_what_is_neither_file_nor_folder_nor_link(source, monkeypatch):
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    with pytest.raises(OSError, match="neither a file nor a folder nor a link") as caught:
        scan(source)
    assert caught.value.filename == str(source / "socket")
