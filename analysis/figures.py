"""The pictures of a report, each from what `summary` gathered. None where there is nothing to show."""

import io
import textwrap
from collections.abc import Callable
from itertools import groupby
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.command import count_text
from analysis.convergence import TIERS
from analysis.summary import RunScore, Summary

WIDTH = 10.0
DPI = 110
MOST_BARS = 60  # more drugs are drawn as a curve
MOST_NAMES = 15
MOST_NAMED = 5  # points of a comparison
QUANTILES = 400
HALF = 45  # letters that fit into half of the width
LETTER = 0.008  # width of a small letter as a share of the picture's
BLUE, ORANGE, GREEN, RED, GRAY = "#2f6db3", "#e08214", "#2c9c69", "#c23b3b", "#8c8c8c"
TIER_COLORS = dict(zip(TIERS, (GREEN, BLUE, ORANGE, RED), strict=True))
STATUS_COLORS = {"done": GREEN, "skipped": GRAY, "failed": RED, "interrupted": ORANGE, "running": BLUE}

matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False})


def png(figure: Figure) -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _figure(height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def true_vs_predicted(summary: Summary) -> Figure | None:
    """Density of all test rows."""
    if not summary.density.any():
        return None
    figure, axes = _figure(5.2, 2)
    density = np.ma.masked_equal(summary.density.T, 0)
    image = axes[0].imshow(density, origin="lower", extent=(0, 1, 0, 1), norm="log", cmap="viridis", aspect="equal")
    axes[0].plot([0, 1], [0, 1], color=RED, linewidth=1)
    used = np.flatnonzero(summary.density.sum(axis=0) + summary.density.sum(axis=1))
    shown = used[0] / len(summary.density), (used[-1] + 1) / len(summary.density)
    axes[0].set(xlim=shown, ylim=shown, xlabel="true AUC", ylabel="predicted AUC")
    axes[0].set_title(f"{int(summary.overall['rows']):,} test rows")
    figure.colorbar(image, ax=axes[0], label="rows", shrink=0.7)
    centers = (np.arange(len(summary.density)) + 0.5) / len(summary.density)
    for axis, label, color in ((1, "true", BLUE), (0, "predicted", ORANGE)):
        axes[1].step(centers, summary.density.sum(axis=axis), where="mid", color=color, label=label)
    axes[1].set(xlabel="AUC", ylabel="rows", title="Distributions", xlim=shown, ylim=(0, None))
    axes[1].legend(frameon=False)
    return figure


def error_per_drug(summary: Summary) -> Figure | None:
    """RMSE of every drug, sorted, the outlying ones in color and by name."""
    drugs = sorted(summary.drugs(), key=lambda drug: -drug.rmse)
    if not drugs:
        return None
    high = set(summary.high_error())
    errors = [drug.rmse for drug in drugs]
    median = float(np.median(errors))
    if len(drugs) <= MOST_BARS:
        figure, axes = _figure(max(2.5, 0.22 * len(drugs) + 1))
        axes.barh(range(len(drugs)), errors, color=[RED if drug in high else BLUE for drug in drugs])
        axes.set_yticks(range(len(drugs)), [_label(drug) for drug in drugs])
        axes.invert_yaxis()
        axes.axvline(median, color=GRAY, linewidth=1, linestyle="--", label=f"median {median:.4f}")
        axes.set(xlabel="RMSE on the held-out drug", ylim=(len(drugs) - 0.4, -0.6))
    else:
        figure, axes = _figure(4.8)
        edges = np.arange(len(drugs) + 1)
        axes.stairs(errors, edges, fill=True, color=BLUE)
        axes.stairs(errors[: len(high)], edges[: len(high) + 1], fill=True, color=RED)
        axes.axhline(median, color=GRAY, linewidth=1, linestyle="--", label=f"median {median:.4f}")
        axes.set(xlabel="drugs, sorted by error", ylabel="RMSE on the held-out drug", xlim=(0, len(drugs)))
        names = ["largest errors:", *(f"{drug.rmse:.4f}  {_label(drug)}" for drug in drugs[:MOST_NAMES])]
        box = {"boxstyle": "round", "facecolor": "white", "edgecolor": GRAY}
        axes.text(0.98, 0.97, "\n".join(names), transform=axes.transAxes, va="top", ha="right", bbox=box)
    axes.set_title(f"{count_text(len(drugs), 'drug')}, {len(high)} with high error (red)")
    axes.legend(frameon=False, loc="lower right" if len(drugs) <= MOST_BARS else "upper center")
    return figure


def _label(drug: RunScore) -> str:
    return drug.label if drug.label == drug.run else f"{drug.label} ({drug.run})"


def _distinct(values: Any) -> Any:
    """Values without their rounding errors: NumPy refuses to make bins for 1.0 and 0.9999999999999998."""
    return np.round(np.asarray(values, np.float64), 9)


def cells(summary: Summary) -> Figure | None:
    """Rank correlation and recall of the top drugs, over the cells."""
    if not summary.cells:
        return None
    figure, axes = _figure(3.6, 2)
    correlations = [cell.scc for cell in summary.cells if cell.scc is not None]
    if correlations:
        axes[0].hist(_distinct(correlations), bins=30, color=BLUE)
        median = float(np.median(correlations))
        axes[0].axvline(median, color=RED, linewidth=1)
        axes[0].set_title(f"Rank correlation per cell: median {median:.3f}")
    axes[0].set(xlabel="rank correlation of true and predicted AUC", ylabel="cells")
    top = max(cell.top for cell in summary.cells)
    recalls = [cell.recall for cell in summary.cells]
    axes[1].hist(recalls, bins=np.linspace(-0.5 / top, 1 + 0.5 / top, top + 2), color=GREEN, rwidth=0.9)
    mean, chance = float(np.mean(recalls)), float(np.mean([cell.top / cell.drugs for cell in summary.cells]))
    axes[1].axvline(mean, color=RED, linewidth=1)
    axes[1].axvline(chance, color=GRAY, linewidth=1, linestyle="--")
    axes[1].set_xticks(np.linspace(0, 1, min(top, 10) + 1))
    axes[1].set_title(f"Recall per cell: mean {mean:.3f}, by chance {chance:.3f} (dashed)")
    axes[1].set(xlabel=f"recall of the top {top} drugs", ylabel="cells")
    return figure


def residuals(summary: Summary) -> Figure | None:
    """Histogram of predicted - true, its quantiles against a normal distribution, and mean residual by true AUC."""
    values = summary.residuals
    if not len(values):
        return None
    figure, axes = _figure(3.6, 3)
    mean, spread = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    axes[0].hist(_distinct(values), bins=100, color=BLUE)
    axes[0].axvline(0, color=RED, linewidth=1)
    axes[0].set(xlabel="predicted - true AUC", ylabel="rows", title=f"mean {mean:+.4f}, std {spread:.4f}")
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    normal = np.array([NormalDist().inv_cdf(share) for share in shares])
    axes[1].plot(normal, np.quantile(values, shares), ".", color=BLUE, markersize=3)
    axes[1].plot(normal, mean + spread * normal, color=RED, linewidth=1)
    axes[1].set(xlabel="quantile of the normal distribution", ylabel="quantile of the residuals", title="Q-Q plot")
    used = np.flatnonzero(summary.bias[0] > 1)
    rows, sums, squares = summary.bias[:, used]
    means = sums / rows
    errors = 2 * np.sqrt(np.maximum(squares / rows - means**2, 0) / rows)
    centers = (used + 0.5) / len(summary.density)
    axes[2].axhline(0, color=RED, linewidth=1)
    axes[2].errorbar(centers, means, errors, fmt=".", color=BLUE, markersize=3, linewidth=0.8)
    axes[2].set(xlabel="true AUC", ylabel="mean of predicted - true", title="Bias with 2 standard errors")
    return figure


def learning_curves(summary: Summary) -> Figure | None:
    """val_loss by epoch of all RUNs, colored by tier."""
    losses = [loss for run in summary.convergence for _, loss in run.points()]
    if not losses:
        return None
    figure, axes = _figure(4.0)
    for tier, color in TIER_COLORS.items():
        runs = [run for run in summary.convergence if run.tier == tier]
        curves = [points for run in runs if (points := run.points())]
        share = 0.9 if len(summary.convergence) < 30 else 0.35
        axes.add_collection(LineCollection(curves, colors=color, linewidths=0.9, alpha=share))
        axes.plot([], [], color=color, label=f"{tier}: {TIERS[tier]} ({count_text(len(runs), 'RUN')})")
        for points in curves:
            if len(points) == 1:
                axes.plot(*points[0], ".", color=color)
    axes.autoscale_view()
    axes.set(xlabel="epoch", ylabel="validation loss", title="Learning curves by tier of the final loss")
    if min(losses) > 0 and max(losses) > 5 * min(losses):
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure


def timeline(summary: Summary) -> Figure | None:
    """RUNs by rank over time, and how many were at work."""
    line = summary.timeline
    if line is None:
        return None
    ranks = sorted({span.rank for span in line.spans})
    figure, axes = _figure(min(7.0, 2.6 + 0.2 * len(ranks)), rows=2, sharex=True, height_ratios=[3, 1])
    places = {rank: place for place, rank in enumerate(ranks)}
    unit, seconds = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if line.end - line.start > 3 * s), ("s", 1))
    gap = (line.end - line.start) / 1000
    for status, color in STATUS_COLORS.items():
        spans = sorted((s for s in line.spans if s.status == status), key=lambda span: span.rank)
        for rank, mine in groupby(spans, key=lambda span: span.rank):
            bars = [((s.start - line.start) / seconds, max(0.0, s.end - s.start - gap) / seconds) for s in mine]
            axes[0].broken_barh(bars, (places[rank] - 0.4, 0.8), facecolors=color)
        if spans:
            axes[0].broken_barh([], (0, 0), facecolors=color, label=f"{status} ({len(spans)})")
    if len(line.spans) <= 60:
        for span in line.spans:
            middle = ((span.start + span.end) / 2 - line.start) / seconds
            if (span.end - span.start) / (line.end - line.start) > LETTER * len(span.run):
                axes[0].text(middle, places[span.rank], span.run, ha="center", va="center", color="white", fontsize=7)
    shown = ranks if len(ranks) <= 24 else ranks[:: len(ranks) // 12]
    axes[0].set_yticks([places[rank] for rank in shown], [str(rank) for rank in shown])
    # All of the job's time, as in "busy": also before its first RUN, when it stages, and after its last one.
    whole = (line.end - line.start) / seconds
    axes[0].set(ylabel="rank", ylim=(len(ranks) - 0.4, -0.6), xlim=(-0.01 * whole, 1.01 * whole))
    about = f"{len(line.spans)} attempts on {line.workers} workers, busy {100 * line.utilization():.0f} % of the time"
    axes[0].set_title(about, loc="left")
    axes[0].legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    times, working = line.at_work()
    axes[1].fill_between((times - line.start) / seconds, working, step="post", color=BLUE, alpha=0.6, linewidth=0)
    axes[1].set(xlabel=f"time since the start [{unit}]", ylabel="at work", ylim=(0, line.workers * 1.05))
    axes[1].yaxis.get_major_locator().set_params(integer=True)
    return figure


def comparison(first: Summary, second: Summary, pairs: list[tuple[RunScore, RunScore]]) -> Figure | None:
    """RMSE of the same RUNs in two EXPs."""
    if not pairs:
        return None
    figure, axes = _figure(4.4, 2)
    x, y = (np.array([pair[side].rmse for pair in pairs]) for side in (0, 1))
    limit = float(max(x.max(), y.max())) * 1.05
    axes[0].plot([0, limit], [0, limit], color=GRAY, linewidth=1)
    axes[0].scatter(x, y, s=14, color=np.select([y < x, y > x], [GREEN, RED], GRAY))  # skipped by a restart: equal
    axes[0].set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    axes[0].set_title(_wrapped(f"RMSE of {count_text(len(pairs), 'RUN')}: below the line {second.name} is better"))
    axes[0].set(xlabel=_wrapped(f"RMSE in {first.name}"), ylabel=_wrapped(f"RMSE in {second.name}"))
    named: list[tuple[float, float]] = []
    for place in np.argsort(-np.abs(y - x), kind="stable"):
        at = float(x[place]), float(y[place])
        if all(abs(at[0] - a) > 0.5 * limit or abs(at[1] - b) > 0.04 * limit for a, b in named):  # no name on another
            side, shift = ("right", -4) if at[0] > 0.6 * limit else ("left", 4)
            axes[0].annotate(pairs[place][0].label, at, (shift, 4), textcoords="offset points", fontsize=7, ha=side)
            named.append(at)
        if len(named) == MOST_NAMED:
            break
    axes[1].hist(_distinct(y - x), bins=min(50, max(5, len(pairs) // 3)), color=BLUE)
    axes[1].axvline(0, color=RED, linewidth=1)
    better = f"{second.name} better for {np.count_nonzero(y < x)}, worse for {np.count_nonzero(y > x)}"
    axes[1].set(xlabel=_wrapped(f"RMSE, {second.name} - {first.name}"), ylabel="RUNs", title=_wrapped(better))
    axes[1].locator_params("x", nbins=6)
    axes[1].yaxis.get_major_locator().set_params(integer=True)
    return figure


def _wrapped(text: str) -> str:
    """Text over half a picture in lines that fit: an EXP's name may be long, and may have its path before it."""
    return textwrap.fill(text, HALF)


# Picture, its title, what it shows.
PICTURES: list[tuple[Callable[[Summary], Figure | None], str, str]] = [
    (
        true_vs_predicted,
        "True against predicted",
        "All rows of all test sets. On the red line the prediction is right.",
    ),
    (
        error_per_drug,
        "Error per drug",
        "Each drug was held out by one RUN, so the model had never seen it. High error: RMSE more than 1.5 times the"
        " interquartile range above the upper quartile.",
    ),
    (
        cells,
        "Cells",
        "For each cell the drugs are ranked by AUC, lowest first, once by the true and once by the predicted values.",
    ),
    (
        residuals,
        "Residuals",
        "The Q-Q plot compares with a normal distribution: steeper than the line at the ends means more large errors.",
    ),
    (
        learning_curves,
        "Learning curves",
        "Tiers compare the RUNs of this EXP by their final validation loss.",
    ),
    (timeline, "Timeline of the ranks", "Gaps are ranks that waited."),
]
