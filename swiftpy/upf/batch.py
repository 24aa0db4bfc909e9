"""Inside a batch job: start the ranks, pass signals on, and submit the successor before this job is gone.

python -m swiftpy.upf.batch EXP -- LAUNCHER... (as the last line of a batch script)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from swiftpy.errors import BAD_INPUT, UserError
from swiftpy.experiment import journal
from swiftpy.experiment.exp import Exp
from swiftpy.sites.launch import find_launcher, supervise
from swiftpy.sites.schedulers import JOBID, TakenError, ask_job_id, seconds_left
from swiftpy.sites.times import seconds
from swiftpy.upf.chain import Ending, decide
from swiftpy.upf.establish import record_refusal
from swiftpy.upf.options import parse
from swiftpy.upf.submit import Request, read_request, successor, withdraw


class Batch:
    """One batch job and, once it is submitted, its successor."""

    def __init__(self, exp: Exp, request: Request, environ: dict[str, str]) -> None:
        self._exp, self._request = exp, request
        self._limit = parse(request.arguments).chain
        self._signalled = False
        self._next: tuple[Exp, str] | None = None
        self._said = ""
        told = [seconds_left(environ), seconds(environ.get("WALLTIME", ""))]
        known = [left for left in told if left is not None]
        self._end = time.monotonic() + min(known) if known else None

    def run(self, command: list[str]) -> int:
        """Run the launcher to its end, and do what follows from it; its exit code."""
        why = "the ranks ended before the job began: see output.txt"
        try:
            # PBS has an mpiexec of its own in the PATH of its jobs, which knows nothing of an MPI from PyPI.
            code = supervise([find_launcher(command[0]), *command[1:]], self._told_to_end)
        except UserError as error:
            code, why = BAD_INPUT, f"{error} in `setup` of the site's file"
            _say(why)
        self._follow_up(code)
        record_refusal(self._exp, code, why)
        return code

    def _told_to_end(self) -> None:
        """The scheduler's TERM: what comes next is KILL, within seconds, so the successor has to be submitted now."""
        self._signalled = True
        self._follow_up(None)

    def _follow_up(self, code: int | None) -> None:
        if self._limit == 1:
            return
        left = None if self._end is None else self._end - time.monotonic()
        code, reason = _stop(self._exp) or (code, "")
        ending = Ending(code, reason, self._signalled, left)
        verdict = decide(ending, self._request.job, self._limit, self._request.crashes)
        if self._next is not None:
            if not verdict.go_on:  # it got everything done in its last seconds
                self._take_back(*self._next, verdict.why)
            return
        if not verdict.go_on:
            self._say_once(f"no successor: {verdict.why}")
            return
        try:
            self._next = successor(self._request, self._exp, verdict.crashes)
        except TakenError as error:
            self._limit = 1  # another one besides would be one too many
            _say(f"the successor: {error}")
            return
        except (UserError, OSError) as error:  # the ranks die with this process, and RUNs are ending in them now
            _say(f"the successor could not be submitted: {error}")
            return
        _say(f"successor: job {self._next[1]} ({self._request.job + 1} of at most {self._limit}), {verdict.why}")

    def _take_back(self, exp: Exp, jobid: str, why: str) -> None:
        try:
            withdraw(self._request, exp, jobid)
        except (UserError, OSError) as error:
            _say(f"{why}, but the successor, job {jobid}, could not be taken back: {error}")
        else:
            _say(f"the successor, job {jobid}, was taken back: {why}")

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            _say(text)


def _stop(exp: Exp) -> tuple[int, str] | None:
    """With which exit code the job ended, and why, as it says itself; None if it died before it could.

    None, too, if the journal cannot be read: an OSError at TERM would take the RUNs' time to end from them.
    """
    jobs = []
    with contextlib.suppress(OSError):
        jobs = [event for event in journal.read(exp.journal) if event["event"] in ("job_started", "job_stopped")]
    return (jobs[-1]["code"], jobs[-1]["reason"]) if jobs and jobs[-1]["event"] == "job_stopped" else None


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not end the chain
        print(f"swiftpy: {text}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the launcher that the batch script names; its exit code."""
    exp = Exp(Path(arguments[0]))
    os.environ[JOBID] = ask_job_id(os.environ)
    return Batch(exp, read_request(exp), dict(os.environ)).run(arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
