"""Whether a job submits a successor, decided from how it ended. Pure: `batch` does what this says."""

from __future__ import annotations

from dataclasses import dataclass

from swiftpy.errors import BAD_INPUT, DONE, SOME_FAILED
from swiftpy.sites.times import duration

#: How often the jobs of a chain may crash, all together, before it ends.
CRASHES = 2
#: With less than this left, in seconds, a job that was stopped was stopped by its walltime.
MARGIN = 180.0
#: With less than this left, whatever ended the job was the scheduler.
LAST = 10.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, or is about to.

    `code` is the job's exit code, None while it still runs. `reason` is why the job itself says that it stopped, "" if
    it could not say so. `signalled`: the batch script was told to end. `left` are the seconds until the walltime, None
    if nobody knows.
    """

    code: int | None
    reason: str
    signalled: bool
    left: float | None

    @property
    def told(self) -> bool:
        """Whether somebody told the job to end, the scheduler or a person."""
        return self.signalled or self.reason.startswith("SIG")

    @property
    def by_walltime(self) -> bool:
        """Whether time was up. When nobody knows, a signal is taken for the scheduler's."""
        if self.left is None:
            return self.reason == "walltime" or self.told
        return self.reason == "walltime" or self.left < (MARGIN if self.told else LAST)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Submit a successor or not, for what reason, and how many crashes the chain has had then."""

    go_on: bool
    crashes: int
    why: str


def decide(ending: Ending, job: int, limit: int, crashes: int) -> Verdict:
    """For job number `job` of at most `limit`, after `crashes`.

    A walltime is nobody's fault and costs nothing but a place in the chain. A crash is charged: it may come again.
    """
    if ending.code in (DONE, SOME_FAILED):
        return Verdict(False, crashes, "nothing is left to run")
    if ending.code == BAD_INPUT:
        return Verdict(False, crashes, "nothing was started: a successor would find the same")
    if ending.by_walltime:
        why = "the walltime is over"
    elif ending.told:
        left = "" if ending.left is None else f" with {duration(ending.left)} left"
        return Verdict(False, crashes, f"it was told to stop{left}: a successor is not wanted")
    else:
        crashes += 1
        why = f"crash {crashes} of this chain ({ending.reason or f'exit code {ending.code}'})"
        if crashes > CRASHES:
            return Verdict(False, crashes, f"{why}: {CRASHES} are forgiven")
    if job >= limit:
        return Verdict(False, crashes, f"{why}, and this was job {job} of at most {limit}")
    return Verdict(True, crashes, why)
