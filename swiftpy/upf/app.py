"""The UPF application as a client of the engine: tasks from RUNs, outcomes into journal, markers and progress."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import time
from collections.abc import Iterator
from typing import Any, cast

from swiftpy.core.events import Event, ReportOutcome, StartTask
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Task, TaskState
from swiftpy.errors import TaskError, UserError
from swiftpy.experiment import markers, provenance
from swiftpy.experiment.restart import epoch_seconds
from swiftpy.experiment.spec import RunSpec
from swiftpy.runtime.call import Payload, pack, resolve
from swiftpy.runtime.job import JobSpec, Lead
from swiftpy.runtime.server import Server
from swiftpy.runtime.worker import Worker
from swiftpy.sites.schedulers import job_id
from swiftpy.sites.settings import local_env, walltime
from swiftpy.upf import preflight
from swiftpy.upf.options import DONE, FAILED_RUNS, STOPPED_EARLY, parse, time_limit
from swiftpy.upf.prepare import (
    Experiment,
    Intent,
    establish,
    explain,
    parameters,
    timestamp,
    to_run,
    understand,
)
from swiftpy.upf.progress import Progress, duration


class UpfApplication:
    """See `swiftpy.runtime.job.Application`. It lives on every rank, and does something on rank 0 only."""

    _lead: Lead
    _intent: Intent
    _experiment: Experiment
    _progress: Progress

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._failures: list[tuple[RunSpec, TaskError]] = []
        self._interrupted = 0
        self._epoch_seconds = 0.0  # the longest mean of a RUN so far
        self._drained = ""  # why the job ends early
        self._began = time.monotonic()

    # -- before ------------------------------------------------------------------------------------------------

    def prepare(self, lead: Lead) -> JobSpec:
        """See Application."""
        options = parse(self._arguments)
        self._lead, self._intent = lead, understand(options, lead)
        if options.plan:
            explain(self._intent, lead)
            raise SystemExit(0)
        if options.dry_run or options.chain > 1:
            raise UserError(f"--dry-run and --chain need a scheduler, which site {options.site} has not")
        workers = len(lead.layout.workers)
        if not workers:
            raise UserError(
                "there is one process only: the server needs a worker beside it; start with mpiexec -n 2 or more"
            )
        site, settings = self._intent.site, self._intent.settings
        devices, limit = local_env(site, settings), walltime(settings, site.scheduler)  # or refused before EXP is made
        self._experiment = establish(self._intent, lead)
        self._runs = to_run(self._intent)
        self._epoch_seconds = epoch_seconds(self._intent.old)
        for decision in self._intent.decisions:
            if decision.verdict == "skip":
                self._experiment.journal.write("run_skipped", id=decision.id, reason=decision.reason)
        skipped = len(self._intent.specs) - len(self._runs)
        lead.console.line(f"{len(self._runs)} RUNs on {workers} workers" + (f", {skipped} skipped" if skipped else ""))
        self._progress = Progress(lead.console, len(self._runs), workers, time.monotonic, options.progress == "bar")
        exp, size = self._experiment.exp, lead.layout.size
        return JobSpec(
            outputs=tuple(str(exp.out_file(rank, size)) for rank in range(size)),
            env=self._experiment.env,
            hooks=tuple(options.hook),
            grace=options.grace,
            walltime=self._time_left(limit),
            local_env=devices,
            preflight=preflight.request(self._intent),
        )

    def _time_left(self, limit: float) -> float:
        """Until WALLTIME (`limit`) is over, or the scheduler says that the job's time is, whichever is first."""
        own = limit - (time.monotonic() - self._began)
        if not job_id(os.environ):
            return own
        # In a child process: a rank must not fork on top of a fabric.
        told = self._lead.call_in_child("swiftpy.upf.task:seconds_left")
        return own if told is None else min(own, told)

    def failed(self, reasons: list[str]) -> int:
        """See Application: a hook failed, so no RUN was started. It fails as well when a signal ends it."""
        for reason in reasons:
            self._lead.console.line(reason)
        code = STOPPED_EARLY if self._lead.stop.reason else UserError.exit_code
        self._close(code, "; ".join(reasons))
        return code

    # -- during ------------------------------------------------------------------------------------------------

    def join(self, worker: Worker) -> None:
        """See Application."""

    def serve(self, server: Server, scheduler: Scheduler) -> None:
        """See Application."""
        server.run(self._tasks())

    def _tasks(self) -> Iterator[Task]:
        options, settings, exp = self._intent.options, self._intent.settings, self._experiment.exp
        for number, (spec, _) in enumerate(self._runs):
            params = {
                **parameters(spec, options, settings),
                "instance_directory": str(exp.run_dir(spec.id)),
                "experiment_id": exp.id,
                "run_id": spec.id,
            }
            kind = Kind(
                "swiftpy.upf.task:run_one",
                label=spec.id,
                timeout=time_limit(params["timeout"]),
                retries=options.retries,
                isolated=not options.inline,
            )
            yield Task(number, kind, pack(options.task, params))

    def started(self, command: StartTask) -> None:
        """See Client."""
        self._progress.started(command.task.label)
        self._write("run_started", id=command.task.label, attempt=command.attempt, **self._place(command.worker))

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        return cast(Payload, command.task.payload)

    def resolved(self, report: ReportOutcome) -> None:
        """See Client."""
        if report.state is TaskState.DONE:
            self._run_done(report)
        elif report.error is not None and report.state is not TaskState.INTERRUPTED:
            self._run_failed(report, report.error)
        else:
            self._run_interrupted(report)

    def commit(self) -> None:
        """See Client."""
        try:
            self._experiment.journal.flush()
        except OSError as error:
            self._journal_broke(error)

    def heard(self, message: object) -> list[Event]:
        """See Client: RUNs are isolated, and send nothing."""
        raise AssertionError(f"no RUN can send {message!r}")

    def draining(self, reason: str) -> None:
        """See Client."""
        self._drained = reason
        self._lead.console.line(
            f"{reason}: no new RUNs; those running have {duration(self._intent.options.grace)} to end"
            " once they are asked to (a second signal kills them)"
        )

    def seconds_needed(self) -> float:
        """See Client: a RUN that does not get to the end of an epoch may have no checkpoint."""
        return self._epoch_seconds

    def tick(self) -> None:
        """See Client."""
        self._experiment.lock.beat(time.monotonic())
        self._progress.tick()

    def _run_done(self, report: ReportOutcome) -> None:
        spec, decision = self._runs[report.task.id]
        assert isinstance(report.value, bytes), "a RUN's result is not in parts"
        value: dict[str, Any] = pickle.loads(report.value)[0]
        measured = None
        if decision.verdict in ("new", "fresh") and report.attempt == 1 and value.get("epochs"):
            measured = round(report.seconds / value["epochs"], 3)
            self._epoch_seconds = max(self._epoch_seconds, measured)
        if value["status"] == "interrupted":
            self._run_interrupted(report, measured)
            return
        try:
            markers.write(self._experiment.exp, spec.id, spec.params, value, time.time())
        except OSError as error:
            self._lead.console.line(
                f"{spec.id}: its marker cannot be written ({error}); a restart will look at it again"
            )
        if value["status"] == "skip":
            self._write("run_skipped", id=spec.id, reason=value["reason"])
            text = f"skipped: {value['reason']}"
        else:
            self._write(
                "run_done",
                id=spec.id,
                attempt=report.attempt,
                seconds=round(report.seconds, 3),
                value=value,
                epoch_seconds=measured,
                **self._place(report.worker),
            )
            text = f"done in {duration(report.seconds)} on rank {report.worker}"
        self._progress.ended(spec.id, text, done=True, failed=False)

    def _run_failed(self, report: ReportOutcome, error: TaskError) -> None:
        spec = self._runs[report.task.id][0]
        final = report.state is TaskState.FAILED
        self._write(
            "run_failed",
            id=spec.id,
            attempt=report.attempt,
            final=final,
            kind=error.kind,
            message=error.message,
            log=self._log(report.worker),
            seconds=round(report.seconds, 3),
            **self._place(report.worker),
        )
        if final:
            self._failures.append((spec, error))
        text = f"{'FAILED' if final else 'failed, will be tried again'}: {error.summary()}"
        self._progress.ended(spec.id, text, done=False, failed=final)

    def _run_interrupted(self, report: ReportOutcome, epoch_seconds: float | None = None) -> None:
        self._interrupted += 1
        if report.worker is None:
            return  # it had not started
        label = report.task.label
        place = self._place(report.worker)
        self._write("run_interrupted", id=label, attempt=report.attempt, epoch_seconds=epoch_seconds, **place)
        why = f" ({report.error.summary()})" if report.error else ""
        self._progress.ended(label, f"interrupted{why}; a restart goes on with it", done=False, failed=False)

    # -- after -------------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """See Application."""
        code = STOPPED_EARLY if self._interrupted else FAILED_RUNS if self._failures else DONE
        exp, console = self._experiment.exp, self._lead.console
        for spec, error in self._failures:
            console.line(f"{spec.id} failed: {error.summary()}; log {self._log(error.rank)}")
        if self._intent.options.summary:
            console.line(self._summary(self._intent.options.summary))
        skipped = len(self._intent.specs) - len(self._runs)
        console.line(
            f"{self._progress.done} done, {skipped} skipped, {len(self._failures)} failed, {self._interrupted} left,"
            f" in {duration(time.monotonic() - self._began)}: {exp.root}"
        )
        if code != DONE:
            console.line(f"to go on: --restart {exp.id}")
        self._close(code, (self._drained or "stopped early") if self._interrupted else "all RUNs were resolved")
        return code

    def _summary(self, name: str) -> str:
        """What the user's summary prints. It is a report: that it fails must not change the job's outcome."""
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text):
                resolve(name)(str(self._experiment.exp.root))
        except Exception as exception:
            return f"{name} failed: {type(exception).__name__}: {exception}"
        return text.getvalue().rstrip()

    def _close(self, code: int, reason: str) -> None:
        counts = {"done": self._progress.done, "failed": len(self._failures), "left": self._interrupted}
        skipped = len(self._intent.specs) - len(self._runs)
        self._write("job_stopped", code=code, reason=reason, skipped=skipped, **counts)
        self.commit()
        elapsed = f"{time.monotonic() - self._began:.3f}"
        with contextlib.suppress(OSError):
            provenance.log(self._experiment.exp, {"MPIEXEC TIME": elapsed, "EXIT CODE": code, "COMPLETED": timestamp()})
        self._experiment.lock.release()

    # -- helpers -----------------------------------------------------------------------------------------------

    def _place(self, worker: int | None) -> dict[str, Any]:
        return {"rank": worker, "host": None if worker is None else self._lead.layout.hosts[worker]}

    def _log(self, rank: int | None) -> str:
        """Where the output of a RUN on this rank is, relative to the EXP; rank 0 speaks for RUNs that had none."""
        rank = rank if rank is not None and rank >= 0 else 0
        return f"out/{self._experiment.exp.out_file(rank, self._lead.layout.size).name}"

    def _write(self, event: str, **fields: Any) -> None:
        try:
            self._experiment.journal.write(event, **fields)
        except OSError as error:
            self._journal_broke(error)

    def _journal_broke(self, error: OSError) -> None:
        """Without a journal, nothing that RUNs do from now on would count: end while what is there is whole."""
        self._lead.console.line(f"{self._experiment.exp.journal}: {error.strerror}: stopping early")
        self._lead.stop.reason = "the journal cannot be written"
