"""Submitting that is interrupted or gets no further; see tests/jobs/test_chain.py for whole jobs."""

import errno
import json
import os
import sys

import pytest

from swiftpy.experiment import journal
from swiftpy.experiment.exp import Exp, create
from swiftpy.experiment.restart import restarts_of
from swiftpy.sites import schedulers
from swiftpy.upf import submit


def interrupt(*arguments):
    raise KeyboardInterrupt


@pytest.fixture
def here(tmp_path, monkeypatch):
    settings = {"CANDLE_DATA_DIR": "out", "MODEL_NAME": "m", "PROCS": "2", "PPN": "2"}
    for name, value in {**settings, "PATH": f"{tmp_path}:/usr/bin:/bin"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upf.json").write_text(json.dumps({"id": "A"}))
    return tmp_path


def run():
    return submit.main(["slurm", "upf.json", "--task", "json:dumps"])


def sbatch(folder, body):
    (folder / "sbatch").write_text(f"#!/bin/bash\n{body}\n")
    (folder / "sbatch").chmod(0o755)


@pytest.mark.parametrize("where", ["understand", "provenance.write_environment"])
def test_ctrl_c_before_the_scheduler_is_asked_leaves_nothing(here, monkeypatch, capsys, where):
    monkeypatch.setattr(f"swiftpy.upf.submit.{where}", interrupt)
    assert run() == schedulers.Interrupted.exit_code
    assert capsys.readouterr().err == "interrupted: no job was submitted\n"
    assert not list(here.glob("out/m/Output/*"))


def test_a_job_that_a_slow_scheduler_may_have_taken_keeps_its_exp(here, monkeypatch, capsys):
    """It ran later, in a directory that was gone."""
    monkeypatch.setattr(schedulers, "_PATIENCE", 0.5)
    sbatch(here, "exec sleep 60")
    assert run() == 1
    exp = here / "out/m/Output/EXP000"
    assert (exp / "batch.json").exists()
    assert capsys.readouterr().err == (
        "sbatch did not answer within 0.5 s while slurm was taking the job, which may be in the queue: if squeue --me"
        f" does not list EXP000, remove {exp}\n"
    )


def test_a_job_that_was_taken_when_the_disk_became_full(here, monkeypatch, capsys):
    def full(exp, jobid):
        raise OSError(errno.ENOSPC, "No space left on device", str(exp.root / "jobid.txt"))

    sbatch(here, "echo 12")
    monkeypatch.setattr("swiftpy.upf.submit.provenance.write_jobid", full)
    assert run() == 1
    exp = here / "out/m/Output/EXP000"
    assert (exp / "batch.json").exists()
    text = f"job 12 was submitted, and will run in {exp}; that could not be recorded there: No space left on device\n"
    assert capsys.readouterr().err == text


def test_ctrl_c_when_the_scheduler_has_taken_the_job(here, capsys):
    """Users were told that no job was submitted, and submitted another."""
    # In turbine.log, which cannot be written to before somebody reads it, after jobid.txt, which is there.
    meanwhile = "while ! [ -e out/m/Output/EXP000/jobid.txt ]; do sleep 0.01; done; kill -INT $PPID"
    sbatch(here, f"mkfifo out/m/Output/EXP000/turbine.log\n({meanwhile}) </dev/null >/dev/null 2>&1 &\necho 12")
    assert run() == schedulers.Interrupted.exit_code
    exp = here / "out/m/Output/EXP000"
    assert (exp / "batch.json").exists()
    text = f"job 12 was submitted, and will run in {exp}; that could not be recorded there: interrupted\n"
    assert capsys.readouterr().err == text


def test_a_disk_that_is_full_when_the_upf_is_copied(here, monkeypatch, capsys):
    """The line named the UPF, which lies on a disk that is not full."""

    def full(source, target):  # as sendfile(), by which shutil copies
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("swiftpy.experiment.exp.shutil.copy2", full)
    assert run() == 2
    exp = here / "out/m/Output/EXP000"
    assert capsys.readouterr().err == f"upf.json -> {exp}/upf.json: No space left on device\n" and not exp.exists()


def test_what_a_submission_leaves_in_its_exp(here, monkeypatch, capsys):
    """EXPID is the name of the first job's EXP only: that of its successor would be taken."""
    sbatch(here, "echo 12")
    monkeypatch.setenv("EXPID", "MINE")
    assert submit.main(["slurm", "upf.json", "--task", "json:dumps", "--chain", "3"]) == 0
    exp = Exp(here / "out/m/Output/MINE")
    [submitted] = [event for event in journal.read(exp.journal) if event["event"] == "job_submitted"]
    assert {"jobid": "12", "site": "slurm", "scheduler": "slurm", "job": 1, "chain": 3}.items() <= submitted.items()
    assert "SUBMITTED" in exp.log.read_text()
    monkeypatch.setenv("SWIFTPY_JOBID", "12")
    following, _ = submit.successor(submit.read_request(exp), exp, 0)
    assert following.root.name == "EXP000" and submit.read_request(following).job == 2


def test_a_directory_whose_name_is_no_utf_8(here, monkeypatch, capfdbinary):
    """Such as one of an old archive, or any with an accent where LC_ALL=C: a traceback, in the EXP that it left."""
    place = here / os.fsdecode(b"caf\xe9")
    place.mkdir()
    (here / "upf.json").rename(place / "upf.json")
    monkeypatch.chdir(place)
    sbatch(here, "echo 12")
    exp = place / "out/m/Output/EXP000"
    assert submit.main(["slurm", "upf.json", "--task", "json:dumps", "--dry-run"]) == 0
    sys.stdout.flush()
    script = capfdbinary.readouterr().out
    assert run() == 0 and capfdbinary.readouterr().out.startswith(b"job 12: ")
    for text in (script, (exp / "turbine-slurm.sh").read_bytes()):
        assert b"/caf\xe9/out/m/Output/EXP000/output.txt" in text and b"/caf\xe9' || exit 1\n" in text
    assert submit.read_request(Exp(exp)).directory == str(place)
    other = create(here / "other", restart=Exp(exp))
    assert other.restart.read_bytes() == os.fsencode(f"{exp}\n")
    assert list(restarts_of(Exp(exp), here / "other")) == [other]
