"""How well the RUNs of an EXP have converged: tiers by final loss, patterns of how training ended, what to do.

The loss is val_loss by epoch: from history.txt, or, where that begins at a resume or is not there yet, from the
checkpoints, which record the best so far, unless they do so of another metric.
"""

import math
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from analysis.command import add_formats, columns, count_text, exp_path, number_text, show
from analysis.exp import Saved, all_checkpoints, natural_order, read_history

LOSS = "val_loss"
TIERS = {
    "EXCELLENT": "best 10 %",
    "GOOD": "best 25 %",
    "AVERAGE": "the middle",
    "POOR": "worst 25 %, and what ends in NaN",
}
PATTERNS = {
    "TOO_SHORT": "fewer than 3 epochs with a loss: nothing can be said",
    "EARLY_TERMINATION": "fewer than 5 epochs",
    "NATURAL_CONVERGENCE": "the last third is level within 0.1 % an epoch, its standard deviation under 1 %",
    "STILL_IMPROVING": "the loss falls by more than 0.1 % an epoch in the last third",
    "DIVERGING": "the loss rises by more than 0.1 % an epoch in the last third, or ends in NaN",
    "PLATEAUED": "level within 0.1 % an epoch, but not steady: its standard deviation is larger",
}
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Convergence:
    """One RUN: its losses by epoch (`first` is the number of the first), tier and pattern; times in minutes, hours.

    An epoch without a finite loss is NaN in `losses`. `final_loss` and `improvement` are None where the last one is,
    which is how training that has blown up ends; `best_loss` is None where all are.
    """

    run: str
    tier: str
    pattern: str
    epochs: int
    final_loss: float | None
    best_loss: float | None
    improvement: float | None
    epoch_minutes: float | None
    hours: float | None
    first: int
    losses: list[float]

    def points(self) -> list[tuple[int, float]]:
        """The epochs that have a finite loss, and that loss."""
        return _points(self.losses, self.first)


def _points(losses: Sequence[float], first: int = 1) -> list[tuple[int, float]]:
    return [(epoch, loss) for epoch, loss in enumerate(losses, first) if not math.isnan(loss)]


def read_losses(run: Path, saved: Sequence[Saved]) -> tuple[int, list[float]]:
    """The number of the first epoch and the losses from it on, NaN for epochs without one; (1, []) if there are none.

    `saved` are the records of the RUN's checkpoints.
    """
    history = [loss if math.isfinite(loss) else math.nan for loss in read_history(run).get(LOSS, [])]
    last = max([record.epoch for record in saved], default=1)
    losses = [record for record in saved if record.metric in (None, LOSS)]  # ckpt_save_best_metric may be val_r2
    known = {record.epoch: record.best for record in losses if record.best is not None and math.isfinite(record.best)}
    if not known or len(history) >= last:
        return 1, history
    if history and math.isnan(history[-1]):
        known[last] = math.nan  # the best so far stays what it was before the loss became NaN
    first = min(known)
    return first, [known.get(epoch, math.nan) for epoch in range(first, max(known) + 1)]


def pattern_of(losses: Sequence[float]) -> str:
    """How training ended; see PATTERNS."""
    if losses and math.isnan(losses[-1]):
        return "DIVERGING"
    points = _points(losses)
    if len(points) < 3:
        return "TOO_SHORT"
    if len(losses) < 5:
        return "EARLY_TERMINATION"
    epochs, recent = np.array(points[-max(2, len(points) // 3) :]).T
    slope = float(np.polyfit(epochs, recent, 1)[0])
    level = abs(float(recent.mean())) or 1.0
    if abs(slope) <= 0.001 * level:
        return "NATURAL_CONVERGENCE" if float(np.std(recent)) < 0.01 * level else "PLATEAUED"
    return "STILL_IMPROVING" if slope < 0 else "DIVERGING"


def converged(checkpoints: Mapping[Path, Sequence[Saved]]) -> tuple[list[Convergence], list[str]]:
    """The RUNs that have losses, and the names of the others; of the EXP with these `all_checkpoints`."""
    found, without = [], []
    runs = [(run, *_times(saved), *read_losses(run, saved)) for run, saved in checkpoints.items()]
    finals = [losses[-1] for *_, losses in runs if losses and not math.isnan(losses[-1])]
    limits: Any = np.percentile(finals, [10, 25, 75]) if finals else []
    for run, minutes, hours, first, losses in runs:
        if not losses:
            without.append(run.name)
            continue
        values = [loss for _, loss in _points(losses)]
        final = None if math.isnan(losses[-1]) else losses[-1]
        found.append(
            Convergence(
                run.name,
                "POOR" if final is None else list(TIERS)[int(np.searchsorted(limits, final))],
                pattern_of(losses),
                first + len(losses) - 1,
                final,
                min(values, default=None),
                None if final is None else (values[0] - final) / values[0] if values[0] else 0.0,
                minutes,
                hours,
                first,
                losses,
            )
        )
    return found, without


def _times(saved: Sequence[Saved]) -> tuple[float, float] | tuple[None, None]:
    """Minutes of an epoch on average, and hours of training, from one save to the next; (None, None) if unknown.

    What lies between the last save of a job and the first of the next, which may wait for days, does not count.
    """
    seconds = epochs = 0.0
    for before, after in pairwise(saved):
        if before.time is not None and after.time is not None and not after.first:
            seconds += after.time - before.time
            epochs += after.epoch - before.epoch
    return (seconds / epochs / 60, seconds / 3600) if epochs else (None, None)


def analyze(parser: ArgumentParser, arguments: list[str]) -> None:
    """`analyze_convergence EXP...`, or `analyze_convergence NAME DIRECTORY` with the directory that holds EXPs."""
    parser.add_argument("exps", metavar="EXP", nargs="+", help="EXP directories or names; last: a directory of EXPs")
    parser.add_argument("--all", action="store_true", help="list all RUNs, not only the first of each kind")
    add_formats(parser)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for exp in _exps(options.exps):
        found, without = converged(all_checkpoints(exp))
        rows += [{"exp": exp.name, **{k: v for k, v in asdict(run).items() if k != "losses"}} for run in found]
        lines += [*_text(exp, found, without, None if options.all else SHOWN), ""]
    show(options, rows, lines[:-1])


def _exps(names: list[str]) -> list[Path]:
    base = Path(names[-1])
    if len(names) > 1 and base.is_dir() and not (base / "run").is_dir():
        return [exp_path(str(base / name)) for name in names[:-1]]
    return [exp_path(name) for name in names]


def _text(exp: Path, found: list[Convergence], without: list[str], most: int | None) -> list[str]:
    lines = [f"CONVERGENCE OF {exp.name}", f"Path: {exp}", f"RUNs: {len(found)} with losses, {len(without)} without"]
    if not found:
        return lines
    for title, kinds, values in (
        ("Performance tiers", TIERS, Counter(run.tier for run in found)),
        ("Training completion patterns", PATTERNS, Counter(run.pattern for run in found)),
    ):
        rows = [
            [f"  {k}", str(values[k]), f"{100 * values[k] / len(found):.1f}%", kinds[k]] for k in kinds if values[k]
        ]
        lines += ["", f"{title}:", *columns(rows, right=(1, 2))]
    lines.append("")
    finals = [run.final_loss for run in found if run.final_loss is not None]
    if finals:
        better = [run.improvement for run in found if run.improvement is not None]
        lines += [
            f"Final loss: mean {np.mean(finals):.6f}, std {np.std(finals):.6f}, {min(finals):.6f} to {max(finals):.6f}",
            f"Improvement: mean {100 * np.mean(better):.1f} %",
        ]
    epochs = [run.epochs for run in found]
    lines.append(f"Epochs: mean {np.mean(epochs):.1f}, min {min(epochs)}, max {max(epochs)}")
    minutes = [run.epoch_minutes for run in found if run.epoch_minutes is not None]
    if minutes:
        lines.append(f"Epoch time: mean {np.mean(minutes):.2f}, std {np.std(minutes):.2f} minutes")
    order = list(TIERS)
    by_loss = sorted(
        found,
        key=lambda run: (order.index(run.tier), run.final_loss is None, run.final_loss, natural_order(run.run)),
    )
    table = [["RUN", "tier", "pattern", "epochs", "final loss", "improvement", "hours"]]
    table += [
        [
            r.run,
            r.tier,
            r.pattern,
            str(r.epochs),
            number_text(r.final_loss, ".6f"),
            number_text(r.improvement, "+.1%"),
            number_text(r.hours, ".2f"),
        ]
        for r in by_loss[:most]
    ]
    lines += ["", *columns(table, right=(3, 4, 5, 6))]
    if most is not None and len(by_loss) > most:
        lines.append(f"... and {len(by_loss) - most} more (--all)")
    return [*lines, "", "Recommendations:", *(f"  {advice}" for advice in recommendations(found, without))]


def recommendations(found: list[Convergence], without: list[str]) -> list[str]:
    """What to do next, each with the RUNs that it is about."""

    def named(runs: Sequence[str], what: str) -> str:
        return f"{count_text(len(runs), 'RUN')} {what} ({', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''})"

    advice = []
    improving = [run.run for run in found if run.pattern == "STILL_IMPROVING"]
    lost = [run.run for run in found if run.final_loss is None]
    diverging = [run.run for run in found if run.pattern == "DIVERGING" and run.final_loss is not None]
    short = [run.run for run in found if run.pattern in ("TOO_SHORT", "EARLY_TERMINATION")]
    poor = [run.run for run in found if run.tier == "POOR" and run.pattern in ("NATURAL_CONVERGENCE", "PLATEAUED")]
    if without:
        advice.append(f"{named(without, 'without losses (yet)')}: look at their logs, or restart the EXP")
    if lost:
        advice.append(f"{named(lost, 'with a loss that ends in NaN')}: a lower learning rate, not more epochs")
    if diverging:
        advice.append(
            f"{named(diverging, 'getting worse')}: a lower learning rate, or the best checkpoint, not the last"
        )
    if improving:
        advice.append(f"{named(improving, 'still improving')}: restart the EXP with more epochs")
    if short:
        advice.append(f"{named(short, 'with fewer than 5 epochs')}: too few to judge")
    if poor:
        advice.append(f"{named(poor, 'level at a high loss')}: more epochs will not help")
    return advice or ["nothing to do: all RUNs have converged"]
