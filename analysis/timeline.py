"""Which rank worked on which RUN when, and how busy the workers were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from analysis.exp import FAILED_RESULT, Saved
from analysis.job import is_alive, last_sign, read_journal, read_text, settings, unix_time


@dataclass(frozen=True, slots=True)
class Span:
    """An attempt of a RUN on a rank; `start` and `end` in Unix time.

    `status`: done, skipped, failed, interrupted, running.
    """

    rank: int
    run: str
    start: float
    end: float
    status: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All spans of a job. `estimated`: from checkpoints' times, since the original system keeps no journal."""

    spans: list[Span]
    start: float
    end: float
    workers: int
    estimated: bool

    def utilization(self) -> float:
        """Share of the workers' time in the job that was spent on RUNs, 0 to 1."""
        busy = sum(span.end - span.start for span in self.spans)
        return busy / (self.workers * (self.end - self.start)) if self.end > self.start else 0.0

    def at_work(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (Unix), and the number of RUNs at work from each on."""
        changes = sorted([(span.start, 1) for span in self.spans] + [(span.end, -1) for span in self.spans])
        return np.array([time for time, _ in changes]), np.cumsum([change for _, change in changes])


def read_timeline(exp: Path, now: float, checkpoints: Mapping[Path, Sequence[Saved]]) -> Timeline | None:
    """The job's timeline as far as it has come; None where nothing tells. `checkpoints`: all of the EXP."""
    return _from_journal(exp, now) or _from_checkpoints(exp, checkpoints)


def _from_journal(exp: Path, now: float) -> Timeline | None:
    spans: list[Span] = []
    open_: dict[str, tuple[int, float]] = {}
    times: list[float] = []
    workers = 1
    for event in read_journal(exp):
        time, run, rank = event.get("t"), str(event.get("id")), event.get("rank")
        if not isinstance(time, (int, float)):
            continue
        times.append(float(time))
        kind = event["event"]
        if kind == "job_started":
            times = [float(time)]  # it was submitted hours before, or days
            workers = max(1, int(event.get("procs") or 2) - 1)
        elif kind == "run_started" and isinstance(rank, int):
            open_[run] = rank, time
        elif kind.startswith("run_") and run in open_:
            spans.append(Span(open_[run][0], run, open_[run][1], time, kind.removeprefix("run_")))
            del open_[run]
    # A job that was killed wrote no last event, but its lock shows when it was last alive.
    end, status = (now, "running") if is_alive(exp) else (max([*times, last_sign(exp) or 0.0]), "interrupted")
    spans += [Span(rank, run, start, end, status) for run, (rank, start) in open_.items()]
    return Timeline(spans, min(times), end, workers, False) if spans else None


def _from_checkpoints(exp: Path, checkpoints: Mapping[Path, Sequence[Saved]]) -> Timeline | None:
    spans = []
    unfinished = "running" if is_alive(exp) else "interrupted"
    facts = settings(exp)
    began = unix_time(facts.get("STARTED") or facts.get("SUBMITTED")) or 0.0  # a restart has epochs of the job before
    for run, saved in checkpoints.items():
        rank = (read_text(run / "rank.txt") or "").strip()
        times = [record.time for record in saved if record.time is not None and record.time >= began]
        if not rank.isdecimal() or not times:
            continue
        epochs = sorted(after - before for before, after in pairwise(times))
        first = max(
            began, times[0] - (epochs[len(epochs) // 2] if epochs else 0.0)
        )  # it began an epoch before its first record
        result = (read_text(run / "result.txt") or "").strip()
        status = {"": unfinished, FAILED_RESULT: "failed"}.get(result, "done")
        spans.append(Span(int(rank), run.name, first, times[-1], status))
    return _estimated(spans) if spans else None


def _estimated(spans: Sequence[Span]) -> Timeline:
    ranks = {span.rank for span in spans}
    return Timeline(list(spans), min(s.start for s in spans), max(s.end for s in spans), len(ranks), True)
