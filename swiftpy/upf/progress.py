"""How far the job is: plain lines in a log, a bar with the time left on a terminal."""

from __future__ import annotations

from collections.abc import Callable

from swiftpy.runtime.output import Console
from swiftpy.sites.times import duration

_BAR_SECONDS = 0.5
_WIDTH = 24


class Progress:
    """Counts RUNs and shows it. `total` are those to run on `workers`, without those that a restart skips."""

    def __init__(self, console: Console, total: int, workers: int, clock: Callable[[], float], bar: bool) -> None:
        self._console = console
        self._total, self._workers = total, workers
        self._clock, self._bar = clock, bar
        self._starts: dict[str, float] = {}
        self._seconds: list[float] = []
        self._shown = float("-inf")
        self.done = self.failed = self.skipped = 0

    def started(self, run_id: str) -> None:
        """An attempt of a RUN begins."""
        self._starts[run_id] = self._clock()

    def ended(self, run_id: str, text: str, *, done: bool = False, failed: bool = False, skipped: bool = False) -> None:
        """An attempt ended: say so. With none of the three it will be tried again, or was interrupted."""
        began = self._starts.pop(run_id, None)
        if done and began is not None:
            self._seconds.append(self._clock() - began)
        self.done += done
        self.failed += failed
        self.skipped += skipped
        self._console.line(f"[{self._total - self._left()}/{self._total}] {run_id} {text}{self._eta_text()}")

    def tick(self) -> None:
        """Redraw the bar, if there is one."""
        if not self._bar or self._clock() - self._shown < _BAR_SECONDS:
            return
        self._shown = self._clock()
        over = self._total - self._left()
        filled = _WIDTH * over // max(1, self._total)
        failed = f", {self.failed} failed" if self.failed else ""
        self._console.bar(
            f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {over}/{self._total} RUNs{failed},"
            f" {len(self._starts)} running{self._eta_text()}"
        )

    def eta(self) -> float | None:
        """Seconds until the last RUN ends, if the rest takes as long as the mean so far; None before the first."""
        if not self._seconds:
            return None
        mean, now = sum(self._seconds) / len(self._seconds), self._clock()
        running = sum(max(0.0, mean - (now - began)) for began in self._starts.values())
        waiting = (self._left() - len(self._starts)) * mean
        return (running + waiting) / max(1, min(self._workers, self._left()))

    def _left(self) -> int:
        return self._total - self.done - self.failed - self.skipped

    def _eta_text(self) -> str:
        eta = self.eta()
        return f", about {duration(eta)} left" if eta is not None and self._left() else ""
