import errno
import multiprocessing
import os
import re
from pathlib import Path

import pytest
import trees

from swiftpy.errors import UserError
from swiftpy.experiment import journal, provenance
from swiftpy.experiment.exp import Exp, create, find
from swiftpy.experiment.files import replace_text


def test_names_are_the_lowest_free_numbers_and_grow_wider(tmp_path):
    assert create(tmp_path / "Output").root == tmp_path / "Output" / "EXP000"
    for name in ("EXP001", "EXP003"):
        (tmp_path / "Output" / name).mkdir()
    (tmp_path / "Output" / "EXP002").write_text("a file takes a name too")
    assert create(tmp_path / "Output").id == "EXP004"
    for number in range(1000):
        (tmp_path / "Output" / f"EXP{number:03d}").mkdir(exist_ok=True) if number != 2 else None
    assert create(tmp_path / "Output").id == "EXP1000"


def test_a_new_exp_is_complete_and_leaves_nothing_beside_it(tmp_path):
    old = create(tmp_path, "mine")
    new = create(tmp_path, restart=old)
    elsewhere = create(tmp_path / "other", restart=old)
    assert trees.listing(new.root).splitlines()[1:] == ["markers/", "out/", "restart.txt = mine", "run/"]
    assert elsewhere.restart.read_text() == f"{old.root}\n"
    assert [event["event"] for event in journal.read(new.journal)] == ["exp_created"]
    assert trees.names(tmp_path) == ["EXP000", "mine", "other"]


def test_it_belongs_to_the_group_of_a_project_and_can_be_read(tmp_path):
    (tmp_path / "Output").mkdir()
    (tmp_path / "Output").chmod(0o2775)
    (tmp_path / "Output" / "plain").mkdir()
    expected = (tmp_path / "Output" / "plain").stat().st_mode
    exp = create(tmp_path / "Output")
    assert exp.root.stat().st_mode == exp.run.stat().st_mode == expected


@pytest.mark.parametrize("name", ["taken", "empty", "../x", ""])
def test_a_given_name_must_be_free_and_safe(tmp_path, name):
    create(tmp_path, "taken")
    (tmp_path / "empty").mkdir()
    before = trees.names(tmp_path)
    with pytest.raises(UserError):
        create(tmp_path, name)
    assert trees.names(tmp_path) == before


def test_a_parent_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create an EXP here"):
        create(tmp_path / "file" / "Output")


def test_a_disk_that_is_full_before_the_exp_is_whole(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.write", full)
    said = f"^{tmp_path}/Output: cannot create an EXP here: No space left on device: set CANDLE_DATA_DIR$"
    with pytest.raises(UserError, match=said):
        create(tmp_path / "Output")
    assert trees.names(tmp_path / "Output") == []


def _create(parent: Path) -> str:
    return create(parent).id


def test_a_hundred_processes_get_a_hundred_names(tmp_path):
    with multiprocessing.get_context("fork").Pool(100) as pool:
        names = pool.map(_create, [tmp_path] * 100, chunksize=1)
    assert sorted(names) == [f"EXP{n:03d}" for n in range(100)]
    assert trees.names(tmp_path) == sorted(names)


def test_found_by_name_under_the_parent_or_by_path(tmp_path, monkeypatch):
    exp = create(tmp_path / "Output")
    monkeypatch.chdir(tmp_path)
    assert find(tmp_path / "Output", "EXP000") == exp
    assert find(tmp_path / "Output", "EXP000/") == exp  # as the shell completes it
    assert find(tmp_path / "nowhere", str(exp.root)) == exp
    assert find(tmp_path / "nowhere", "Output/EXP000") == exp
    with pytest.raises(UserError, match=r"no EXP EXP007: .*Output has EXP000"):
        find(tmp_path / "Output", "EXP007")
    with pytest.raises(UserError, match="has no EXPs; set CANDLE_DATA_DIR and MODEL_NAME"):
        find(tmp_path / "nowhere", "EXP007")
    with pytest.raises(UserError, match="is not an EXP"):
        find(tmp_path / "Output", str(tmp_path))


def test_paths_of_ranks():
    exp = Exp(Path("/o/EXP000"))
    assert exp.out_file(7, 12).name == "out-007.txt"
    assert exp.out_file(7, 1000).name == "out-007.txt"
    assert exp.out_file(7, 1001).name == "out-0007.txt"


def test_inputs_keep_their_names_unless_that_would_overwrite_something(tmp_path):
    trees.make(tmp_path, "a/hed.json = upf\nb/hed.json = dflts\nc/jobid.txt = upf\nc/batch.json = dflts")
    exp = create(tmp_path / "Output")
    assert exp.copy_inputs(tmp_path / "c/jobid.txt", tmp_path / "c/batch.json") == ("c-jobid.txt", "c-batch.json")
    assert exp.copy_inputs(tmp_path / "a/hed.json", tmp_path / "b/hed.json") == ("hed.json", "b-hed.json")
    assert (exp.root / "hed.json").read_text() == "upf" and (exp.root / "b-hed.json").read_text() == "dflts"
    assert exp.copy_inputs(tmp_path / "a/hed.json", None) == ("hed.json", None)


#: Every path that an EXP has a name for.
PLACES = [getattr(Exp(Path("/o")), name) for name in vars(Exp) if not name.startswith("_")]


@pytest.mark.parametrize("name", [path.name for path in PLACES if isinstance(path, Path) and path.parent == Path("/o")])
def test_an_input_that_is_called_like_something_of_ours(tmp_path, name):
    """The job's output was written over a UPF called output.txt."""
    trees.make(tmp_path, f"in/{name} = upf\nEXP000/")
    assert Exp(tmp_path / "EXP000").copy_inputs(tmp_path / "in" / name, None) == (f"in-{name}", None)


def test_provenance(tmp_path):
    exp = create(tmp_path)
    provenance.log(exp, {"SCRIPT": "upf-uno-heds.sh", "TURBINE_WORKERS": 3})
    provenance.log(exp, {"MPIEXEC TIME": 1.5})
    assert (exp.root / "turbine.log").read_text().splitlines() == [
        "SCRIPT:            upf-uno-heds.sh",
        "TURBINE_WORKERS:   3",
        "MPIEXEC TIME:      1.5",
    ]
    provenance.write_jobid(exp, "123.aurora-pbs")
    assert (exp.root / "jobid.txt").read_text() == "123.aurora-pbs\n"
    secrets = {
        "GITHUB_TOKEN": "s1",
        "my_password": "s2",
        "AWS_SECRET": "s3",
        "ApiKey": "s4",
        "P": "http://me:s5@host/",
    }
    provenance.write_environment(exp, {"Z": "a\nb", "BYTE": "\udcff", "EMPTY_TOKEN": "", **secrets})
    text = (exp.root / "turbine-env.txt").read_text()
    assert not re.search(r"s\d", text)
    assert text.splitlines() == [
        "AWS_SECRET=****",
        "ApiKey=****",
        "BYTE=\\udcff",
        "EMPTY_TOKEN=",
        "GITHUB_TOKEN=****",
        "P=http://****@host/",
        "Z=a\\nb",
        "my_password=****",
    ]


def test_a_small_file_is_on_disk_before_it_gets_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    """Else a node that goes down leaves a lock or a marker that is empty, or none."""
    path, synced = tmp_path / "jobid.txt", []

    def fsync(descriptor):
        found = os.fstat(descriptor)
        synced.append(("names" if os.path.samestat(found, tmp_path.stat()) else found.st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_text(path, "123.aurora-pbs\n")
    assert synced == [(15, False), ("names", True)]


def test_two_jobs_with_one_process_id_write_the_same_file(tmp_path, monkeypatch):
    """In two containers of one node; one writes while the other, which has written, has yet to rename."""
    flush = os.fsync

    def while_flushed(descriptor):
        monkeypatch.setattr(os, "fsync", flush)
        replace_text(tmp_path / "jobid.txt", "the other's")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", while_flushed)
    replace_text(tmp_path / "jobid.txt", "mine")
    assert trees.listing(tmp_path) == "jobid.txt = mine"
