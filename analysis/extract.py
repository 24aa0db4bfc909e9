"""`extract.py`: a test score of every RUN, as the RUN's own file says."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from analysis.command import add_exp, add_formats, check_metric, exp_path, note, notes, show, write_lines
from analysis.exp import read_held_out, run_directories
from analysis.job import finite, parse_json, read_text

MOST_NAMED = 5


def extract(parser: ArgumentParser, arguments: list[str]) -> None:
    """`extract.py D [METRIC]`: lines `%03i,%.9f`, the RUN's number and its test score, to D/scores.csv."""
    add_exp(parser)
    parser.add_argument("metric", metavar="METRIC", nargs="?", default="mse", help="mse (default), rmse, pcc, scc, r2")
    add_formats(parser)
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp)
    found, problems, known = read_scores(exp, options.metric)
    check_metric(options.metric, known)
    notes(problems)
    rows = [{"run": run, "number": number, options.metric: score} for run, number, score in found]
    path = exp / "scores.csv"
    write_lines(path, score_lines(found))
    shared = shared_numbers(found)
    if shared:
        note(f"RUNs that share a number (--csv has their names): {_first_of(shared, '; ')}")
    done = f"{len(found)} scores of {len(found) + len(problems)} RUNs -> {path}"
    if options.json or options.csv:
        show(options, rows, ())
    else:
        print(done)


def read_scores(exp: Path, metric: str) -> tuple[list[tuple[str, int | None, float]], list[str], set[str]]:
    """A (RUN, number, score) for each RUN that has one, a message for each that has none, all metrics' names."""
    found, problems = [], []
    known: set[str] = set()
    for run in run_directories(exp):
        path = run / "test_scores.json"
        scores = parse_json(text := read_text(path))
        if not isinstance(scores, dict):
            problems.append(f"{path}: " + ("no such file" if text is None else "not whole JSON"))
            continue
        known |= {name for name, value in scores.items() if name != "reason"}
        score = finite(scores.get(metric))
        if isinstance(score, (int, float)):
            found.append((run.name, run_number(run), float(score)))
        else:
            problems.append(f"{path}: {metric} is {'undefined' if metric in scores else 'not there'}")
    return found, problems, known


def score_lines(found: list[tuple[str, int | None, float]]) -> Iterator[str]:
    """The lines of scores.csv."""
    for run, number, score in found:
        yield f"{_label(run, number)},{score:.9f}"


def shared_numbers(found: list[tuple[str, int | None, float]]) -> list[str]:
    """What stands in scores.csv for several RUNs, each with these: `005: A, B`."""
    runs: dict[str, list[str]] = {}
    for run, number, _ in found:
        runs.setdefault(_label(run, number), []).append(run)
    return [f"{label}: {_first_of(names, ', ')}" for label, names in runs.items() if len(names) > 1]


def _first_of(names: list[str], separator: str) -> str:
    return separator.join([*names[:MOST_NAMED], *(["..."] if len(names) > MOST_NAMED else [])])


def _label(run: str, number: int | None) -> str:
    return run if number is None else format(number, "03")


def run_number(run: Path) -> int | None:
    """The number in the name RUNnnn; else the RUN's index; None: the name itself has to do."""
    match = re.fullmatch(r"RUN(\d+)", run.name)
    return int(match[1]) if match else read_held_out(run).index
