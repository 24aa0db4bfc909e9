"""The live view of a job, from the EXP's journal and logs only: it needs no connection, and disturbs nobody."""

import functools
import mmap
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import job
from analysis.exp import FAILED_RESULT, run_directories

LAST_ERRORS = 5
#: Times that a look took, for the least pause after it: it opens the logs of all workers, which are being written.
PAUSE = 4
_EPOCH = re.compile(r"Epoch (\d+)/(\d+)")
_TRAINING = re.compile(r"run_(?:tensorflow|pytorch)\(\): pkg\.run\(\) \.\.\.")


@dataclass
class Work:
    """What one worker does: `run` since `start` (Unix time, None if not known), in epoch `epoch` of `epochs`.

    `first` is the epoch with which it began in this job: of a RUN that goes on, those before it took no time here.
    """

    run: str
    rank: int | None
    host: str | None = None
    start: float | None = None
    epoch: int | None = None
    epochs: int | None = None
    first: int = 1

    def duration(self, now: float, first: int = 1) -> float | None:
        """Seconds that its epochs from `first` on take, as those of this job tell; None before one of them is over."""
        if self.start is None or not self.epoch or not self.epochs or self.epoch <= self.first:
            return None
        return (now - self.start) / (self.epoch - self.first) * (self.epochs - first + 1)


@dataclass
class View:
    """A job at one moment. `states`: RUN id to done, skipped, failed, interrupted or running; the rest waits.

    `queued` says that the job has not begun.
    `seconds` are the durations of the RUNs done, `whole` of those among them that did not go on from a checkpoint;
    `errors` are the last ones as text.
    """

    total: int
    workers: int
    started: float | None = None
    ended: str | None = None
    states: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    queued: str | None = None
    whole: list[float] = field(default_factory=list)

    def waiting(self) -> int:
        """RUNs of which nothing has been heard."""
        return max(0, self.total - len(self.states))

    def eta(self, now: float) -> float | None:
        """Seconds until the last RUN ends, if those that wait take as long as the mean of the whole ones so far.

        A RUN at work takes that long too, or less by what its epochs say; one that has taken longer already takes what
        they say. Before the first whole RUN is done its epochs tell for all; None before the first epoch.
        """
        known = self.whole or [seconds for work in self.works if (seconds := work.duration(now))]
        if not known:
            return None
        mean = sum(known) / len(known)
        running = []
        for work in self.works:
            if work.start is not None:
                elapsed = now - work.start
                own = work.duration(now, work.first) or max(mean, elapsed)
                running.append((own if elapsed >= mean else min(mean, own)) - elapsed)
        busy = max(1, min(self.workers, len(self.works) + self.waiting()))
        return max([(sum(running) + self.waiting() * mean) / busy, mean if self.waiting() else 0.0, *running])


def look(exp: Path) -> View:
    """The job of the EXP as it is now. FileNotFoundError: not an EXP."""
    journal = list(job.read_journal(exp))
    view = _from_journal(exp, journal) if journal else _from_directories(exp)
    if view.ended:
        for work in view.works:
            view.states[work.run] = "interrupted"
        view.works = []
    logs = {job.log_rank(log): log for log in job.logs(exp / "out")}
    for work in view.works:
        if work.rank in logs:
            _find_epoch(work, logs[work.rank])
    return view


def _from_journal(exp: Path, journal: list[dict[str, Any]]) -> View:
    view = View(0, 0)
    works: dict[str, Work] = {}
    for event in journal:
        kind, run_id = event["event"], str(event.get("id"))
        if kind == "job_started":
            view = View(int(event.get("runs") or 0), max(1, int(event.get("procs") or 2) - 1), event.get("t"))
        elif kind == "job_stopped":
            view.ended = f"ended with exit code {event.get('code')}: {event.get('reason')}"
        elif kind == "run_started":
            view.states[run_id] = "running"
            works[run_id] = Work(run_id, event.get("rank"), event.get("host"), event.get("t"))
        elif kind.startswith("run_"):
            works.pop(run_id, None)
            if kind == "run_failed" and not event.get("final", True):
                view.states.pop(run_id, None)
            else:
                view.states[run_id] = kind.removeprefix("run_")
            if kind == "run_done" and isinstance(event.get("seconds"), (int, float)):
                view.seconds.append(event["seconds"])
                if _is_whole(event):
                    view.whole.append(event["seconds"])
            if kind == "run_failed":
                message = str(event.get("message")).split("\n")[0]
                view.errors.append(f"{run_id}: {message}  ({event.get('log')})")
    view.works = sorted(works.values(), key=lambda work: work.rank or 0)
    view.queued = job.waiting(exp)
    if not view.started:
        upf, _ = job.inputs(exp)
        view.total = len(list(job.upf_lines(upf))) if upf else 0
    if not view.queued and not view.ended and not job.is_alive(exp):
        view.ended = f"no sign of life for {job.DEAD_SECONDS} s: the job was killed; restart {exp.name} by its name"
    return view


def _from_directories(exp: Path) -> View:
    """An EXP of the original system: a RUN's rank.txt says who works on it, its result.txt that it is over."""
    facts = job.settings(exp)
    upf, _ = job.inputs(exp)
    wanted = {params["id"] for params in job.upf_lines(upf)} if upf else set()
    procs = facts.get("PROCS", "")
    view = View(len(wanted), max(1, int(procs) - 1) if procs.isdecimal() else 1, job.unix_time(facts.get("STARTED")))
    for run in run_directories(exp):
        result = (job.read_text(run / "result.txt") or "").strip()
        rank = (job.read_text(run / "rank.txt") or "").strip()
        if result:
            view.states[run.name] = "failed" if result == FAILED_RESULT else "done"
            if result == FAILED_RESULT:
                view.errors.append(f"{run.name}: {result}")
        elif rank.isdecimal():
            view.states[run.name] = "running"
            view.works.append(Work(run.name, int(rank), None, (run / "rank.txt").stat().st_mtime))
    view.total = max(view.total, len(view.states))
    if walltime := job.walltime_message(exp):
        view.ended = walltime
    elif "EXIT CODE" in facts:
        view.ended = f"ended with exit code {facts['EXIT CODE']}"
    elif not job.is_alive(exp):
        view.ended = f"no log has grown for {job.QUIET_SECONDS // 60} minutes"
    return view


def _is_whole(event: dict[str, Any]) -> bool:
    """Whether a RUN that is done was trained from its first epoch to its last in this attempt, as far as it says."""
    value = event.get("value")
    counts_epochs = isinstance(value, dict) and bool(value.get("epochs"))
    return not counts_epochs or event.get("epoch_seconds", True) is not None


def _find_epoch(work: Work, log: Path) -> None:
    """The epoch at the end of the rank's log, of how many, and the first of its present RUN."""
    tail = job.read_tail(log)
    starts = [match.end() for match in _TRAINING.finditer(tail)]
    if found := list(_EPOCH.finditer(tail, starts[-1] if starts else 0)):
        work.epoch, work.epochs = int(found[-1][1]), int(found[-1][2])
        work.first = int(found[0][1]) if starts else _first_epoch(log, work.start)


@functools.cache
def _first_epoch(log: Path, start: float | None) -> int:
    """That of the last RUN in a log, begun at `start`, before the tail that is read at every look: looked for once."""
    with log.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = re.compile(rb"Epoch (\d+)/").search(data, max(0, data.rfind(b"pkg.run() ...")))
        return int(found[1]) if found else 1


def frame(exp: Path, view: View, now: float, height: int = 40) -> list[str]:
    """The view as lines of text, `height` at most (the busy workers are cut first)."""
    counts = Counter(view.states.values())
    states = [f"{counts[state]} {state}" for state in ("done", "skipped", "failed", "interrupted") if counts[state]]
    states += [f"{len(view.works)} running", f"{view.waiting()} waiting"]
    over = sum(counts.values()) - counts["running"] - counts["interrupted"]
    filled = 40 * over // max(1, view.total)
    lines = [
        f"{exp.name}  {exp}",
        f"[{'#' * filled}{'.' * (40 - filled)}] {over}/{view.total} RUNs: {', '.join(states)}",
    ]
    lines += _times(exp, view, now)
    errors = [f"  {error}" for error in view.errors[-LAST_ERRORS:]]
    errors = ["", f"last errors of {len(view.errors)}:", *errors] if errors else []
    if view.works:
        lines += ["", f"{len(view.works)} of {view.workers} workers busy:"]
        room = max(1, height - len(lines) - len(errors) - 1)
        shown = view.works if len(view.works) <= room else view.works[: room - 1]
        lines += map(_work_text, shown, [now] * len(shown))
        if len(shown) < len(view.works):
            lines.append(f"  ... and {len(view.works) - len(shown)} more")
    return (lines + errors)[:height]


def _work_text(work: Work, now: float) -> str:
    rank = "?" if work.rank is None else work.rank
    epoch = f"epoch {work.epoch}/{work.epochs}" if work.epoch else "before its first epoch"
    since = f" for {clock(now - work.start)}" if work.start is not None else ""
    return f"  rank {rank:<5} {work.host or '':<12} {work.run:<16} {epoch}{since}"


def _times(exp: Path, view: View, now: float) -> Iterable[str]:
    if text := view.ended or view.queued:
        yield text
        return
    elapsed = now - view.started if view.started else None
    eta = view.eta(now)
    parts = [] if elapsed is None else [f"at work for {clock(elapsed)}"]
    if view.seconds and elapsed:
        parts.append(f"{len(view.seconds) / elapsed * 3600:.1f} RUNs/h")
    parts.append("no estimate before the first epoch" if eta is None else f"about {clock(eta)} left")
    yield ", ".join(parts)
    limit = _walltime(job.settings(exp).get("WALLTIME"))
    if limit is not None and elapsed is not None:
        left = limit - elapsed
        verdict = "" if eta is None else ": enough" if eta < left else ": NOT enough, restart the EXP afterwards"
        yield f"walltime: {clock(max(0.0, left))} left{verdict}"


def _walltime(text: str | None) -> float | None:
    """Seconds of [[HH:]MM:]SS, or DAYS-HH[:MM[:SS]]."""
    days, dash, rest = (text or "").rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in (*parts, days or "0")):
        return None
    if dash:
        parts += ["0"] * (3 - len(parts))
    return float(int(days or 0) * 86400 + sum(int(part) * 60**power for power, part in enumerate(reversed(parts))))


def clock(seconds: float) -> str:
    """H:MM:SS."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def watch(exp: Path, interval: float, once: bool) -> int:
    """Show the view every `interval` seconds, or more rarely if looks take long, until the job has ended, or Ctrl-C."""
    terminal = sys.stdout.isatty()
    try:
        while True:
            began, now = time.monotonic(), time.time()
            view = look(exp)
            size = shutil.get_terminal_size((10_000, 10_000)) if terminal else os.terminal_size((10_000, 60))
            lines = [line[: size.columns] for line in frame(exp, view, now, size.lines - 1)]
            if terminal:  # overwrite line by line and clear the rest: clearing first makes it flicker
                print("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)
            else:
                print("\n".join(lines), end="\n\n", flush=True)
            if once or view.ended:
                return 0
            time.sleep(max(interval, PAUSE * (time.monotonic() - began)))
    except KeyboardInterrupt:
        return 0
