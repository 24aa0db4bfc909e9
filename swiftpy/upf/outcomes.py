"""What becomes of RUNs: into journal and markers, for a restart, and into progress, for people."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import TaskState
from swiftpy.errors import TaskError
from swiftpy.experiment import markers
from swiftpy.experiment.restart import Decision
from swiftpy.experiment.spec import RunSpec
from swiftpy.runtime.job import Lead
from swiftpy.sites.times import duration
from swiftpy.upf.establish import Experiment
from swiftpy.upf.progress import Progress


class Outcomes:
    """Takes what the server tells of tasks, whose ids are the places of their RUNs in `runs`.

    `failures` are RUNs without attempts left, `doubts` the ids of RUNs that are done, by what the runner says against
    their results, `interrupted` counts those that a restart goes on with, and `epoch_seconds` is the longest mean epoch
    of a RUN, of this job or, as given, before.
    """

    def __init__(
        self,
        lead: Lead,
        experiment: Experiment,
        runs: Sequence[tuple[RunSpec, Decision]],
        progress: Progress,
        epoch_seconds: float,
    ) -> None:
        self._lead, self._experiment, self._runs, self._progress = lead, experiment, runs, progress
        self.epoch_seconds = epoch_seconds
        self.failures: list[tuple[RunSpec, TaskError]] = []
        self.doubts: dict[str, list[str]] = {}
        self.interrupted = 0
        self._journal_is_good = True

    def started(self, command: StartTask) -> None:
        """An attempt of a RUN begins."""
        self._progress.started(command.task.kind.label)
        self.write("run_started", id=command.task.kind.label, attempt=command.attempt, **self._place(command.worker))

    def resolved(self, report: ReportOutcome) -> None:
        """An attempt has ended."""
        if report.state is TaskState.DONE:
            self._run_done(report)
        elif report.error is not None and report.state is not TaskState.INTERRUPTED:
            self._run_failed(report, report.error)
        else:
            self._run_interrupted(report)

    def write(self, event: str, **fields: Any) -> None:
        """An event for the journal."""
        try:
            self._experiment.journal.write(event, **fields)
        except OSError as error:
            self._journal_broke(error)

    def flush(self) -> None:
        """Have the journal on the disk."""
        try:
            self._experiment.journal.flush()
        except OSError as error:
            self._journal_broke(error)

    def log(self, rank: int | None) -> str:
        """Where the output of a RUN on this rank is, relative to the EXP; rank 0 speaks for RUNs that had none."""
        return f"out/{self._experiment.exp.out_file(max(0, rank or 0), self._lead.layout.size).name}"

    def _run_done(self, report: ReportOutcome) -> None:
        spec, decision = self._runs[report.task.id]
        assert isinstance(report.value, bytes), "a RUN's result is not in parts"
        value: dict[str, Any] = pickle.loads(report.value)[0]
        measured = None
        if decision.verdict in ("new", "fresh") and report.attempt == 1 and value.get("epochs"):
            measured = round(report.seconds / value["epochs"], 3)
            self.epoch_seconds = max(self.epoch_seconds, measured)
        if value["status"] == "interrupted":
            self._run_interrupted(report, measured)
            return
        if value["status"] == "skip":
            # One that a pre module leaves out for now has no result: a restart asks that module again.
            if value.get("result"):
                self._mark(spec, value)
            self.write("run_skipped", id=spec.id, reason=value["reason"])
            self._progress.ended(spec.id, f"skipped: {value['reason']}", skipped=True)
            return
        self._mark(spec, value)
        if doubt := " ".join(str(value["reason"] or "").split()):  # a `--task` may return anything
            self.doubts.setdefault(doubt, []).append(spec.id)
        self.write(
            "run_done",
            id=spec.id,
            attempt=report.attempt,
            seconds=round(report.seconds, 3),
            value=value,
            epoch_seconds=measured,
            **self._place(report.worker),
        )
        self._progress.ended(spec.id, f"done in {duration(report.seconds)} on rank {report.worker}", done=True)

    def _mark(self, spec: RunSpec, value: dict[str, Any]) -> None:
        """Record that the RUN is finished."""
        try:
            markers.write(self._experiment.exp, spec.id, spec.params, value, time.time())
        except OSError as error:
            self._lead.console.line(
                f"{spec.id}: its marker cannot be written ({error}); a restart will look at it again"
            )

    def _run_failed(self, report: ReportOutcome, error: TaskError) -> None:
        spec = self._runs[report.task.id][0]
        final = report.state is TaskState.FAILED
        self.write(
            "run_failed",
            id=spec.id,
            attempt=report.attempt,
            final=final,
            kind=error.kind,
            message=error.message,
            log=self.log(report.worker),
            seconds=round(report.seconds, 3),
            **self._place(report.worker),
        )
        if final:
            self.failures.append((spec, error))
        text = f"{'FAILED' if final else 'failed, will be tried again'}: {error.summary()}"
        self._progress.ended(spec.id, text, failed=final)

    def _run_interrupted(self, report: ReportOutcome, epoch_seconds: float | None = None) -> None:
        self.interrupted += 1
        if report.worker is None:
            return  # it had not started
        label = report.task.kind.label
        place = self._place(report.worker)
        self.write("run_interrupted", id=label, attempt=report.attempt, epoch_seconds=epoch_seconds, **place)
        why = f" ({report.error.summary()})" if report.error else ""
        self._progress.ended(label, f"interrupted{why}; a restart goes on with it")

    def _place(self, worker: int | None) -> dict[str, Any]:
        return {"rank": worker, "host": None if worker is None else self._lead.layout.hosts[worker]}

    def _journal_broke(self, error: OSError) -> None:
        """Without a journal, nothing that RUNs do from now on would count: end while what is there is whole."""
        if self._journal_is_good:  # or once more for each event of the RUNs that are still running
            self._lead.console.line(f"{self._experiment.exp.journal}: {error.strerror}: stopping early")
        self._journal_is_good = False
        self._lead.stop.reason = "the journal cannot be written"
