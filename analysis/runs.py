"""Tables: of an EXP's RUNs (what was held out, how far each came, its scores), and of all EXPs in a directory."""

import statistics
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.command import (
    AnalysisError,
    add_exp,
    add_formats,
    check_metric,
    columns,
    exp_path,
    lower_is_better,
    number_text,
    output_directory,
    show,
)
from analysis.exp import FAILED_RESULT, Run, natural_order, read_runs
from analysis.job import inputs, read_journal, settings
from analysis.live import clock

SCORES = ("r2", "mse")
LONGEST_NOTE = 60


def table(runs: Sequence[Run]) -> list[str]:
    """Aligned lines: a heading and one per RUN; a column of notes only if a RUN has one."""
    partitions = {run.partition for run in runs} - {None}
    held_out = "drug" if partitions <= {"by_drug"} else "cell" if partitions == {"by_cell"} else "held out"
    scores = [f"{part} {name}" for part in ("val", "test") for name in SCORES]
    rows = [["RUN", held_out, "status", "epochs", *scores, "time", "note"], *map(_row, runs)]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    return columns(rows, right=range(3, 5 + len(scores)))


def print_table(exp_path: str | Path) -> None:
    """Print the table of the EXP's RUNs, their counts by status, and the EXP's path.

    FileNotFoundError if it is not an EXP.
    """
    exp = Path(exp_path)
    print(*_summary(exp, read_runs(exp)), sep="\n")


def _summary(exp: Path, runs: list[Run]) -> list[str]:
    counts = Counter(run.status for run in runs)
    return [
        *table(runs),
        f"{len(runs)} RUNs: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()),
        str(exp.absolute()),
    ]


def runs(parser: ArgumentParser, arguments: list[str]) -> None:
    """`runs D`."""
    add_exp(parser)
    add_formats(parser)
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp)
    found = read_runs(exp)
    rows = []
    for run in found:
        row = {key: value for key, value in asdict(run).items() if key not in ("val", "test")}
        for part, scores in (("val", run.val), ("test", run.test)):
            row |= {f"{part}_{name}": scores.get(name) for name in ("mse", "rmse", "pcc", "scc", "r2")}
        rows.append(row)
    show(options, rows, _summary(exp, found))


def index(parser: ArgumentParser, arguments: list[str]) -> None:
    """`index [DIRECTORY]`: one line per EXP."""
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, nargs="?", help="$CANDLE_DATA_DIR/$MODEL_NAME/Output"
    )
    parser.add_argument("--metric", default="mse", help="test score to compare (mse)")
    add_formats(parser)
    options = parser.parse_args(arguments)
    directory = options.directory or output_directory()
    if not directory.is_dir():
        raise AnalysisError(f"there is no directory {directory}")
    exps = [path for path in directory.iterdir() if (path / "run").is_dir() and path.name[0] != "."]
    if not exps:
        raise AnalysisError(f"{directory} has no EXPs")
    found = {exp: read_runs(exp) for exp in sorted(exps, key=lambda exp: natural_order(exp.name))}
    check_metric(
        options.metric, {name for of_exp in found.values() for run in of_exp for name in run.test} - {"reason"}
    )
    rows = [_index_row(exp, of_exp, options.metric) for exp, of_exp in found.items()]
    lines = [list(rows[0])]
    lines += [
        [number_text(value, ".6f") if isinstance(value, float) else str(value or "-") for value in row.values()]
        for row in rows
    ]
    show(options, rows, columns(lines, right=range(4, len(rows[0]))))


def _index_row(exp: Path, found: Sequence[Run], metric: str) -> dict[str, Any]:
    job = settings(exp)
    upf, dflts = inputs(exp)
    scores = [score for run in found if isinstance(score := run.test.get(metric), (int, float))]
    best = min if lower_is_better(metric) else max
    procs = next((event.get("procs") for event in read_journal(exp) if event["event"] == "job_started"), None)
    return {
        "EXP": exp.name,
        "date": job.get("STARTED") or job.get("SUBMITTED"),
        "UPF": upf.name if upf else None,
        "DFLTS": dflts.name if dflts else None,
        "PROCS": job.get("PROCS") or procs,
        "RUNs": len(found),
        "done": str(sum(map(_is_done, found))),
        f"best {metric}": best(scores) if scores else None,
        f"median {metric}": statistics.median(scores) if scores else None,
    }


def _is_done(run: Run) -> bool:
    # A RUN is skipped because it was done before, or because its pre module puts it off: that one has no result.
    return run.status == "done" or (run.status == "skipped" and run.result not in (None, FAILED_RESULT))


def _row(run: Run) -> list[str]:
    nothing = run.partition == "random" or run.index is None  # whatever index its parameters have
    held_out = run.held_out or ("-" if nothing else f"index {run.index}")
    note = (run.reason or "").split("\n")[0]
    if len(note) > LONGEST_NOTE:
        note = note[: LONGEST_NOTE - 3] + "..."
    return [
        run.id,
        held_out,
        run.status,
        "-" if run.epochs is None else str(run.epochs),
        *(number_text(scores.get(name)) for scores in (run.val, run.test) for name in SCORES),
        "-" if run.seconds is None else clock(run.seconds),
        note,
    ]
