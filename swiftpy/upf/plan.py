"""What a job would do, for people: `--plan`."""

from collections import Counter
from collections.abc import Sequence

from swiftpy.experiment.restart import Decision
from swiftpy.upf.options import time_limit


def waves(tasks: int, workers: int) -> tuple[int, int | None]:
    """How often `workers` must be filled for `tasks` equal tasks, and the least PROCS that saves one wave.

    PROCS counts the server too. None when there is no wave to save. `workers` is at least 1.
    """
    needed = -(-tasks // workers)
    if needed < 2:
        return needed, None
    return needed, -(-tasks // (needed - 1)) + 1


def report(decisions: Sequence[Decision], workers: int) -> list[str]:
    """One line for each RUN (id, verdict, reason), then the counts, then the waves."""
    width = max((len(decision.id) for decision in decisions), default=0)
    lines = [f"{decision.id:<{width}}  {decision.verdict:<6}  {decision.reason}".rstrip() for decision in decisions]
    counts = Counter(decision.verdict for decision in decisions)
    lines.append(f"{len(decisions)} RUNs: " + ", ".join(f"{counts[v]} {v}" for v in sorted(counts)))
    tasks = len(decisions) - counts["skip"]
    needed, procs = waves(tasks, workers)
    advice = f"; PROCS={procs} would need {needed - 1}" if procs is not None else ""
    lines.append(f"{tasks} to run on {workers} workers: {needed} {'wave' if needed == 1 else 'waves'}{advice}")
    return lines


def time_limits(timeouts: Sequence[float]) -> str:
    """The limits that hold for the RUNs with these values of `timeout`, and for how many if they differ."""
    counts = Counter("none" if time_limit(timeout) is None else f"{timeout} s" for timeout in timeouts)
    texts = [f"{text} ({count} RUNs)" if len(counts) > 1 else text for text, count in counts.items()]
    return f"time limit of a RUN: {', '.join(texts)}"
