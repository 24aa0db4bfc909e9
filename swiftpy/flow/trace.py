"""What the workers did and when: `--trace FILE` for chrome://tracing or Perfetto, and `--summary` in a few lines.

Times are those of the server: a piece (a run of calls that travelled together) ends when its answer comes in, and began
as long before as the worker says that it took. In the file, a piece that waited for tasks of its own covers theirs; a
worker that waits so is not busy. With several servers, of a parallel task only its first worker is known.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import TaskState

#: Seconds between two points of the curves in the file.
COUNTING = 0.1


class Trace:
    """Counts, and writes to a file if there is one, in the "JSON Array Format" of Chrome's Trace Event Format, whose
    closing bracket may be missing: a trace of a job that was killed can be read, too."""

    def __init__(self, clock: Callable[[], float], path: Path | None) -> None:
        self._clock = clock
        self._began = clock()
        self._counted = 0.0  # when counters were last written
        self._ended = 0  # calls since then
        self._busy: defaultdict[int, float] = defaultdict(float)
        self._calls: Counter[int] = Counter()
        self._gangs: dict[int, tuple[int, ...]] = {}  # of the parallel tasks that run
        self._failed = 0
        self._longest_queue = 0
        self._file: TextIO | None = None if path is None else path.open("w", encoding="utf-8")
        if self._file is not None:
            self._write("[\n")

    def started(self, command: StartTask) -> None:
        """An attempt is sent to a worker."""
        if command.gang:
            self._gangs[command.task.id] = command.gang

    def resolved(self, report: ReportOutcome, waiting: int) -> None:
        """An attempt ended; so many calls were ready for a worker at that time."""
        self._longest_queue = max(self._longest_queue, waiting)
        if report.state is TaskState.FAILED:
            self._failed += report.task.count
        if report.worker is None:
            return
        calls = report.task.count - len(report.failed)
        self._calls[report.worker] += calls
        for worker in self._gangs.pop(report.task.id, (report.worker,)):
            self._busy[worker] += report.seconds - report.waited
            self._draw(worker, report, calls)
        self._count(calls, waiting)

    def _draw(self, worker: int, report: ReportOutcome, calls: int) -> None:
        """A bar for a piece, in the line of its worker."""
        if self._file is None:
            return
        end = self._clock() - self._began
        event = {
            "name": report.task.kind.name,
            "ph": "X",
            "pid": 0,
            "tid": worker,
            "ts": round((end - report.seconds) * 1e6, 1),
            "dur": round(report.seconds * 1e6, 1),
            "args": {"id": report.task.id, "calls": calls, "outcome": report.state.value},
        }
        self._write(json.dumps(event) + ",\n")

    def _count(self, calls: int, waiting: int) -> None:
        """So many calls ended; every COUNTING seconds, a point of two curves."""
        now = self._clock() - self._began
        self._ended += calls
        if self._file is None or now - self._counted < COUNTING:
            return
        rate = round(self._ended / (now - self._counted), 1)
        for name, value in (("calls that wait", waiting), ("calls that ended, per second", rate)):
            event = {"name": name, "ph": "C", "pid": 0, "ts": round(now * 1e6, 1), "args": {"calls": value}}
            self._write(json.dumps(event) + ",\n")
        self._counted, self._ended = now, 0

    def close(self, hosts: Mapping[int, str]) -> None:
        """Name the ranks in the file, and end it."""
        if self._file is None:
            return
        for rank, host in hosts.items():
            name = {"name": "thread_name", "ph": "M", "pid": 0, "tid": rank, "args": {"name": f"rank {rank} on {host}"}}
            self._write(json.dumps(name) + ",\n")
        self._write('{"name": "process_name", "ph": "M", "pid": 0, "args": {"name": "swiftpy"}}\n]\n', last=True)

    def _write(self, text: str, last: bool = False) -> None:
        """A full disk costs the trace, not the job."""
        if self._file is None:
            return
        try:
            self._file.write(text)
            if last:
                self._file.close()
        except OSError as error:
            print(f"swiftpy: --trace {self._file.name}: {error.strerror}: it is not complete", file=sys.stderr)
            with contextlib.suppress(OSError):  # of what it has not written yet
                self._file.close()
            self._file = None

    def summary(self, workers: Mapping[int, str]) -> list[str]:
        """Lines for people: totals, and for each worker its calls and how much of the time it was at work."""
        seconds = max(self._clock() - self._began, 1e-9)
        calls = sum(self._calls.values())
        busy = sum(self._busy.values()) / (seconds * len(workers))
        lines = [
            f"{calls} calls in {seconds:.2f} s: {calls / seconds:,.0f}/s; {self._failed} failed;"
            f" at most {self._longest_queue} waited; workers were busy {busy:.1%} of the time"
        ]
        for rank, host in workers.items():
            share = self._busy[rank] / seconds
            lines.append(f"rank {rank} on {host}: {self._calls[rank]} calls, busy {share:.1%}")
        return lines
