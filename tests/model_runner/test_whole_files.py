"""Files that are replaced as a whole."""

import errno
import os
import stat

import pytest

from model_runner.files import replacing, write_file


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    """Some file systems say it only when they are asked to have it on disk."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "result.txt"
    write_file(path, "old\n")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new\n")
    with pytest.raises(ValueError), replacing(path) as file:
        file.write(b"half")
        raise ValueError
    assert os.listdir(tmp_path) == ["result.txt"] and path.read_text() == "old\n"  # noqa: PTH208


def test_the_name_is_on_disk_too(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    write_file(tmp_path / "result.txt", "new\n")
    assert flushed == [False, True]
