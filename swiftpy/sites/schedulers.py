"""PBS, Slurm and Flux: what scripts tell them; submit one, let it wait for another job, take it back, ask for its end.

Thin on purpose; docs/sites.md says why this is no library.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swiftpy.errors import UserError
from swiftpy.sites.times import clock, seconds

#: In the environment of what a batch script starts: the scheduler's id of the job.
JOBID = "SWIFTPY_JOBID"
_PATIENCE = 120.0  # seconds that a scheduler's command may take; a busy server needs many


@dataclass(frozen=True)
class Scheduler:
    """Commands and syntax of one scheduler. `inside` starts a command that is given from within a job.

    A script's directives, which begin with `directive`, are those of `common`, with the job's name and output filled
    in, and the site's. In the output's path, characters of `doubled` are written twice, and those of `refused` are
    not possible, for the reason given. Of a walltime that is a number alone, `unit` is the seconds that 1 stands for;
    `duration` writes seconds for {WALLTIME}.

    The line on which `submit` prints the job's id matches `id` as a whole; others may come before and after it. `show`
    asks for one job; the answer to it, or the refusal, matches `over` if there is no such job any more. `mine` is what
    people ask for all of theirs.
    """

    directive: str
    common: tuple[str, ...]
    unit: float
    submit: tuple[str, ...]
    id: str
    after: str
    delete: tuple[str, ...]
    show: tuple[str, ...]
    over: str
    mine: str
    inside: tuple[str, ...] = ()
    doubled: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    duration: Callable[[float], str] = clock


SCHEDULERS = {
    "pbs": Scheduler(
        directive="#PBS",
        common=("-N {name}", "-j oe", "-o {output}"),
        unit=1.0,
        submit=("qsub",),
        id=r"(\d+(?:\[\])?\.\S+)",
        after="-Wdepend=afterany:{}",
        delete=("qdel",),
        show=("qstat", "-f"),
        over=r"Unknown Job|has finished|job_state = [CFX]",
        mine="qstat -u $USER",
        refused={":": "PBS takes what comes before a colon for a host's name"},
    ),
    "slurm": Scheduler(
        directive="#SBATCH",
        common=("--job-name={name}", "--output={output}", "--open-mode=append"),
        unit=60.0,
        submit=("sbatch", "--parsable"),
        id=r"(\d+)(?:;\S+)?",  # ID;CLUSTER where there are several
        after="--dependency=afterany:{}",
        delete=("scancel",),
        show=("squeue", "--noheader", "--format=%T", "--jobs"),
        over=r"Invalid job id",
        mine="squeue --me",
        doubled="%",
    ),
    "flux": Scheduler(
        directive="# flux:",
        common=("--job-name={name}", "--output={output}"),
        unit=60.0,
        submit=("batch",),
        id=r"([ƒf][1-9A-HJ-NP-Za-km-z]+)",  # base 58
        after="--dependency=afterany:{}",
        delete=("cancel",),
        show=("jobs", "--no-header", "--format={state}"),
        over=r"INACTIVE|JobID \S+ unknown",
        mine="flux jobs",
        inside=("flux", "--parent"),
        duration=lambda seconds: f"{seconds:g}s",  # a Flux standard duration
    ),
}


class TakenError(UserError):
    """The scheduler has taken the job, or may have, and something went wrong then: its EXP must stay."""

    exit_code = 1


class Interrupted(TakenError):  # noqa: N818  (nothing is wrong with what the user wrote)
    """Ctrl-C, when the scheduler may have taken the job already."""

    exit_code = 130


def submit(name: str, script: Path, after: str = "") -> str:
    """Submit a script, to start when the job `after` has ended in any way; the full job id.

    UserError if refused; TakenError without an answer in time, Interrupted by Ctrl-C. In messages the job is called
    like the script's directory, its EXP.
    """
    scheduler = SCHEDULERS[name]
    dependency = [scheduler.after.format(after)] if after else []
    exp = script.parent
    look = f"which may be in the queue: if {scheduler.mine} does not list {exp.name}, remove {exp}"
    try:
        answer = _command(scheduler, bool(after), [*scheduler.submit, *dependency, str(script)])
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted while {name} was taking the job, {look}") from None
    except _UnansweredError as error:  # its command was ended, and not what the server does
        raise TakenError(f"{error} while {name} was taking the job, {look}") from error
    if answer.returncode != 0:
        raise UserError(f"{name} did not take the job: {_refusal(answer)}")
    if (jobid := _printed_id(scheduler, answer.stdout)) is None:
        said = " ".join((answer.stdout + answer.stderr).split()) or "nothing"
        raise UserError(
            f"{name} printed no job id, but {said}: its EXP is removed; cancel {exp.name} if {scheduler.mine} lists it"
        )
    return jobid


def _refusal(answer: subprocess.CompletedProcess[str]) -> str:
    return " ".join((answer.stderr or answer.stdout).split()) or f"exit code {answer.returncode}"


def _printed_id(scheduler: Scheduler, text: str) -> str | None:
    ids = (re.fullmatch(scheduler.id, line.strip()) for line in text.splitlines())
    return next((match[1] for match in reversed(list(ids)) if match), None)


def delete(name: str, jobid: str) -> None:
    """Take a waiting job back, from within another one. UserError, with the command to give by hand, if that fails."""
    scheduler = SCHEDULERS[name]
    try:
        answer = _command(scheduler, True, [*scheduler.delete, jobid])
        problem = _refusal(answer) if answer.returncode != 0 else ""
    except UserError as error:
        problem = str(error)
    if problem:
        raise UserError(f"{problem}: cancel it with {' '.join([*scheduler.inside[:1], *scheduler.delete, jobid])}")


def signal_steps(jobid: str, number: int) -> bool:
    """Send a signal to all that srun has started in a job of Slurm, not to its batch script; whether that was possible.

    srun passes neither TERM nor HUP on: it kills its ranks with KILL.
    """
    try:
        _ask("scancel", f"--signal={signal.Signals(number).name.removeprefix('SIG')}", jobid)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def is_over(name: str, jobid: str) -> bool | None:
    """Whether a job has ended or was taken back; None if the scheduler cannot be asked here."""
    scheduler = SCHEDULERS.get(name)
    if scheduler is None:
        return None
    try:
        answer = _command(scheduler, False, [*scheduler.show, jobid])
    except UserError:
        return None
    if re.search(scheduler.over, answer.stdout + answer.stderr):
        return True
    return None if answer.returncode != 0 else not answer.stdout.strip()  # squeue lists a job that has ended no more


class _UnansweredError(UserError):
    """A scheduler's command took longer than it may."""


def _command(scheduler: Scheduler, in_job: bool, command: list[str]) -> subprocess.CompletedProcess[str]:
    if scheduler.inside:  # a job is an instance of its own there; its siblings are known to the parent alone
        command = [*scheduler.inside[: 2 if in_job else 1], *command]
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not installed here: submit on a login node of the site")
    try:
        return _run(command, _PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise _UnansweredError(f"{command[0]} did not answer within {_PATIENCE:g} s") from error


def _run(command: list[str], patience: float) -> subprocess.CompletedProcess[str]:
    """What a site's scheduler says in its own encoding, such as a message of the day in Latin-1, is no failure."""
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=patience, stdin=subprocess.DEVNULL
    )


def job_id(environ: Mapping[str, str]) -> str:
    """The scheduler's id of the job that this process runs in, "" outside of one."""
    names = (JOBID, "PBS_JOBID", "SLURM_JOB_ID", "FLUX_JOB_ID", "LSB_JOBID", "COBALT_JOBID")
    return next((environ[name] for name in names if environ.get(name)), "")


def ask_job_id(environ: Mapping[str, str]) -> str:
    """The same for a batch script. What it starts finds it as `JOBID`.

    Flux takes FLUX_JOB_ID away from a batch script, and gives ranks the id that their `flux run` has inside the job.
    """
    told = {name: value for name, value in environ.items() if name != JOBID}  # the job's before, if that submitted us
    if environ.get("FLUX_URI"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told[JOBID] = _ask("flux", "getattr", "jobid")
    return job_id(told)


def seconds_left(environ: Mapping[str, str]) -> float | None:
    """How long the scheduler will let this job live; None outside of a job, or if the scheduler does not say."""
    try:
        if environ.get("SLURM_JOB_ID"):
            return _slurm(environ)
        if environ.get("PBS_JOBID"):
            return _pbs(_ask("qstat", "-f", environ["PBS_JOBID"]))
        if environ.get("FLUX_URI"):
            return float(_ask("flux", "job", "timeleft"))
    except (OSError, subprocess.SubprocessError, ValueError):
        pass  # no such command on this node, or an answer of another form
    return None


def _ask(*command: str) -> str:
    answer = _run(list(command), 20.0)
    answer.check_returncode()
    return answer.stdout.strip()


def _slurm(environ: Mapping[str, str]) -> float | None:
    """SLURM_JOB_END_TIME, Unix time, exists since Slurm 22.05; squeue writes [DAYS-][HOURS:]MINUTES:SECONDS."""
    if environ.get("SLURM_JOB_END_TIME"):
        return float(environ["SLURM_JOB_END_TIME"]) - time.time()
    return seconds(_ask("squeue", "--noheader", "--jobs", environ["SLURM_JOB_ID"], "--format", "%L"))


def _pbs(answer: str) -> float | None:
    """From `qstat -f`: the limit less the time since the start; resources_used.walltime is minutes old."""
    limit = re.search(r"^\s*Resource_List\.walltime = (\S+)", answer, re.MULTILINE)
    start = re.search(r"^\s*stime = (.+)$", answer, re.MULTILINE)
    whole = seconds(limit[1]) if limit else None
    if whole is None or start is None:
        return None
    return whole - (time.time() - time.mktime(time.strptime(start[1].strip())))
