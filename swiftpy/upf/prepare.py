"""Everything before the first task: read, check, decide what a restart does, and create the EXP.

Nothing is created until all input was found good.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftpy import __version__
from swiftpy.errors import UserError
from swiftpy.experiment import exp as exps
from swiftpy.experiment import lock, markers, provenance, restart
from swiftpy.experiment.carry import carry
from swiftpy.experiment.journal import Journal
from swiftpy.experiment.restart import Decision
from swiftpy.experiment.spec import RunSpec, name_problem
from swiftpy.runtime.job import Lead
from swiftpy.sites.schedulers import job_id
from swiftpy.sites.settings import Setting, environment, exp_parent, placement, procs, resolve, table, time_limit
from swiftpy.sites.site import Site, load_site
from swiftpy.upf.parse import check_lines, read_job
from swiftpy.upf.plan import report


@dataclass(frozen=True)
class Intent:
    """What the user wants, found good: nothing was created for it yet. `old` is the EXP to go on from."""

    options: argparse.Namespace
    site: Site
    settings: Mapping[str, Setting]
    specs: list[RunSpec]
    decisions: list[Decision]
    old: exps.Exp | None


@dataclass(frozen=True)
class Experiment:
    """The EXP of this job, created and held."""

    exp: exps.Exp
    journal: Journal
    lock: lock.Lock
    env: dict[str, str]


def understand(options: argparse.Namespace, lead: Lead) -> Intent:
    """Read and check everything. UserError with all problems, of all RUNs."""
    site = load_site(options.site)
    settings = resolve(site, os.environ)
    model = settings["MODEL_NAME"]
    if problem := name_problem(model.value):
        raise UserError(f"{model} {problem}: it names a directory")
    data = settings["DATA_SOURCE"]
    if data.value and not Path(data.value).is_dir():
        raise UserError(f"{data}: there is no such directory")
    _check_hooks(options.hook, lead)
    specs = read_job(options.upf, options.dflts)
    sets = [parameters(spec, options, settings) for spec in specs]
    env = environment(settings)  # some of it may be the site's file's, and not in ours
    answers = lead.call_in_child("swiftpy.upf.task:check", options.task, sets, data.value or None, env=env)
    if answers:
        raise UserError(*check_lines(specs, answers))
    old, whole = None, []
    parent = exp_parent(settings)
    if options.restart:
        old = exps.find(parent, options.restart)
        old, remarks = restart.source(old, parent, options.after)
        for remark in remarks:
            lead.console.line(remark)
        whole = lead.call_in_child("swiftpy.upf.task:with_defaults", options.task, sets, env=env)
    compare = getattr(importlib.import_module(options.task.partition(":")[0]), "compare", _same_or_refuse)
    decisions = restart.plan(specs, old, compare, read_job, options.fresh, whole)
    return Intent(options, site, settings, specs, decisions, old)


def _check_hooks(names: Sequence[str], lead: Lead) -> None:
    software = os.environ.get("SOFTWARE_SOURCE", "")
    if software and not Path(os.path.expandvars(software)).expanduser().exists():
        raise UserError(f"SOFTWARE_SOURCE={software}: there is no file of this name")
    if names and (problems := lead.call_in_child("swiftpy.runtime.hooks:problems", names)):
        raise UserError(*problems)


def parameters(spec: RunSpec, options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The RUN's parameters with what the settings say where the user's files say nothing."""
    limit = options.timeout if options.timeout is not None else time_limit(settings)
    limit = int(limit) if limit.is_integer() else limit  # as users write it, and read it in parameters.txt
    return {"model_name": settings["MODEL_NAME"].value, "timeout": limit, **spec.params}


def _same_or_refuse(old: Mapping[str, Any], new: Mapping[str, Any], done: Mapping[str, Any] | None) -> tuple[str, str]:
    """The restart decision for a runner that offers none: equal parameters or nothing."""
    if old == new:
        return ("skip", "finished") if done is not None else ("resume", "not finished")
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return "refuse", f"its parameters differ: {', '.join(keys)}"


def explain(intent: Intent, lead: Lead) -> None:
    """Say what would happen: `--plan`."""
    workers = len(lead.layout.workers) or procs(intent.settings) - 1
    for line in [*table(intent.settings), "", *report(intent.decisions, workers)]:
        lead.console.line(line)
    if intent.site.scheduler:
        lead.console.line(placement(intent.site, intent.settings))


def establish(intent: Intent, lead: Lead) -> Experiment:
    """Create the EXP, carry over what a restart needs, take the lock, and open the journal.

    UserError if the disk does not let us, naming the file.
    """
    try:
        return _establish(intent, lead)
    except OSError as error:
        raise UserError(f"{error.filename or 'the EXP'}: {error.strerror}: the job cannot start") from error


def _establish(intent: Intent, lead: Lead) -> Experiment:
    options, settings = intent.options, intent.settings
    jobid = job_id(os.environ)
    if options.exp:
        exp = exps.adopt(options.exp)
        held = lock.Lock(exp, jobid)  # output.txt is where the scheduler takes what we say
    else:
        exp = exps.create(exp_parent(settings), settings["EXPID"].value or None, intent.old)
        held = lock.Lock(exp, jobid)
        lead.console.keep(exp.root / "output.txt")
    lead.console.line(f"EXP {exp.root}")
    for line in table(settings):
        lead.console.line(f"  {line}")
    upf, dflts = exp.copy_inputs(options.upf, options.dflts)
    if intent.old is not None:
        carried = carry(intent.old, exp, intent.decisions, lambda: held.beat(time.monotonic()))
        lead.console.line(
            f"restart of {intent.old.root}: copied {carried.copied / 1e6:.1f} MB, linked {carried.linked / 1e6:.1f} MB"
        )
        for link in carried.dropped:
            lead.console.line(f"{link}: not carried over, it points out of the EXP")
        _complete_markers(exp, intent)
        if left := restart.left_behind(intent.specs, intent.old):
            lead.console.line(f"{left} RUNs of {intent.old.id} are not in {options.upf.name}: they stay there alone")
    env = environment(settings) | {
        "EXPID": exp.id,
        "TURBINE_OUTPUT": str(exp.root),
        "USER": user(),
    }
    provenance.write_environment(exp, {**os.environ, **env})
    provenance.write_jobid(exp, jobid or f"{socket.gethostname()}:{os.getpid()}")
    count = 1 + len(lead.layout.workers)
    if not options.exp:
        nodes = len({site.node for site in lead.layout.workers.values()})
        provenance.log(exp, submission_record(settings, exp, jobid or "-", count, nodes))
    provenance.log(exp, {"STARTED": timestamp()})
    journal = Journal(exp.journal)
    journal.write(
        "job_started",
        upf=upf,
        dflts=dflts,
        procs=count,
        restart=intent.old.id if intent.old else None,
        version=__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        jobid=jobid or None,
        runs=len(intent.specs),
        epoch_seconds=restart.epoch_seconds(intent.old),
    )
    journal.flush()
    return Experiment(exp, journal, held, env)


def _complete_markers(exp: exps.Exp, intent: Intent) -> None:
    """Record finished RUNs that have no record: the old job died just before it, or was the original system's."""
    for spec, decision in zip(intent.specs, intent.decisions, strict=True):
        if decision.verdict == "skip" and not markers.path(exp, spec.id).exists():
            markers.write(exp, spec.id, spec.params, decision.value or {}, time.time())


def user() -> str:
    """The user's name, as hooks and RUNs fill it in for $USER."""
    try:
        return os.environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):  # a container started with a number that is not in its passwd
        return f"uid{os.getuid()}"


def submission_record(
    settings: Mapping[str, Setting], exp: exps.Exp, jobid: str, count: int, nodes: int
) -> dict[str, object]:
    """What turbine.log says of a job of `count` processes when it is submitted, or started by hand."""
    return {
        "SCRIPT": os.environ.get("SWIFTPY_SCRIPT", "python -m swiftpy.upf"),
        "JOB": jobid,
        "COMMAND": os.environ.get("SWIFTPY_COMMAND") or " ".join(["python -m swiftpy.upf", *sys.argv[1:]]),
        "TURBINE_OUTPUT": exp.root,
        "HOSTNAME": socket.gethostname(),
        "SUBMITTED": timestamp(),
        "PROCS": count,
        "NODES": nodes,
        "PPN": settings["PPN"].value,
        "TURBINE_WORKERS": count - 1,
        "ADLB_SERVERS": 1,
        "WALLTIME": settings["WALLTIME"].value or "-",
    }


def timestamp() -> str:
    """Now, local time, as the users' logs have it."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def to_run(intent: Intent) -> Sequence[tuple[RunSpec, Decision]]:
    """The RUNs that are not skipped, in the UPF's order."""
    pairs = zip(intent.specs, intent.decisions, strict=True)
    return [(spec, decision) for spec, decision in pairs if decision.verdict != "skip"]
