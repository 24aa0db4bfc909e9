"""Directories that jobs share on a node: nobody loses what it uses, nothing stays that nobody uses."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hooks.node_local import NodeLocal, place_of, setting
from swiftpy.runtime.stage import Staged, StagingError, local

SOURCE = Path("/data/improve")


def staged(folder):
    held = local.hold(folder)
    assert held is not None
    return Staged(folder, held, 0, 0, 0.0)


@pytest.fixture
def place(tmp_path):
    return NodeLocal(tmp_path / "original", SOURCE)


def copy(place, identity, content="x"):
    folder = place.copy_of(identity * 64)
    folder.mkdir(exist_ok=True)
    (folder / "t.parquet").write_text(content)
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
        "place.use(Staged(folder, local.hold(folder), 0, 0, 0.0)); place.own('EXP000')\n"
        "local.make(place.path.with_name('.original-dddd.part-1'))\n"
        "print('there', flush=True); signal.pause()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, place.path], stdout=subprocess.PIPE)
    killed.stdout.readline()
    assert place.use(staged(copy(place, "a"))) == [], "it lives"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / "original-of-the-user").mkdir()
    other = NodeLocal(place.path, SOURCE)
    removed = other.use(staged(copy(other, "a")))
    assert removed == ["original-dddddddddddd", f"original-job-EXP000-{killed.pid}", ".original-dddd.part-1"]
    for job in (place, other):
        job.leave(keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["original-of-the-user"]


def test_kept_copies_stay(place, tmp_path):
    place.use(staged(copy(place, "a")))
    place.leave(keep=True)
    other = NodeLocal(place.path, Path("/data/other"))
    assert other.use(staged(copy(other, "b"))) == []
    other.leave(keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["original-aaaaaaaaaaaa"]


def test_a_kept_copy_goes_when_its_source_has_changed_and_nobody_uses_it(place, tmp_path):
    """Each version of the data that was ever staged with STAGE_KEEP=1 filled the node's disk for good."""
    place.use(staged(copy(place, "a")))
    place.leave(keep=True)  # its hold, which is not released, is that of a job that still cleans up
    (copy(place, "c") / local.KEEP).touch()  # kept by a version before this, which did not write of what
    second = NodeLocal(place.path, SOURCE)
    assert second.use(staged(copy(second, "b"))) == []
    place._staged.held.release()
    second.leave(keep=True)
    third = NodeLocal(place.path, SOURCE)
    assert third.use(staged(copy(third, "b"))) == ["original-aaaaaaaaaaaa"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "original",
        "original-bbbbbbbbbbbb",
        "original-cccccccccccc",
    ]


def test_a_directory_of_the_users_own_is_left_alone(place):
    place.path.mkdir()
    (place.path / "mine").touch()
    place.use(staged(copy(place, "a")))
    assert (place.own("EXP000") / "t.parquet").exists()
    place.leave(keep=False)
    assert (place.path / "mine").exists()


def test_a_directory_of_another_user_is_not_trusted(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make one")
    (tmp_path / "x").mkdir()
    os.chown(tmp_path / "x", 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        local.hold(tmp_path / "x")


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
    with pytest.raises(StagingError, match=f"^TMP_ORIGINAL={Path(path)}: nothing can lie beside that"):
        place_of({"TMP_ORIGINAL": path}, "TMP_ORIGINAL", "/tmp/$USER/original", SOURCE)
