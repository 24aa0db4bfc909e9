"""What a batch job does in its last seconds; most of it with the scheduler replaced by a list."""

import errno
import sys

import pytest

from swiftpy.errors import UserError
from swiftpy.experiment.exp import create
from swiftpy.experiment.journal import Journal
from swiftpy.sites import schedulers
from swiftpy.upf import batch, submit
from swiftpy.upf.options import parse
from swiftpy.upf.submit import Request


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of a chain of 5 with a minute left; what it submits and takes back is noted in `did`."""
    did = []
    exp = create(tmp_path)
    monkeypatch.setattr(
        batch, "successor", lambda request, exp, crashes: did.append(("submitted", crashes)) or (exp, "2")
    )
    monkeypatch.setattr(batch, "withdraw", lambda request, exp, jobid: did.append(("taken back", jobid)))
    made = batch.Batch(exp, Request("slurm", ["upf.json", "--chain=5"], "/"), {"WALLTIME": "00:01:00"})
    made.exp, made.did = exp, did
    return made


def stopped(job, code, reason):
    with Journal(job.exp.journal) as journal:
        journal.write("job_stopped", code=code, reason=reason)


def run(job, monkeypatch, script):
    """The launcher ends as `script(told_to_end)` does, which returns its exit code."""
    monkeypatch.setattr(batch, "supervise", lambda command, told_to_end: script(told_to_end))
    return job.run(["sh"])


@pytest.mark.parametrize(("prefix", "taken"), [("/opt/venv", "beside"), ("/usr", "path")])
def test_an_mpiexec_beside_python_goes_before_the_schedulers(job, monkeypatch, tmp_path, prefix, taken):
    """OpenPBS puts one of its own into the PATH of its jobs, which starts nothing of an MPI from PyPI. But /usr/bin may
    have one, too, which is not that of the module in `setup`."""
    monkeypatch.setattr(sys, "prefix", prefix)
    for place in ("beside", "path"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mpiexec").write_text("#!/bin/sh\n")
        (tmp_path / place / "mpiexec").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    commands = []
    monkeypatch.setattr(batch, "supervise", lambda command, told_to_end: commands.append(command) or 0)
    assert job.run(["mpiexec", "-n", "2"]) == 0
    assert commands == [[str(tmp_path / taken / "mpiexec"), "-n", "2"]]


def test_a_successor_is_submitted_once_and_before_the_end(job, monkeypatch):
    def script(told_to_end):
        told_to_end()
        assert job.did == [("submitted", 0)], "the next signal may be KILL"
        stopped(job, 4, "SIGTERM")
        return 4

    assert run(job, monkeypatch, script) == 4
    assert job.did == [("submitted", 0)]


def test_a_successor_of_a_job_that_got_done_is_taken_back(job, monkeypatch):
    def script(told_to_end):
        told_to_end()
        stopped(job, 0, "all RUNs were resolved")
        return 0

    assert run(job, monkeypatch, script) == 0
    assert job.did == [("submitted", 0), ("taken back", "2")]


def test_a_successor_that_cannot_be_taken_back_is_no_failure_of_the_job(job, monkeypatch, capsys):
    def script(told_to_end):
        told_to_end()
        stopped(job, 0, "all RUNs were resolved")
        return 0

    def refuse(*arguments):
        raise UserError("qdel: cannot connect: cancel it with qdel 2")

    monkeypatch.setattr(batch, "withdraw", refuse)
    assert run(job, monkeypatch, script) == 0
    said = capsys.readouterr().out
    assert "nothing is left to run, but the successor, job 2, could not be taken back: qdel: cannot connect: ca" in said


def test_a_launcher_that_crashes_after_all_was_done_is_no_crash(job, monkeypatch):
    def script(told_to_end):
        stopped(job, 0, "all RUNs were resolved")
        return 139

    assert run(job, monkeypatch, script) == 139
    assert job.did == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), UserError("sbatch: no")])
def test_a_successor_that_cannot_be_submitted_costs_the_running_runs_nothing(job, monkeypatch, capsys, failure):
    """The launcher dies with the batch script: an OSError at TERM took the RUNs' time to end from them."""

    def script(told_to_end):
        told_to_end()
        job.did.append("ended in order")
        stopped(job, 4, "SIGTERM")
        return 4

    def fail(*arguments):
        raise failure

    monkeypatch.setattr(batch, "successor", fail)
    assert run(job, monkeypatch, script) == 4
    assert job.did == ["ended in order"]
    assert f"the successor could not be submitted: {failure}\n" in capsys.readouterr().out


def test_a_journal_that_cannot_be_read_costs_the_running_runs_nothing(job, monkeypatch):
    """At TERM, a file system that was away for a moment took the RUNs' time to end from them."""

    def script(told_to_end):
        told_to_end()
        job.did.append("ended in order")
        return 4

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("swiftpy.experiment.journal.read", stale)
    assert run(job, monkeypatch, script) == 4
    assert job.did == [("submitted", 0), "ended in order"]


def test_a_successor_that_may_have_been_taken_is_not_submitted_again(job, monkeypatch, capsys):
    def script(told_to_end):
        told_to_end()
        stopped(job, 4, "SIGTERM")
        return 4

    def uncertain(*arguments):
        job.did.append("asked")
        raise schedulers.TakenError("sbatch did not answer: look whether the job is in the queue")

    monkeypatch.setattr(batch, "successor", uncertain)
    assert run(job, monkeypatch, script) == 4
    assert job.did == ["asked"]
    assert "could not" not in (said := capsys.readouterr().out) and "look whether" in said


def test_without_chain_nothing_is_submitted(job, monkeypatch, tmp_path):
    alone = batch.Batch(job.exp, Request("slurm", ["upf.json"], "/"), {"WALLTIME": "00:01:00"})
    run(alone, monkeypatch, lambda told_to_end: told_to_end() or 4)
    assert job.did == []


@pytest.mark.parametrize("where", ["os.write", "swiftpy.upf.submit.provenance.write_environment"])
def test_a_full_disk_is_one_line_and_leaves_no_exp(tmp_path, monkeypatch, where):
    """Writes that fail do not say which file: that was None, or a traceback."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    for name, value in {"CANDLE_DATA_DIR": str(tmp_path), "MODEL_NAME": "m", "PROCS": "2", "PPN": "2"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "upf.json").touch()
    monkeypatch.setattr(where, full)
    with pytest.raises(UserError, match=rf"^{tmp_path}/m/Output.*: No space left on device"):
        submit.submit(Request("slurm", [str(tmp_path / "upf.json")], "/"), None)
    assert list(tmp_path.glob("m/Output/*")) == []


def test_fresh_holds_until_a_job_of_the_chain_has_begun(tmp_path, monkeypatch):
    """A job that died before lost it: the next went back to the EXP before, and was refused."""
    submitted, waits = [], []

    def note(request, old):
        submitted.append(parse(request.arguments).fresh)
        waits.append((request.job, request.crashes, request.after, old))

    monkeypatch.setattr(submit, "submit", note)
    monkeypatch.setenv("SWIFTPY_JOBID", "77")
    exp = create(tmp_path, restart=create(tmp_path))
    request = Request("slurm", ["upf.json", "--restart=EXP000", "--fresh", "--chain=3"], "/")
    for event in ("job_submitted", "job_started"):
        with Journal(exp.journal) as journal:
            journal.write(event)
        submit.successor(request, exp, 1)
    assert submitted == [True, False]
    assert waits == [(2, 1, "77", exp)] * 2, "it begins when this job has ended, and goes on with its EXP"


@pytest.mark.parametrize("body", ["exit 0", "echo denied >&2; exit 1", "exec /bin/sleep 60", None])
def test_a_job_that_was_not_taken_back_keeps_its_exp(tmp_path, monkeypatch, body):
    """It began later, and found no batch.json."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if body:
        (tmp_path / "scancel").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "scancel").chmod(0o755)
        if "sleep" in body:
            monkeypatch.setattr(schedulers, "_PATIENCE", 0.5)
    exp, request = create(tmp_path / "Output"), Request("slurm", [], "/")
    if body == "exit 0":
        submit.withdraw(request, exp, "12")
        assert not exp.root.exists()
    else:
        with pytest.raises(UserError, match=r"^(denied|scancel .*): cancel it with scancel 12$"):
            submit.withdraw(request, exp, "12")
        assert exp.root.exists()
