"""Directories that jobs share on a node: nobody loses what it uses, nothing stays that nobody uses."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hooks.node_local import NodeLocal, place_of, setting
from swiftpy.runtime.stage import Staged, local
from swiftpy.runtime.stage.staging import RECORD, _check_room

SOURCE = Path("/data/improve")


def staged(folder):
    held = local.hold(folder)
    assert held is not None
    return Staged(folder, held, 0, 0)


@pytest.fixture
def place(tmp_path):
    return NodeLocal(tmp_path / "original", SOURCE)


def copy(place, identity, content="x"):
    folder = place.copy_of(identity * 64)
    folder.mkdir(exist_ok=True)
    (folder / "t.parquet").write_text(content)
    (folder / RECORD).write_text("{}")
    return folder


def test_two_jobs_with_other_data_each_see_their_own(place, tmp_path):
    one, two = place, NodeLocal(tmp_path / "original", SOURCE)
    one.use(staged(copy(one, "a", "one")))
    first = one.own("EXP000")
    two.use(staged(copy(two, "b", "two")))
    second = two.own("EXP001")
    assert (first / "t.parquet").read_text() == "one" and (second / "t.parquet").read_text() == "two"
    assert (place.path / "t.parquet").read_text() == "two", "the link shows the last"
    two.leave(keep=False)
    assert (first / "t.parquet").read_text() == "one"
    one.leave(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_two_jobs_with_the_same_data_removes_them(place, tmp_path):
    two = NodeLocal(tmp_path / "original", SOURCE)
    for job in (place, two):
        job.use(staged(copy(job, "a")))
    place.leave(keep=False)
    assert (two.copy_of("a" * 64) / "t.parquet").exists() and two.path.exists()
    two.leave(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_job_left_is_removed_by_the_next(place, tmp_path):
    code = (
        "import sys, signal, os\nfrom pathlib import Path\nfrom hooks.node_local import NodeLocal\n"
        "from swiftpy.runtime.stage import Staged, local\n"
        "place = NodeLocal(Path(sys.argv[1]), Path('/data')); folder = place.copy_of('d' * 64); folder.mkdir()\n"
        "(folder / '.staged.json').touch(); place.use(Staged(folder, local.hold(folder), 0, 0))\n"
        "place.own('EXP000'); part = local.make(place.copy_of('e' * 64))\n"
        "def stop(*_): print('there', flush=True); signal.pause()\n"
        "Path.replace = stop; place.use(Staged(folder, local.hold(folder), 0, 0))\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, place.path], stdout=subprocess.PIPE)
    killed.stdout.readline()
    place.use(staged(copy(place, "a")))
    assert place.removed == [], "it lives"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / "original-of-the-user").mkdir()
    other = NodeLocal(place.path, SOURCE)
    other.use(staged(copy(other, "a")))
    names = [name.rpartition("-")[0] for name in other.removed]
    parts = [".original-dddddddddddd.part", ".original-eeeeeeeeeeee.part"]
    assert names == [*parts, "original", "original-job-EXP000"]
    for job in (place, other):
        job.leave(keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["original-of-the-user"]


def test_kept_copies_stay(place, tmp_path):
    place.use(staged(copy(place, "a")))
    place.leave(keep=True)
    other = NodeLocal(place.path, Path("/data/other"))
    other.use(staged(copy(other, "b")))
    assert other.removed == []
    other.leave(keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["original-aaaaaaaaaaaa"]


def test_a_kept_copy_goes_when_its_source_has_changed_and_nobody_uses_it(place, tmp_path):
    """Each version of the data that was ever staged with STAGE_KEEP=1 filled the node's disk for good."""
    place.use(staged(copy(place, "a")))
    place.leave(keep=True)  # its hold, which is not released, is that of a job that still cleans up
    (copy(place, "c") / local.KEEP).touch()  # kept by a version before this, which did not write of what
    second = NodeLocal(place.path, SOURCE)
    second.use(staged(copy(second, "b")))
    assert second.removed == []
    place._staged.held.release()
    second.leave(keep=True)
    third = NodeLocal(place.path, SOURCE)
    third.use(staged(copy(third, "b")))
    assert third.removed == ["original-aaaaaaaaaaaa"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "original",
        "original-bbbbbbbbbbbb",
        "original-cccccccccccc",
    ]


def test_a_disk_that_is_full_when_a_copy_is_to_be_kept(place, monkeypatch):
    """The mark was there, but empty: as it did not say of what, no newer data ever made the copy go."""

    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    place.use(staged(copy(place, "a")))
    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr(Path, "write_bytes", full)
        place.leave(keep=True)
    place._staged.held.release()
    other = NodeLocal(place.path, SOURCE)
    other.use(staged(copy(other, "b")))
    assert other.removed == ["original-aaaaaaaaaaaa"]


def test_a_directory_of_the_users_own_is_left_alone(place):
    place.path.mkdir()
    (place.path / "mine").touch()
    place.use(staged(copy(place, "a")))
    assert (place.own("EXP000") / "t.parquet").exists()
    place.leave(keep=False)
    assert (place.path / "mine").exists()


def test_what_the_user_keeps_under_names_like_ours_stays(place, tmp_path):
    """All of these were removed with what is in them; the last where TMP_ORIGINAL was original[0-9]."""
    names = ["original-job-results", "original-20240115abcd", "original-job-EXP000-4711", ".original-old.part-2"]
    names += [".original-job-results.part-1", "original5-job-x"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    for job in (place, NodeLocal(tmp_path / "original[0-9]", SOURCE)):
        job.sweep()
        job.use(staged(copy(job, "a")))
        job.own("EXP000")
        job.leave(keep=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["original", ".original"])
def test_what_a_job_left_half_made_or_half_removed_goes(name, tmp_path, monkeypatch):
    """Killed between two steps, it has not yet, or no longer, what tells its directories from the user's."""
    place = NodeLocal(tmp_path / name, SOURCE)
    place.use(staged(copy(place, "a")))
    copy(place, "b")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # in place of a kill: nothing cleans up
        patched.setattr("shutil.rmtree", interrupt)
        place.sweep()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "symlink_to", interrupt)
        place.own("EXP000")
    assert len(list(tmp_path.glob(".original-bbbbbbbbbbbb.trash-*"))) == 1
    assert len(list(tmp_path.glob(".original-job-EXP000-*.part-*"))) == 1
    os.close(place._job._fd)
    place._job = None
    place.sweep()
    place.leave(keep=False)
    assert list(tmp_path.iterdir()) == []


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_a_kept_copy_outlives_a_job_that_keeps_none(place, tmp_path):
    place.use(staged(copy(place, "a")))
    place.leave(keep=True)
    place._staged.held.release()
    other = NodeLocal(place.path, SOURCE)
    other.use(staged(copy(other, "a")))
    other.leave(keep=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "original-aaaaaaaaaaaa"]


def test_a_part_that_a_job_with_the_same_process_id_left(tmp_path):
    """In containers that share a disk every job may have it: the next one ended with "File exists"."""
    first, second = local.make(tmp_path / "copy"), local.make(tmp_path / "copy")
    assert first.path != second.path
    for held in (first, second):
        assert held.release(remove=True)


def test_a_directory_of_another_user_is_not_trusted(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make one")
    (tmp_path / "x").mkdir()
    os.chown(tmp_path / "x", 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        local.hold(tmp_path / "x")
    assert local.sweep(tmp_path, lambda path: True) == []


def test_a_place_in_tmp_that_another_user_has_made_is_not_used(tmp_path, monkeypatch):
    """In it, another Python could take the place of the staged one."""
    monkeypatch.delenv("SOFTWARE_TARGET", raising=False)
    default = str(tmp_path / "alice/software")
    place_of({}, "SOFTWARE_TARGET", default, SOURCE)
    assert (tmp_path / "alice").stat().st_mode & 0o777 == 0o700  # whatever the umask is
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's")
    os.chown(tmp_path / "alice", 12345, 12345)
    with pytest.raises(PermissionError, match=rf"^{tmp_path}/alice belongs to another user.*: set SOFTWARE_TARGET$"):
        place_of({}, "SOFTWARE_TARGET", default, SOURCE)
    place_of({"SOFTWARE_TARGET": default}, "SOFTWARE_TARGET", default, SOURCE)  # a project's, which the user trusts
    os.chown(tmp_path, 12345, 12345)
    place_of({}, "SOFTWARE_TARGET", default, SOURCE)  # the owner of /tmp made it


def test_variables_in_paths(monkeypatch):
    monkeypatch.delenv("TMP_ORIGINAL", raising=False)
    env = {"USER": "me", "SWIFTPY_NODE": "3"}
    assert str(setting(env, "TMP_ORIGINAL", "/tmp/$USER/original")) == "/tmp/me/original"
    env["TMP_ORIGINAL"] = "/local/node${SWIFTPY_NODE}/original"
    assert str(setting(env, "TMP_ORIGINAL", "")) == "/local/node3/original"


@pytest.mark.parametrize("path", ["/", "/.", "/tmp/.."])
def test_a_path_beside_which_nothing_can_lie_is_named(monkeypatch, path):
    """PosixPath('/') has an empty name, said the message, and not which setting that was."""
    monkeypatch.delenv("TMP_ORIGINAL", raising=False)
    with pytest.raises(ValueError, match=f"^TMP_ORIGINAL={Path(path)}: nothing can lie beside that"):
        place_of({"TMP_ORIGINAL": path}, "TMP_ORIGINAL", "/tmp/$USER/original", SOURCE)


def test_a_disk_on_which_no_more_files_can_be_made(tmp_path, monkeypatch):
    """Free bytes are not all: an environment has 50,000 small files."""
    found = os.statvfs(tmp_path)
    limits = {name: getattr(found, name) for name in ("f_bavail", "f_frsize", "f_files")}
    monkeypatch.setattr("os.statvfs", lambda folder: SimpleNamespace(**{**limits, "f_files": 9, "f_favail": 2}))
    _check_room(tmp_path, [0, 0])
    with pytest.raises(OSError, match="3 files are needed, 2 more can be made"):
        _check_room(tmp_path, [0, 0, 0])
