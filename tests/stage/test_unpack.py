"""Archives that arrive in pieces, and archives that mean harm."""

import gzip
import io
import lzma
import os
import random
import tarfile
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftpy.runtime.stage.unpack import Unpacker, UnsafeError


def make(*members):
    """A tar of (name, content) files and of TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpack(root, data, sizes=(1 << 20,)):
    def pieces():
        position, number = 0, 0
        while position < len(data):
            size = sizes[number % len(sizes)]
            yield memoryview(data)[position : position + size]
            position, number = position + size, number + 1

    root.mkdir()
    unpacker = Unpacker(root)
    unpacker(pieces())
    return unpacker


def chance_bytes(size):
    return random.Random(size).randbytes(size)


FILES = [(f"d/{size}", chance_bytes(size)) for size in (0, 1, 511, 512, 513, 2_500_000)]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["tar", "gzip", "zstd"])
@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=5))
def test_pieces_of_any_size_give_the_same_files(tmp_path_factory, compress, sizes):
    root = tmp_path_factory.mktemp("x") / "t"
    data = compress(make(*FILES))
    sizes[0] += 4000  # or the large file arrives in hundreds of thousands of pieces
    unpacker = unpack(root, data, sizes)
    assert {name: (root / name).read_bytes() for name, _ in FILES} == dict(FILES)
    assert sorted(unpacker.contents) == sorted(name for name, _ in FILES)


def test_several_frames_and_bytes_after_the_end(tmp_path):
    data = make(*FILES)
    frames = zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])
    one, two = unpack(tmp_path / "a", frames), unpack(tmp_path / "b", data + b"padding of a tape")
    assert one.contents == two.contents
    assert one.checksum == xxhash.xxh3_64_intdigest(frames)
    assert unpack(tmp_path / "c", data + b"padding", [512]).checksum == xxhash.xxh3_64_intdigest(data + b"padding")
    assert one.contents["d/513"] == [513, xxhash.xxh3_64_intdigest(dict(FILES)["d/513"])]


def test_modes_and_times_are_those_of_the_archive(tmp_path):
    """But for the bits that let a file run as its owner."""
    folder, script = special("d", tarfile.DIRTYPE), special("d/run", tarfile.REGTYPE)
    folder.mode, script.mode, folder.mtime, script.mtime = 0o2750, 0o4751, 1_700_000_000, 1_600_000_000.5
    before = os.umask(0o077)
    try:
        unpacker = unpack(tmp_path / "t", make(folder, script, special("h", HARDLINK, "d/run")))
    finally:
        os.umask(before)
    for name in ("d/run", "h"):
        found = (tmp_path / "t" / name).stat()
        assert (found.st_mode & 0o7777, found.st_mtime) == (0o751, 1_600_000_000.5)
    assert [(entry.path, entry.mode, entry.mtime) for entry in unpacker.folders] == [("d", 0o750, 17 * 10**17)]


HARDLINK, SYMLINK = tarfile.LNKTYPE, tarfile.SYMTYPE
EVIL = {
    "absolute": [("/tmp/evil", b"x")],
    "dots": [("a/../../evil", b"x")],
    "device": [special("null", tarfile.CHRTYPE)],
    "fifo": [special("pipe", tarfile.FIFOTYPE)],
    "absolute link": [special("link", SYMLINK, "/etc")],
    "link out": [special("a/link", SYMLINK, "../../evil")],
    "write through a link": [special("a", SYMLINK, "/tmp"), ("a/evil", b"x")],
    "chain": [("p/x", b""), special("p/up", SYMLINK, ".."), special("out", SYMLINK, "p/up/..")],
    "hard link out": [special("passwd", HARDLINK, "/etc/passwd")],
    "hard link to nothing": [special("a", HARDLINK, "b")],
    "hard link to a link": [special("b", SYMLINK, "/etc/passwd"), special("a", HARDLINK, "b")],
}


@pytest.mark.parametrize("members", EVIL.values(), ids=EVIL)
def test_what_means_harm_is_refused(tmp_path, members):
    before = {*tmp_path.parent.iterdir(), *Path("/tmp").iterdir()}
    with pytest.raises((UnsafeError, FileExistsError)):
        unpack(tmp_path / "t", make(*members))
    new = {*tmp_path.parent.iterdir(), *Path("/tmp").iterdir()} - before
    assert not [path for path in new if path.name in ("evil", "null", "pipe")]
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def test_folders_need_no_parents_and_may_come_twice(tmp_path):
    unpacker = unpack(tmp_path / "t", make(("d/e/a", b"x"), *[special("d/f", tarfile.DIRTYPE)] * 2, ("d/f/b", b"y")))
    assert (tmp_path / "t/d/e/a").exists() and (tmp_path / "t/d/f/b").exists()
    assert [entry.path for entry in unpacker.folders] == ["d/f"]
    unpack(tmp_path / "u", make(special("g/h", tarfile.DIRTYPE)))
    assert (tmp_path / "u/g/h").is_dir()


def test_an_absolute_link_into_the_target_is_refused(tmp_path):
    """What is unpacked gets another name when it is whole."""
    with pytest.raises(UnsafeError, match="outside the target"):
        unpack(tmp_path / "t", make(("a", b"x"), special("link", SYMLINK, str(tmp_path / "t/a"))))


def test_links_that_stay_inside(tmp_path):
    unpack(
        tmp_path / "t",
        make(
            special("early", SYMLINK, "d/later"),
            ("d/later", b"x"),
            special("d/up", SYMLINK, ".."),
            special("h", HARDLINK, "d/later"),
        ),
    )
    assert (tmp_path / "t/early").read_bytes() == (tmp_path / "t/d/up/h").read_bytes() == b"x"


def test_the_last_of_two_members_with_one_name_wins(tmp_path):
    linked_to_itself = special("a", HARDLINK, "a")  # `tar cf x.tar a a` writes that
    members = ("a", b"1"), ("a", b"22"), linked_to_itself, special("l", SYMLINK, "none"), ("l", b"3")
    unpack(tmp_path / "t", make(*members))
    assert (tmp_path / "t/a").read_bytes() == b"22"
    assert (tmp_path / "t/l").read_bytes() == b"3"


@pytest.mark.parametrize("cut", [100, 700, 512 + 1024, 3000, -1200, -1024])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["tar", "gzip", "zstd"])
def test_an_archive_that_was_cut_off(tmp_path, compress, cut):
    """tarfile itself takes an archive that ends after a member, or a damaged header, for whole."""
    data = make(("a", chance_bytes(1000)), ("b", chance_bytes(5000)))[: 512 + 1024 + 512 + 5120 + 1024]
    with pytest.raises(OSError, match="broken"):
        unpack(tmp_path / "t", compress(data[:cut]))


def zstd(data, **options):
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(data)


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_compressed_archive_that_was_damaged(tmp_path, compress):
    """The checksum comes after the end of the tar, where nobody looked: a file with another byte was put in place."""
    data = bytearray(compress(make(("a", chance_bytes(100_000)))))  # what is chance, both store as it is
    data[len(data) // 2] ^= 1
    with pytest.raises(OSError, match=r"the archive is broken: .*(CRC|checksum)"):
        unpack(tmp_path / "t", bytes(data))


def test_an_archive_for_which_zstd_needs_too_much_memory(tmp_path):
    large = zstandard.ZstdCompressionParameters(window_log=28)
    data = zstandard.ZstdCompressor(compression_params=large).compressobj()
    with pytest.raises(OSError, match="a window of more than 128 MiB: pack it without --long"):
        unpack(tmp_path / "t", data.compress(make(*FILES)) + data.flush())


def test_what_is_no_tar(tmp_path):
    with pytest.raises(OSError, match=r"no tar \(plain, gzip or zstd\)"):
        unpack(tmp_path / "t", lzma.compress(make(*FILES)))


def test_a_damaged_header(tmp_path):
    data = bytearray(make(("a", b"x"), ("b", b"y")))
    data[1024 + 5] = 255
    with pytest.raises(OSError, match="broken"):
        unpack(tmp_path / "t", bytes(data))
