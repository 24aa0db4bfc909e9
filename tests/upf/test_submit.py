"""Submitting that is interrupted; see tests/jobs/test_chain.py for whole jobs."""

import json
import re
from types import SimpleNamespace

import pytest

from swiftpy.errors import UserError
from swiftpy.experiment.exp import create
from swiftpy.experiment.journal import Journal
from swiftpy.sites import schedulers
from swiftpy.upf import submit
from swiftpy.upf.options import parse


def interrupt(*arguments):
    raise KeyboardInterrupt


def full(*arguments):
    raise OSError(28, "No space left on device")


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, value in {"CANDLE_DATA_DIR": "out", "MODEL_NAME": "m", "PROCS": "2", "PPN": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upf.json").write_text(json.dumps({"id": "A"}))
    return tmp_path


@pytest.mark.parametrize("where", ["understand", "provenance.write_environment"])
def test_ctrl_c_before_the_scheduler_is_asked_leaves_nothing(here, monkeypatch, capsys, where):
    monkeypatch.setattr(f"swiftpy.upf.submit.{where}", interrupt)
    assert submit.main(["slurm", "upf.json", "--task", "json:dumps"]) == schedulers.Interrupted.exit_code
    assert capsys.readouterr().err == "interrupted: no job was submitted\n"
    assert not list(here.glob("out/m/Output/*"))


@pytest.mark.parametrize("where", ["os.write", "swiftpy.upf.submit.provenance.write_environment"])
def test_a_full_disk_is_one_line_and_leaves_nothing(here, monkeypatch, capsys, where):
    """Writes that fail do not say which file: that was None, or a traceback."""
    monkeypatch.setattr("swiftpy.upf.submit.understand", lambda options, lead: SimpleNamespace(old=None))
    monkeypatch.setattr(where, full)
    assert submit.main(["slurm", "upf.json"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"{here}/out/m/Output.*: No space left on device\n", said), said
    assert not list(here.glob("out/m/Output/*"))


def test_fresh_holds_until_a_job_of_the_chain_has_begun(tmp_path, monkeypatch):
    """A job that died before lost it: the next went back to the EXP before, and was refused."""
    submitted = []
    monkeypatch.setattr(submit, "submit", lambda request, old: submitted.append(parse(request.arguments).fresh))
    monkeypatch.setenv("SWIFTPY_JOBID", "1")
    exp = create(tmp_path, restart=create(tmp_path))
    request = submit.Request("slurm", ["upf.json", "--restart=EXP000", "--fresh", "--chain=3"], "/")
    for event in ("job_submitted", "job_started"):
        with Journal(exp.journal) as journal:
            journal.write(event)
        submit.successor(request, exp, 0)
    assert submitted == [True, False]


@pytest.mark.parametrize("body", ["exit 0", "echo denied >&2; exit 1", "exec /bin/sleep 9", None])
def test_a_job_that_was_not_taken_back_keeps_its_exp(tmp_path, monkeypatch, body):
    """It began later, and found no batch.json."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(schedulers, "_PATIENCE", 0.5)
    if body:
        (tmp_path / "scancel").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "scancel").chmod(0o755)
    exp = create(tmp_path / "Output")
    if body == "exit 0":
        submit.withdraw(submit.Request("slurm", [], "/"), exp, "12")
        assert not exp.root.exists()
    else:
        with pytest.raises(UserError, match=r"^(denied|scancel .*): cancel it with scancel 12$"):
            submit.withdraw(submit.Request("slurm", [], "/"), exp, "12")
        assert exp.root.exists()
