"""The EXP of a job: created, or adopted from who submitted it, filled with what a restart needs, and held."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from swiftpy import __version__
from swiftpy.errors import UserError, disk_says
from swiftpy.experiment import exp as exps
from swiftpy.experiment import lock, markers, provenance, restart
from swiftpy.experiment.carry import carry
from swiftpy.experiment.journal import Journal
from swiftpy.runtime.job import Lead
from swiftpy.sites.schedulers import job_id
from swiftpy.sites.settings import Setting, environment, exp_parent, procs, table, walltime
from swiftpy.sites.site import Site
from swiftpy.sites.times import clock
from swiftpy.upf.prepare import Intent, refuse_rivals


@dataclass(frozen=True)
class Experiment:
    """The EXP of this job, created and held."""

    exp: exps.Exp
    journal: Journal
    lock: lock.Lock
    env: dict[str, str]


def establish(intent: Intent, lead: Lead) -> Experiment:
    """Create the EXP, carry over what a restart needs, take the lock, and open the journal.

    UserError if the disk does not let us, naming the file. A failure leaves nothing behind but the EXP of a batch job:
    what was carried over until then would keep a full disk full, and a lock keep restarts on other nodes waiting.
    """
    try:
        with contextlib.ExitStack() as undo:
            experiment = _establish(intent, lead, undo)
            undo.pop_all()
            return experiment
    except OSError as error:
        where = intent.options.exp or exp_parent(intent.settings)
        raise UserError(f"{disk_says(error, where)}: the job cannot start") from error


def _establish(intent: Intent, lead: Lead, undo: contextlib.ExitStack) -> Experiment:
    jobid = job_id(os.environ)
    exp, held = _open(intent, lead, jobid, undo)
    lead.console.line(f"EXP {exp.root}")
    for line in table(intent.settings):
        lead.console.line(f"  {line}")
    inputs = exp.copy_inputs(intent.options.upf, intent.options.dflts)
    if intent.old is not None:
        _take_over(intent, intent.old, exp, lead)
    env = environment(intent.settings) | {"EXPID": exp.id, "TURBINE_OUTPUT": str(exp.root), "USER": user()}
    provenance.write_environment(exp, {**os.environ, **env})
    provenance.write_jobid(exp, jobid or f"{socket.gethostname()}:{os.getpid()}")
    if not intent.options.exp:
        nodes = len({seat.node for seat in lead.layout.workers.values()})
        provenance.log(exp, submission_record(intent.settings, intent.site, exp, jobid or "-", nodes))
    provenance.log(exp, {"STARTED": timestamp()})
    return Experiment(exp, _journal(intent, exp, inputs, jobid, lead), held, env)


def _open(intent: Intent, lead: Lead, jobid: str, undo: contextlib.ExitStack) -> tuple[exps.Exp, lock.Lock]:
    if intent.options.exp:
        exp = exps.adopt(intent.options.exp)
    else:
        exp = exps.create(exp_parent(intent.settings), intent.settings["EXPID"].value or None, intent.old)
        undo.callback(shutil.rmtree, exp.root, ignore_errors=True)
    held = lock.Lock(exp, jobid)
    undo.callback(held.release)
    refuse_rivals(intent, exp)  # again: of two restarts that looked at once, neither had a lock to be seen
    if not intent.options.exp:  # there, output.txt is where the scheduler takes what we say
        lead.console.keep(exp.output)
    return exp, held


def _take_over(intent: Intent, old: exps.Exp, exp: exps.Exp, lead: Lead) -> None:
    """Have what a restart needs of the old EXP."""
    carried = carry(old, exp, intent.decisions)
    megabytes = f"copied {carried.copied / 1e6:.1f} MB, linked {carried.linked / 1e6:.1f} MB"
    lead.console.line(f"restart of {old.root}: {megabytes}")
    for link in carried.dropped:
        lead.console.line(f"{link}: not carried over, it points out of the EXP")
    _complete_markers(exp, intent)
    if left := restart.left_behind(intent.specs, old):
        upf = intent.options.upf.name
        lead.console.line(f"{left} RUNs of {old.id} are not in {upf}: they stay there alone")


def _journal(intent: Intent, exp: exps.Exp, inputs: tuple[str, str | None], jobid: str, lead: Lead) -> Journal:
    upf, dflts = inputs
    journal = Journal(exp.journal)
    journal.write(
        "job_started",
        upf=upf,
        dflts=dflts,
        procs=procs(intent.settings),
        restart=intent.old.id if intent.old else None,
        version=__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        jobid=jobid or None,
        runs=len(intent.specs),
        epoch_seconds=restart.epoch_seconds(intent.old),
    )
    for decision in intent.decisions:
        if decision.verdict == "skip":
            journal.write("run_skipped", id=decision.id, reason=decision.reason)
    journal.flush()
    return journal


def _complete_markers(exp: exps.Exp, intent: Intent) -> None:
    """Record finished RUNs that have no record: the old job died just before it, or was the original system's."""
    for spec, decision in zip(intent.specs, intent.decisions, strict=True):
        if decision.verdict == "skip" and not markers.path(exp, spec.id).exists():
            markers.write(exp, spec.id, spec.params, decision.value or {}, time.time())


def record_refusal(exp: exps.Exp, code: int, reason: str) -> None:
    """Let the EXP of a batch job say that the job ended before it began; of any other nothing is changed."""
    with contextlib.suppress(OSError):
        if restart.queued(exp) is None:
            return
        with Journal(exp.journal) as journal:
            journal.write("job_stopped", code=code, reason=reason)
        provenance.log(exp, {"EXIT CODE": code, "COMPLETED": timestamp()})


def user() -> str:
    """The user's name, as hooks and RUNs fill it in for $USER."""
    try:
        return os.environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):  # a container started with a number that is not in its passwd
        return f"uid{os.getuid()}"


def submission_record(
    settings: Mapping[str, Setting], site: Site, exp: exps.Exp, jobid: str, nodes: int
) -> dict[str, object]:
    """What turbine.log says of a job when it is submitted, or started by hand."""
    count = procs(settings)
    return {
        "SCRIPT": os.environ.get("SWIFTPY_SCRIPT", "python -m swiftpy.upf"),
        "JOB": jobid,
        "COMMAND": os.environ.get("SWIFTPY_COMMAND") or shlex.join(["python", "-m", "swiftpy.upf", *sys.argv[1:]]),
        "TURBINE_OUTPUT": exp.root,
        "HOSTNAME": socket.gethostname(),
        "SUBMITTED": timestamp(),
        "PROCS": count,
        "NODES": nodes,
        "PPN": settings["PPN"].value,
        "TURBINE_WORKERS": count - 1,
        "ADLB_SERVERS": 1,
        # In the form that means one thing: of `60`, no reader could tell whether the site counts minutes or seconds.
        "WALLTIME": clock(walltime(settings, site.scheduler)) if settings["WALLTIME"].value else "-",
    }


def timestamp() -> str:
    """Now, local time, as the users' logs have it."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
