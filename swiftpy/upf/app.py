"""The UPF application as a client of the engine: tasks from RUNs, and the exit code from what became of them."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections.abc import Iterator
from typing import cast

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Task
from swiftpy.errors import BAD_INPUT, DONE, SOME_FAILED, STOPPED_EARLY, StoppedError, UserError
from swiftpy.experiment import provenance
from swiftpy.experiment.exp import Exp
from swiftpy.experiment.restart import epoch_seconds
from swiftpy.runtime.call import Payload, payload_of, resolve
from swiftpy.runtime.job import Application, JobSpec, Lead
from swiftpy.runtime.server import Server
from swiftpy.sites.schedulers import job_id
from swiftpy.sites.settings import local_env, walltime
from swiftpy.sites.times import duration
from swiftpy.upf import preflight
from swiftpy.upf.establish import Experiment, establish, record_refusal, timestamp
from swiftpy.upf.options import parse, time_limit
from swiftpy.upf.outcomes import Outcomes
from swiftpy.upf.prepare import Intent, explain, parameters, to_run, understand
from swiftpy.upf.progress import Progress


class UpfApplication(Application):
    """A job that runs a UPF, on rank 0."""

    _lead: Lead
    _intent: Intent
    _experiment: Experiment
    _progress: Progress
    _outcomes: Outcomes

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._drained = ""  # why the job ends early
        self._began = time.monotonic()

    def prepare(self, lead: Lead) -> JobSpec:
        """See Application."""
        options = parse(self._arguments)
        try:
            return self._prepare(options, lead)
        except UserError as error:
            if options.exp:
                record_refusal(Exp(options.exp), error.exit_code, "; ".join(error.lines))
            raise

    def _prepare(self, options: argparse.Namespace, lead: Lead) -> JobSpec:
        self._lead, self._intent = lead, understand(options, lead)
        if options.plan:
            explain(self._intent, lead)
            raise SystemExit(0)
        if options.dry_run or options.chain > 1:
            raise UserError(f"--dry-run and --chain need a scheduler, which site {options.site} has not")
        workers = lead.layout.count_workers()
        site, settings = self._intent.site, self._intent.settings
        devices, limit = local_env(site, settings), walltime(settings, site.scheduler)  # or refused before EXP is made
        lead.go_on()
        self._experiment = establish(self._intent, lead)
        self._runs = to_run(self._intent)
        skipped = len(self._intent.specs) - len(self._runs)
        lead.console.line(f"{len(self._runs)} RUNs on {workers} workers" + (f", {skipped} skipped" if skipped else ""))
        self._progress = Progress(lead.console, len(self._runs), workers, time.monotonic, options.progress == "bar")
        longest = epoch_seconds(self._intent.old)
        self._outcomes = Outcomes(lead, self._experiment, self._runs, self._progress, longest)
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
        told = None
        with contextlib.suppress(StoppedError):  # the job is there by now, and ends as jobs do
            # In a child process: a rank must not fork on top of a fabric.
            told = self._lead.call_in_child("swiftpy.sites.schedulers:seconds_left", dict(os.environ))
        return own if told is None else min(own, told)

    def failed(self, reasons: list[str]) -> int:
        """See Application: a hook failed, so no RUN was started. It fails as well when a signal ends it."""
        for reason in reasons:
            self._lead.console.line(reason)
        code = STOPPED_EARLY if self._lead.stop.reason else BAD_INPUT
        self._close(code, "; ".join(reasons))
        return code

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
            yield Task(number, kind, payload_of(options.task, params))

    def started(self, command: StartTask) -> None:
        """See Client."""
        self._outcomes.started(command)

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        return cast(Payload, command.task.payload)

    def resolved(self, report: ReportOutcome) -> None:
        """See Client."""
        self._outcomes.resolved(report)

    def commit(self) -> None:
        """See Client."""
        self._outcomes.flush()

    def draining(self, reason: str) -> None:
        """See Client."""
        self._drained = reason
        self._lead.console.line(
            f"{reason}: no new RUNs; those running have {duration(self._intent.options.grace)} to end"
            " once they are asked to (a second signal kills them)"
        )

    def seconds_needed(self) -> float:
        """See Client: a RUN that does not get to the end of an epoch may have no checkpoint."""
        return self._outcomes.epoch_seconds

    def tick(self) -> None:
        """See Client."""
        self._progress.tick()

    def finish(self) -> int:
        """See Application."""
        outcomes, exp, console = self._outcomes, self._experiment.exp, self._lead.console
        code = STOPPED_EARLY if outcomes.interrupted else SOME_FAILED if outcomes.failures else DONE
        for spec, error in outcomes.failures:
            console.line(f"{spec.id} failed: {error.summary()}; log {outcomes.log(error.rank)}")
        for reason, ids in outcomes.doubts.items():
            console.line(f"{ids[0]}{f' and {len(ids) - 1} more' if ids[1:] else ''}: {reason}")
        if self._intent.options.summary:
            console.line(self._summary(self._intent.options.summary))
        counts = f"{self._progress.done} done, {self._skipped()} skipped, {len(outcomes.failures)} failed"
        took = duration(time.monotonic() - self._began)
        console.line(f"{counts}, {outcomes.interrupted} left, in {took}: {exp.root}")
        if code != DONE:
            console.line(f"to go on: --restart {exp.id}")
        self._close(code, (self._drained or "stopped early") if outcomes.interrupted else "all RUNs were resolved")
        return code

    def _skipped(self) -> int:
        """By the restart's plan, or by a RUN's own pre module."""
        return len(self._intent.specs) - len(self._runs) + self._progress.skipped

    def _summary(self, name: str) -> str:
        """What the user's summary prints. It is a report: that it fails must not change the job's outcome."""
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text):
                resolve(name)(str(self._experiment.exp.root))
        except BaseException as exception:  # sys.exit left the other ranks waiting: the end of a script, often with 0
            if not isinstance(exception, SystemExit) or exception.code:
                return f"{name} failed: {type(exception).__name__}: {exception}"
        return text.getvalue().rstrip()

    def _close(self, code: int, reason: str) -> None:
        outcomes = self._outcomes
        counts = {"done": self._progress.done, "failed": len(outcomes.failures), "left": outcomes.interrupted}
        outcomes.write("job_stopped", code=code, reason=reason, skipped=self._skipped(), **counts)
        outcomes.flush()
        elapsed = f"{time.monotonic() - self._began:.3f}"
        with contextlib.suppress(OSError):
            provenance.log(self._experiment.exp, {"MPIEXEC TIME": elapsed, "EXIT CODE": code, "COMPLETED": timestamp()})
        self._experiment.lock.release()
