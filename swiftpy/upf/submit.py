"""Submit a job to a site's scheduler: check everything, make the EXP, write the batch script into it, hand it over.

    python -m swiftpy.upf.submit SITE UPF DFLTS [OPTIONS]

The job runs in this EXP, on the copies of UPF and DFLTS in it. What a successor needs is in its `batch.json`.
With --plan or --dry-run nothing is made; --plan needs no scheduler.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from swiftpy.errors import UserError, disk_says
from swiftpy.experiment import exp as exps
from swiftpy.experiment import provenance, restart
from swiftpy.experiment.exp import Exp
from swiftpy.experiment.files import replace_text
from swiftpy.experiment.journal import Journal
from swiftpy.runtime.job import Lead
from swiftpy.runtime.layout import Layout
from swiftpy.runtime.output import Console
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.spawner import Spawner
from swiftpy.sites import schedulers, script
from swiftpy.sites.settings import SOURCES, Setting, environment, exp_parent, settings_of, size, walltime
from swiftpy.sites.site import Site, load_site
from swiftpy.sites.times import clock
from swiftpy.upf.establish import submission_record
from swiftpy.upf.options import command_line, parse
from swiftpy.upf.prepare import explain, understand

#: What a batch job needs of the environment besides the settings: PBS hands nothing on.
_CARRIED = (
    *("PYTHONPATH", "TMP_ORIGINAL", "SOFTWARE_SOURCE", "SOFTWARE_TARGET", "STAGE_KEEP", "TF_NUM_INTRAOP_THREADS"),
    *("SWIFTPY_SITES", "SWIFTPY_SCRIPT", "SWIFTPY_COMMAND"),
)


@dataclass(frozen=True)
class Request:
    """One job of a chain, as `batch.json` keeps it. `crashes` are those of the chain so far; `arguments` are ours."""

    site: str
    arguments: list[str]
    directory: str
    job: int = 1
    crashes: int = 0
    after: str = ""


def main(arguments: list[str]) -> int:
    """Submit as the command line says; returns the exit code."""
    try:
        site = load_site(arguments[0])
        options = parse([*arguments[1:], "--site", arguments[0]])
        settings = settings_of(site, os.environ)
        script.values(site, settings)
        if options.chain > 1 and settings["QUEUE"].value in site.no_chain:
            raise UserError(f"{settings['QUEUE']} takes no jobs that follow each other, as --chain makes: set QUEUE")
        lead = Lead(Layout([socket.gethostname()], {}), Console(), Spawner(), StopRequest())
        intent = understand(options, lead)
        if options.plan:
            explain(intent, lead)
            return 0
        if not site.scheduler:
            raise UserError(f"site {site.name} has no scheduler, so no batch script; --plan says what would run")
        request = Request(arguments[0], command_line(options), str(Path.cwd()))
        if options.dry_run:
            parent = exp_parent(settings)
            exp = Exp(parent / (settings["EXPID"].value or next(exps.free_names(parent))))
            text = _script(site, settings, request, exp, intent.old)
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))  # as in the file that would be submitted
            return 0
        exp, jobid = submit(request, intent.old)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while it works, the scheduler's command has an answer of its own to this
        print("interrupted: no job was submitted", file=sys.stderr)
        return schedulers.Interrupted.exit_code
    lead.console.line(f"job {jobid}: {exp.root}")
    return 0


def submit(request: Request, old: Exp | None) -> tuple[Exp, str]:
    """Make an EXP that goes on from `old`, and submit its job: (EXP, job id).

    A failure leaves nothing behind, except for `schedulers.TakenError`: a job that was taken needs its EXP.
    """
    site = load_site(request.site)
    settings = settings_of(site, os.environ)
    options = parse(request.arguments)
    job = size(site, settings)
    name = settings["EXPID"].value if request.job == 1 else ""
    exp = exps.create(exp_parent(settings), name or None, old)
    try:
        upf, dflts = exp.copy_inputs(options.upf, options.dflts)
        options.upf, options.dflts = exp.root / upf, exp.root / dflts if dflts else None
        request = replace(request, arguments=command_line(options))
        file = exp.root / f"turbine-{site.scheduler}.sh"
        replace_text(file, _script(site, settings, request, exp, old))
        file.chmod(0o755)
        replace_text(exp.request, json.dumps(asdict(request), indent=1) + "\n")
        provenance.write_environment(exp, os.environ)
        jobid = schedulers.submit(site.scheduler, file, request.after)
    except schedulers.TakenError:
        raise
    except BaseException as error:
        shutil.rmtree(exp.root, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(disk_says(error, exp.root)) from error
        raise
    try:
        provenance.write_jobid(exp, jobid)
        provenance.log(exp, submission_record(settings, site, exp, jobid, job.nodes))
        with Journal(exp.journal) as journal:
            where = {"jobid": jobid, "site": site.name, "scheduler": site.scheduler}
            journal.write("job_submitted", upf=upf, dflts=dflts, **where, job=request.job, chain=options.chain)
    except (OSError, KeyboardInterrupt) as error:  # such as a full disk
        text = f"job {jobid} was submitted, and will run in {exp.root}; that could not be recorded there"
        if isinstance(error, OSError):
            raise schedulers.TakenError(f"{text}: {error.strerror}") from error
        raise schedulers.Interrupted(f"{text}: interrupted") from None
    return exp, jobid


def withdraw(request: Request, exp: Exp, jobid: str) -> None:
    """Take back a job that was submitted and turned out to have nothing to do.

    UserError: it was not, and may begin, so its EXP stays.
    """
    schedulers.delete(load_site(request.site).scheduler, jobid)
    shutil.rmtree(exp.root, ignore_errors=True)


def read_request(exp: Exp) -> Request:
    """The request that `submit` left in the EXP."""
    return Request(**json.loads(exp.request.read_text(encoding="utf-8")))


def successor(request: Request, exp: Exp, crashes: int) -> tuple[Exp, str]:
    """Submit the job that goes on with `exp` when its job, which is this one, has ended."""
    options = parse(request.arguments)
    if not restart.unprepared(exp):  # or the next goes back to the EXP before, whose RUNs are still to start anew
        options.fresh = False
    jobid = schedulers.job_id(os.environ)
    if not jobid:
        raise UserError("the scheduler does not say which job this is, so no other can wait for its end")
    return submit(
        replace(request, arguments=command_line(options), job=request.job + 1, crashes=crashes, after=jobid), exp
    )


def _script(site: Site, settings: Mapping[str, Setting], request: Request, exp: Exp, old: Exp | None) -> str:
    options = parse(request.arguments)
    options.exp, options.after, options.restart = exp.root, request.after, old and str(old.root)
    options.chain, options.dry_run, options.progress = 1, False, "lines"
    variables = environment(settings) | {name: os.environ[name] for name in _CARRIED if os.environ.get(name)}
    variables |= {name: os.environ[name] for name in site.environment if name in os.environ}  # as without a scheduler
    if settings["WALLTIME"].value:
        variables["WALLTIME"] = clock(walltime(settings, site.scheduler))
    variables.pop("EXPID", None)
    others = {s.name: s.source for s in settings.values() if s.name in variables and s.source != "environment"}
    variables[SOURCES] = json.dumps(others)
    command = [
        [sys.executable, "-m", "swiftpy.upf.batch", str(exp.root), "--"],
        script.launch_command(site, script.values(site, settings)),
        [sys.executable, "-m", "swiftpy.upf", *command_line(options)],
    ]
    directory = Path(request.directory)
    return script.render(site, settings, exp.output, variables, directory, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
