"""What journal, markers and summary say of attempts that ended in each of the ways there are."""

import errno
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import Kind, Task, TaskState
from swiftpy.errors import TaskError
from swiftpy.experiment.exp import create
from swiftpy.experiment.journal import Journal, read
from swiftpy.experiment.restart import Decision
from swiftpy.experiment.spec import RunSpec
from swiftpy.upf.outcomes import Outcomes

OK = {"status": "ok", "reason": "", "epochs": 4}


class FakeProgress:
    def __init__(self):
        self.running, self.ends = [], []

    def started(self, run_id):
        self.running.append(run_id)

    def ended(self, run_id, text, **how):
        self.ends.append((run_id, text, how))


class Job:
    """RUN A is new, B goes on from a checkpoint; rank 2 is on another node."""

    def __init__(self, parent):
        self.said = []
        lead = SimpleNamespace(
            console=SimpleNamespace(line=self.said.append),
            layout=SimpleNamespace(hosts=["n0", "n0", "n1"], size=3),
            stop=SimpleNamespace(reason=None),
        )
        self.stop, self.exp, self.progress = lead.stop, create(parent), FakeProgress()
        self.journal = Journal(self.exp.journal)
        experiment = SimpleNamespace(exp=self.exp, journal=self.journal)
        verdicts = (("A", "new"), ("B", "resume"))
        runs = [(RunSpec(i, 1, {"id": i}, Path("upf.json")), Decision(i, verdict, "")) for i, verdict in verdicts]
        self.outcomes = Outcomes(lead, experiment, runs, self.progress, 1.5)

    def ended(self, number=0, state=TaskState.DONE, attempt=1, worker=2, value=None, error=None):
        """The last event that it made in the journal."""
        task = Task(number, Kind("f", label="AB"[number]), None)
        data = None if value is None else pickle.dumps([value])
        self.outcomes.resolved(ReportOutcome(task, state, attempt, worker, 10.0, data, error))
        event = read(self.exp.journal)[-1]
        del event["t"]
        return event

    def markers(self):
        return {path.stem: json.loads(path.read_text())["value"] for path in self.exp.markers.iterdir()}


@pytest.fixture
def job(tmp_path):
    made = Job(tmp_path)
    yield made
    made.journal.close()


def test_a_run_that_is_done(job):
    job.outcomes.started(StartTask(2, Task(0, Kind("f", label="A"), None), 1))
    assert job.progress.running == ["A"]
    where = {"id": "A", "attempt": 1, "rank": 2, "host": "n1"}
    assert where.items() <= read(job.exp.journal)[-1].items()
    done = {"event": "run_done", **where, "seconds": 10.0, "value": OK, "epoch_seconds": 2.5}
    assert job.ended(value=OK) == done
    assert job.markers() == {"A": OK}
    assert job.progress.ends == [("A", "done in 10.0 s on rank 2", {"done": True})]
    assert job.outcomes.epoch_seconds == 2.5 and not job.outcomes.doubts


@pytest.mark.parametrize(
    ("how", "measured"),
    [({"number": 1}, None), ({"attempt": 2}, None), ({"value": {**OK, "epochs": None}}, None), ({}, 1.0)],
    ids=["resumed", "tried again", "without epochs", "shorter than before"],
)
def test_only_of_an_attempt_that_trained_all_epochs_the_mean_is_known(job, how, measured):
    """Of 20 epochs, 18 of which an attempt before had made, each would be ten times too short."""
    assert job.ended(**{"value": {**OK, "epochs": 10}, **how})["epoch_seconds"] == measured
    assert job.outcomes.epoch_seconds == 1.5, "the longest of this job and those before"


def test_a_run_that_is_done_in_doubt(job):
    job.ended(0, value={**OK, "reason": None})
    assert job.outcomes.doubts == {}
    for number in (0, 1):
        job.ended(number, value={**OK, "reason": "its metric is \n no number"})
    assert job.outcomes.doubts == {"its metric is no number": ["A", "B"]}


def test_a_run_that_is_skipped_is_finished_only_with_a_result(job):
    skipped = {"status": "skip", "reason": "not now", "epochs": None}
    assert job.ended(0, value=skipped) == {"event": "run_skipped", "id": "A", "reason": "not now"}
    assert job.markers() == {}
    job.ended(1, value={**skipped, "result": 0.5})
    assert list(job.markers()) == ["B"]
    assert job.progress.ends[0] == ("A", "skipped: not now", {"skipped": True})


def test_a_run_that_fails_and_is_tried_again(job):
    error = TaskError("ValueError", "no data", rank=2, host="n1")
    failed = {"event": "run_failed", "id": "A", "attempt": 1, "final": False, "kind": "ValueError"}
    failed |= {"message": "no data", "log": "out/out-002.txt", "seconds": 10.0, "rank": 2, "host": "n1"}
    assert job.ended(state=TaskState.READY, error=error) == failed
    assert job.outcomes.failures == []
    last = job.ended(state=TaskState.FAILED, attempt=2, error=error)
    assert last == {**failed, "attempt": 2, "final": True}
    assert [(spec.id, error) for spec, error in job.outcomes.failures] == [("A", error)]
    assert [(text.partition(":")[0], how) for _, text, how in job.progress.ends] == [
        ("failed, will be tried again", {"failed": False}),
        ("FAILED", {"failed": True}),
    ]


def test_a_run_that_no_worker_can_run_has_its_log_on_rank_0(job):
    event = job.ended(state=TaskState.FAILED, attempt=0, worker=None, error=TaskError("no worker", "it wants rank 9"))
    assert (event["log"], event["rank"], event["host"]) == ("out/out-000.txt", None, None)
    assert job.outcomes.log(-1) == "out/out-000.txt"


def test_a_run_that_is_interrupted(job):
    """By its own answer, which tells of epochs, or killed; one that had not started leaves no line."""
    asked = {"event": "run_interrupted", "id": "A", "attempt": 1, "epoch_seconds": 2.5, "rank": 2, "host": "n1"}
    assert job.ended(value={**OK, "status": "interrupted"}) == asked
    killed = job.ended(1, TaskState.INTERRUPTED, error=TaskError("lost", "its worker ended", rank=2))
    assert killed == {**asked, "id": "B", "epoch_seconds": None}
    assert job.ended(1, TaskState.INTERRUPTED, 0, None) == killed
    assert job.outcomes.interrupted == 3 and job.markers() == {}
    why = " (lost: its worker ended (rank 2))"
    assert job.progress.ends == [
        ("A", "interrupted; a restart goes on with it", {}),
        ("B", f"interrupted{why}; a restart goes on with it", {}),
    ]


def test_a_marker_that_cannot_be_written_costs_no_job(job):
    job.exp.markers.rmdir()
    assert job.ended(value=OK)["event"] == "run_done"
    assert len(job.said) == 1 and job.said[0].startswith("A: its marker cannot be written (")
    assert job.stop.reason is None


@pytest.mark.parametrize("step", ["write", "flush"])
def test_without_a_journal_the_job_ends(job, monkeypatch, step):
    def full(*args, **fields):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job.journal, step, full)
    job.outcomes.started(StartTask(2, Task(0, Kind("f", label="A"), None), 1))
    job.outcomes.flush()
    monkeypatch.undo()
    assert job.said == [f"{job.exp.journal}: No space left on device: stopping early"]
    assert job.stop.reason == "the journal cannot be written"
