"""What the user wants: read, check, and decide what a restart does. Nothing is created; see `establish` for that."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swiftpy.errors import UserError, disk_says
from swiftpy.experiment import exp as exps
from swiftpy.experiment import restart
from swiftpy.experiment.restart import Decision
from swiftpy.experiment.spec import RunSpec, name_problem
from swiftpy.runtime.job import Lead
from swiftpy.sites.settings import (
    Setting,
    benchmark_timeout,
    environment,
    exp_parent,
    placement,
    procs,
    settings_of,
    table,
)
from swiftpy.sites.site import Site, load_site
from swiftpy.upf.parse import check_lines, read_job
from swiftpy.upf.paths import check_paths
from swiftpy.upf.plan import report, time_limits


@dataclass(frozen=True)
class Intent:
    """What the user wants, found good: nothing was created for it yet. `old` is the EXP to go on from."""

    options: argparse.Namespace
    site: Site
    settings: Mapping[str, Setting]
    specs: list[RunSpec]
    decisions: list[Decision]
    old: exps.Exp | None


def understand(options: argparse.Namespace, lead: Lead) -> Intent:
    """Read and check everything. UserError with all problems of the files, or else of the parameters of all RUNs."""
    if options.restart is not None and not options.restart.strip():  # "$EXP" of a script, where EXP is not set
        raise UserError("the name of the EXP to restart is empty: give its name, or leave it out to start anew")
    if options.restart is None and (options.fresh or options.after):
        raise UserError(f"{'--fresh' if options.fresh else '--after'} is for a restart: name the EXP to go on from")
    site = load_site(options.site)
    settings = _settings(site, lead)
    for name in (settings["MODEL_NAME"], settings["EXPID"]):
        if name.value and (problem := name_problem(name.value)):
            raise UserError(f"{name} {problem}: it names a directory")
    if settings["EXPID"].value and not options.exp:
        exps.check_free(exp_parent(settings), settings["EXPID"].value)
    data = settings["DATA_SOURCE"]
    check_paths(settings, os.environ)
    _check_hooks(options.hook, lead)
    specs = read_job(options.upf, options.dflts)
    sets = [parameters(spec, options, settings) for spec in specs]
    env = environment(settings)  # some of it may be the site's file's, and not in ours
    answers = lead.call_in_child("swiftpy.upf.task:check", options.task, sets, data.value or None, env=env)
    if answers:
        raise UserError(*check_lines(specs, answers, options.dflts))
    old, whole = None, []
    if options.restart is not None:
        with _readable(options.restart):
            old = _source(options, exp_parent(settings), lead)
        whole = lead.call_in_child("swiftpy.upf.task:with_defaults", options.task, sets, data.value or None, env=env)
    compare = partial(lead.call_in_child, "swiftpy.upf.task:compare", options.task, env=env)
    with _readable(options.restart):
        decisions = restart.plan(specs, old, compare, read_job, options.fresh, whole)
        intent = Intent(options, site, settings, specs, decisions, old)
        refuse_rivals(intent, exps.Exp(options.exp.absolute()) if options.exp else None)
    return intent


def _settings(site: Site, lead: Lead) -> dict[str, Setting]:
    """The user's settings; in a job, PROCS is how many ranks were started, whatever the setting is."""
    settings = settings_of(site, os.environ)
    started = 1 + len(lead.layout.workers)
    if started > 1 and settings["PROCS"].value != str(started):
        settings["PROCS"] = Setting("PROCS", str(started), "launcher")
    return settings


@contextlib.contextmanager
def _readable(exp: str) -> Iterator[None]:
    """UserError if what is done here meets something in the EXP that may not be read: a colleague's, with umask 077."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{disk_says(error, exp)}: to restart {exp} you must be able to read all of it") from error


def refuse_rivals(intent: Intent, mine: exps.Exp | None = None) -> None:
    """UserError if another job trains the same RUNs now, from the same EXP. `mine` is the EXP of this job."""
    if intent.old is not None:
        ids = {spec.id for spec, _ in to_run(intent)}
        restart.refuse_rivals(intent.old, exp_parent(intent.settings), ids, read_job, intent.options.after, mine)


def _source(options: argparse.Namespace, parent: Path, lead: Lead) -> exps.Exp:
    """The EXP to go on from. UserError if its job lives, or waits in the queue."""
    old = exps.find(parent, options.restart)
    if not options.exp:  # a batch job goes on from what was over when it was submitted
        _refuse_queued(old, options.after, lead)
        for line in _queued_after(old, parent):
            lead.console.line(line)
    old, remarks = restart.source(old, parent, options.after)
    for remark in remarks:
        lead.console.line(remark)
    return old


def _refuse_queued(old: exps.Exp, ended: str, lead: Lead) -> None:
    """UserError if the EXP's batch job has yet to begin: it would train the same RUNs. `ended`: a job that is gone."""
    job = restart.queued(old)
    if job is None or job["jobid"] == ended or old.lock.exists():
        return
    has = f"{old.id}: its job {job['jobid']}, submitted to {job['site']}, has not begun"
    over = lead.call_in_child("swiftpy.sites.schedulers:is_over", job["scheduler"], job["jobid"])
    if over is None:
        raise UserError(
            f"{has}, and {job['scheduler']} cannot be asked here whether it will:"
            f" cancel it, and say that it is gone with --after {job['jobid']}"
        )
    if not over:
        raise UserError(f"{has}: cancel it first, or restart {old.id} when it has ended")


def _queued_after(old: exps.Exp, parent: Path) -> Iterator[str]:
    """A line for each EXP that goes on from this one when its job begins, as a successor in a chain does."""
    for exp in restart.restarts_of(old, parent):
        if job := restart.queued(exp):
            yield f"{exp.id} goes on from {old.id} as well: its job {job['jobid']} has not begun"


def _check_hooks(names: Sequence[str], lead: Lead) -> None:
    if names and (problems := lead.call_in_child("swiftpy.runtime.hooks:problems", names)):
        raise UserError(*problems)


def parameters(spec: RunSpec, options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The RUN's parameters: --timeout holds for all RUNs, settings where the user's files say nothing."""
    limit = options.timeout if options.timeout is not None else benchmark_timeout(settings)
    limit = int(limit) if limit.is_integer() else limit  # as users write it, and read it in parameters.txt
    given = {"timeout": limit} if options.timeout is not None else {}
    return {"model_name": settings["MODEL_NAME"].value, "timeout": limit, **spec.params, **given}


def explain(intent: Intent, lead: Lead) -> None:
    """Say what would happen: `--plan`."""
    sets = [parameters(spec, intent.options, intent.settings) for spec in intent.specs]
    limits = time_limits([params["timeout"] for params in sets])
    for line in [*table(intent.settings), limits, "", *report(intent.decisions, procs(intent.settings) - 1)]:
        lead.console.line(line)
    if intent.site.scheduler or intent.site.server_slot:
        lead.console.line(placement(intent.site, intent.settings))


def to_run(intent: Intent) -> Sequence[tuple[RunSpec, Decision]]:
    """The RUNs that are not skipped, in the UPF's order."""
    pairs = zip(intent.specs, intent.decisions, strict=True)
    return [(spec, decision) for spec, decision in pairs if decision.verdict != "skip"]
