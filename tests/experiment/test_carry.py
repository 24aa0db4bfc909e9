import errno
import itertools
import multiprocessing
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
import trees

from swiftpy.experiment.carry import carry
from swiftpy.experiment.exp import Exp, create, find
from swiftpy.experiment.journal import Journal
from swiftpy.experiment.lock import Lock
from swiftpy.experiment.restart import Decision, source

OURS = """
    journal.jsonl = {"event": "job_started"}
    upf.json = {}
    markers/A.json = a
    markers/marker-000.txt = DONE
    markers/marker-001.txt = DONE
    out/out-000.txt = text
    run/{id}/ckpts/best -> epochs/001
    run/{id}/ckpts/ckpt.log = log
    run/{id}/ckpts/epochs/001/ckpt-info.json = 1
    run/{id}/ckpts/epochs/001/model.h5 = one
    run/{id}/ckpts/epochs/002/ckpt-info.json = 2
    run/{id}/ckpts/epochs/002/model.h5 = two
    run/{id}/ckpts/last -> epochs/002
    run/{id}/ckpts/work/model.h5 = half
    run/{id}/extra/history.txt = of the user's own
    run/{id}/extra/work/notes.txt = of the user's own
    run/{id}/extra/y_predicted.csv = of the user's own
    run/{id}/history.txt = {}
    run/{id}/log.txt = log
    run/{id}/output/ckpts -> ../ckpts
    run/{id}/result.txt = 0.1
    run/{id}/stop.marker = early stopping: 2/3
    run/{id}/test_scores.json = {}
    run/{id}/test_y_data_predicted.csv = 1,2
"""

RESUMED = """
    run/{id}/ckpts/best -> epochs/001
    run/{id}/ckpts/ckpt.log = log
    run/{id}/ckpts/epochs/001/ckpt-info.json = 1
    run/{id}/ckpts/epochs/001/model.h5 = one (linked)
    run/{id}/ckpts/epochs/002/ckpt-info.json = 2
    run/{id}/ckpts/epochs/002/model.h5 = two (linked)
    run/{id}/ckpts/last -> epochs/002
    run/{id}/extra/history.txt = of the user's own
    run/{id}/extra/work/notes.txt = of the user's own
    run/{id}/extra/y_predicted.csv = of the user's own
    run/{id}/log.txt = log
    run/{id}/output/ckpts -> ../ckpts
"""

SKIPPED = """
    run/{id}/history.txt = {}
    run/{id}/result.txt = 0.1
    run/{id}/stop.marker = early stopping: 2/3
    run/{id}/test_scores.json = {}
    run/{id}/test_y_data_predicted.csv = 1,2 (linked)
"""


def ours(root: Path, ids: str) -> Exp:
    """An EXP with RUNs of these one-letter names, all alike."""
    common, run = (OURS[: OURS.index("run/")], OURS[OURS.index("run/") :])
    return Exp(trees.make(root, common + "".join(run.replace("{id}", name) for name in ids)))


def carried(new: Exp, old: Exp) -> list[str]:
    """Listing of what came over."""
    lines = trees.listing(new.root, old.root).splitlines()
    return [line for line in lines if line.startswith(("run/", "markers/"))]


def lines(*texts: str) -> list[str]:
    return sorted(line.strip() for text in texts for line in text.strip().splitlines())


def test_what_comes_over_by_verdict_and_what_stays_behind(tmp_path, monkeypatch):
    old = ours(tmp_path / "EXP000", "ABC")
    for path in old.root.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    before = trees.snapshot(old.root)
    new = create(tmp_path, restart=old)
    decisions = [
        Decision("A", "skip", "", ("A.json", "marker-000.txt")),
        Decision("B", "resume", ""),
        Decision("C", "fresh", ""),
        Decision("D", "new", ""),
    ]
    flushed = []
    flush = "swiftpy.experiment.carry.flush_file_system"
    monkeypatch.setattr(flush, lambda path: flushed.append((path, sorted(carried(new, old)))))
    done = carry(old, new, decisions)
    expected = lines(
        RESUMED.replace("{id}", "A"),
        SKIPPED.replace("{id}", "A"),
        RESUMED.replace("{id}", "B"),
        "markers/A.json = a\nmarkers/marker-000.txt = DONE",
    )
    assert sorted(carried(new, old)) == expected
    assert flushed == [(new.root, expected)]
    assert trees.snapshot(old.root) == before
    assert (new.run / "B/log.txt").stat().st_mtime == 1e9
    assert (new.run / "B/ckpts/epochs").stat().st_mtime == 1e9
    assert done.linked == 4 * 3 + 3 and done.copied > 0 and done.dropped == ()
    shutil.rmtree(old.root)
    alone = [line.removesuffix(" (linked)") for line in expected]
    assert sorted(carried(new, old)) == sorted(alone), "what a RUN needs is there without the old EXP"
    assert (new.run / "B/ckpts/last/model.h5").read_text() == "two"


def test_a_pipe_in_a_run_directory_stays_behind(tmp_path):
    old = Exp(trees.make(tmp_path / "EXP000", "run/A/log.txt = log"))
    os.mkfifo(old.run / "A/pipe")
    new = create(tmp_path, restart=old)
    carry(old, new, [Decision("A", "resume", "")])
    assert [path.name for path in (new.run / "A").iterdir()] == ["log.txt"]


def test_an_exp_of_the_original_system_with_links_into_older_ones(tmp_path):
    old = Exp(
        trees.make(
            tmp_path / "EXP011",
            """
            run/RUN000/ckpts/best -> /lus/flare/Output/EXP283/run/RUN000/ckpts/epochs/002
            run/RUN000/ckpts/epochs/002/ckpt-info.json = 2
            run/RUN000/ckpts/epochs/020/ckpt-info.json = 20
            run/RUN000/ckpts/epochs/020/model.h5 = m
            run/RUN000/ckpts/last -> /lus/flare/Output/EXP011/run/RUN000/ckpts/epochs/020
            run/RUN001/ckpts/best -> /lus/flare/Output/EXP011/run/RUN001/ckpts/epochs/007
            run/RUN001/chosen -> {root}/run/RUN001/ckpts/epochs/001
            run/RUN001/ckpts/epochs/001/model.h5 = m
            run/RUN001/ge_merged_data.parquet -> /tmp/me/original/ge_merged_data.parquet
            run/RUN001/inside -> {root}/run/RUN001/ckpts
            run/RUN001/outside -> ../../../EXP010/run/RUN001
            """.replace("{root}", str(tmp_path / "EXP011")),
        )
    )
    new = create(tmp_path, restart=old)
    done = carry(old, new, [Decision("RUN000", "skip", ""), Decision("RUN001", "resume", "")])
    assert "\n".join(carried(new, old)) == trees.text(
        """
        markers/
        run/RUN000/ckpts/best -> epochs/002
        run/RUN000/ckpts/epochs/002/ckpt-info.json = 2
        run/RUN000/ckpts/epochs/020/ckpt-info.json = 20
        run/RUN000/ckpts/epochs/020/model.h5 = m (linked)
        run/RUN000/ckpts/last -> epochs/020
        run/RUN001/chosen -> ckpts/epochs/001
        run/RUN001/ckpts/epochs/001/model.h5 = m (linked)
        run/RUN001/inside -> ckpts
        """
    )
    assert [path.name for path in done.dropped] == ["best", "ge_merged_data.parquet", "outside"]
    for link in (path for path in new.root.rglob("*") if path.is_symlink()):
        assert link.resolve().is_relative_to(new.root)


def modes(run_dir: Path) -> set[str]:
    """Kind and owner's rights of everything in a RUN directory but models, which are the old EXP's own files."""
    paths = [path for path in [run_dir, *run_dir.rglob("*")] if path.name != "model.h5" and not path.is_symlink()]
    return {stat.filemode(path.stat().st_mode)[:4] for path in paths}


def test_a_write_protected_exp_is_carried_over_so_that_its_runs_can_write(tmp_path):
    """After `chmod -R a-w EXP000` a resumed RUN could neither append to its log nor make its next checkpoint."""
    old = ours(tmp_path / "EXP000", "A")
    for path in old.root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (1e9, 1e9))
            path.chmod(path.stat().st_mode & ~0o222)
    before = trees.snapshot(old.root)
    new = create(tmp_path, restart=old)
    carry(old, new, [Decision("A", "resume", "", ("marker-000.txt",))])
    assert modes(new.run / "A") == {"-rw-", "drwx"}
    assert stat.filemode((new.markers / "marker-000.txt").stat().st_mode) == "-rw-r--r--"
    assert (new.run / "A/log.txt").stat().st_mtime == (new.run / "A/ckpts/epochs").stat().st_mtime == 1e9
    assert (new.run / "A/ckpts/epochs/002/model.h5").samefile(old.run / "A/ckpts/epochs/002/model.h5")
    assert trees.snapshot(old.root) == before


def test_a_projects_directory_hands_its_group_down_to_what_resumed_runs_make(tmp_path):
    """Of an EXP from before `chmod g+s`, what resumed RUNs made had the user's own group, closed to colleagues."""
    old = ours(tmp_path / "EXP000", "A")
    (tmp_path / "Output").mkdir()
    (tmp_path / "Output").chmod(0o2775)
    new = create(tmp_path / "Output", restart=old)
    carry(old, new, [Decision("A", "resume", "")])
    (new.run / "A/ckpts/partial").mkdir()
    for name in ("run", "run/A", "run/A/ckpts/epochs/001", "run/A/ckpts/partial"):
        assert (new.root / name).stat().st_mode & stat.S_ISGID, name


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM])
def test_without_hard_links_it_copies(tmp_path, monkeypatch, error):
    old = Exp(trees.make(tmp_path / "EXP000", "run/A/ckpts/epochs/001/model.h5 = one"))

    def refuse(self, target):
        raise OSError(error, "no")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    new = create(tmp_path, restart=old)
    done = carry(old, new, [Decision("A", "resume", "")])
    assert carried(new, old)[-1] == "run/A/ckpts/epochs/001/model.h5 = one"
    assert (done.copied, done.linked) == (3, 0)


def test_runs_come_over_at_the_same_time(tmp_path, monkeypatch):
    """Each file is round trips to the servers of a shared file system: one by one, a large restart took minutes."""
    old = Exp(trees.make(tmp_path / "EXP000", "run/A/log.txt = a\nrun/B/log.txt = b"))
    new = create(tmp_path, restart=old)
    both, copy = threading.Barrier(2, timeout=60), shutil.copy2
    monkeypatch.setattr(shutil, "copy2", lambda *paths: (both.wait(), copy(*paths)))
    done = carry(old, new, [Decision("A", "resume", ""), Decision("B", "skip", "")])
    assert carried(new, old)[-2:] == ["run/A/log.txt = a", "run/B/log.txt = b"]
    assert (done.copied, done.linked) == (2, 0)


def _restart(parent: Path, name: str, die_at: int) -> None:
    """What a job does before its first RUN, up to its `die_at`-th step."""
    left = itertools.count(die_at, -1)

    def step() -> None:
        if next(left) == 0:
            os._exit(9)

    copy = shutil.copy2
    shutil.copy2 = lambda *paths: (step(), copy(*paths))

    old, _ = source(find(parent, name), parent)
    step()
    new = create(parent, restart=find(parent, name))
    step()
    lock = Lock(new)
    decisions = [Decision("A", "skip", "", ("A.json",)), Decision("B", "resume", "")]
    carry(old, new, decisions)
    step()
    with Journal(new.journal) as journal:
        journal.write("job_started")
    lock.release()


def test_killed_at_any_step_and_restarted_from_the_newest_exp_nothing_is_lost(tmp_path):
    old = ours(tmp_path / "EXP000", "AB")
    before = trees.snapshot(old.root)
    fork = multiprocessing.get_context("fork")
    for die_at in itertools.count():
        newest = max(path.name for path in tmp_path.iterdir())
        process = fork.Process(target=_restart, args=(tmp_path, newest, die_at))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert die_at > 15 and len(list(tmp_path.iterdir())) > 15
    new = Exp(tmp_path / max(path.name for path in tmp_path.iterdir()))
    expected = lines(
        RESUMED.replace("{id}", "A"),
        SKIPPED.replace("{id}", "A"),
        RESUMED.replace("{id}", "B"),
        "markers/A.json = a",
    )
    assert sorted(carried(new, old)) == expected
    assert trees.snapshot(old.root) == before
