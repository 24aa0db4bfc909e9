"""The table of an EXP's RUNs: what was held out, how far each came, and its scores."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from analysis.exp import Run, read_runs

SCORES = ("r2", "mse")
LONGEST_NOTE = 60


def table(runs: Sequence[Run]) -> list[str]:
    """Aligned lines: a heading and one per RUN; a column of notes only if a RUN has one."""
    held_out = "cell" if runs and all(run.partition == "by_cell" for run in runs) else "drug"
    scores = [f"{part} {name}" for part in ("val", "test") for name in SCORES]
    rows = [["RUN", held_out, "status", "epochs", *scores, "time", "note"], *map(_row, runs)]
    columns = list(zip(*rows, strict=True))
    if not any(columns[-1][1:]):
        columns.pop()
    aligned = []
    for column in columns:
        width = max(map(len, column))
        words = column[0] in ("RUN", held_out, "status", "note")
        aligned.append([text.ljust(width) if words else text.rjust(width) for text in column])
    return ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]


def print_table(exp_path: str | Path) -> None:
    """Print the table of the EXP's RUNs, their counts by status, and the EXP's path.

    FileNotFoundError if it is not an EXP.
    """
    exp = Path(exp_path)
    runs = read_runs(exp)
    counts = Counter(run.status for run in runs)
    print(*table(runs), sep="\n")
    print(f"{len(runs)} RUNs: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()))
    print(exp.absolute())


def _row(run: Run) -> list[str]:
    held_out = run.held_out or ("-" if run.index is None else f"index {run.index}")
    note = (run.reason or "").split("\n")[0]
    if len(note) > LONGEST_NOTE:
        note = note[: LONGEST_NOTE - 3] + "..."
    return [
        run.id,
        held_out,
        run.status,
        "-" if run.epochs is None else str(run.epochs),
        *(_score(scores.get(name)) for scores in (run.val, run.test) for name in SCORES),
        _duration(run.seconds),
        note,
    ]


def _score(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"


def _duration(seconds: float | None) -> str:
    if not isinstance(seconds, (int, float)):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0, or 1 with one line on stderr if it is not an EXP."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.runs", description=__doc__, epilog="example: python -m analysis.runs EXP011"
    )
    parser.add_argument("exp", type=Path, metavar="EXP", help="path of an EXP directory")
    try:
        print_table(parser.parse_args(arguments).exp)
    except OSError as error:
        print(f"analysis.runs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
