"""Two ranked lists, best first, one entry a line: recall, differences of rank, rank correlation."""

import csv
import re
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from analysis.command import AnalysisError, note, positive, reading
from analysis.metrics import rank_correlation

HEADINGS = 2  # of the spreadsheet that list_diff reads: rank,true,...,rank,pred,...
TRUE_COLUMN, PRED_COLUMN = 1, 4
TRUE_VALUE, PRED_VALUE = 1, 2  # of a line of top_drugs.sh: RUN true pred cell


def read_list(path: Path) -> list[list[str]]:
    """The entries as their columns, or their words where there is one column. AnalysisError: empty."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    columns = [re.split(r"\s{2,}|\t", line) for line in lines]  # a cell's name may have blanks in it
    entries = [parts if len(parts) > 1 else parts[0].split() for parts in columns]
    if not entries:
        raise AnalysisError(f"{path} has no lines")
    return entries


def key(entry: Sequence[str]) -> str:
    """What tells an entry from others: the RUN in lines of top_drugs.sh, the whole line in other lists.

    The rest of a line of top_drugs.sh may differ between two rankings: a drug with two measurements in a cell
    stands in each with another row.
    """
    return entry[0] if _has_values(entry) else " ".join(entry)


def _has_values(entry: Sequence[str]) -> bool:
    """Whether it is a line of top_drugs.sh."""
    return len(entry) == 4 and _is_number(entry[TRUE_VALUE]) and _is_number(entry[PRED_VALUE])


def match(true: Sequence[Sequence[str]], pred: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The entries of `pred` that are in `true`, each once."""
    wanted = {key(entry) for entry in true}
    found: dict[str, Sequence[str]] = {}
    for entry in pred:
        if key(entry) in wanted:
            found.setdefault(key(entry), entry)
    return list(found.values())


def hits_text(hits: int, total: int) -> str:
    """The last line of list_match.py."""
    return f"hits: {100 * hits / total:4.1f}%"


def list_match(parser: ArgumentParser, arguments: list[str]) -> None:
    """`list_match.py TRUE PRED`."""
    _two_lists(parser)
    options = parser.parse_args(arguments)
    true, pred = read_list(options.true), read_list(options.pred)
    hits = match(true, pred)
    for entry in hits:
        print("hit: " + "  ".join(entry))
    print(hits_text(len(hits), len({key(entry) for entry in true})))


def list_diff(parser: ArgumentParser, arguments: list[str]) -> None:
    """`list_diff.py N CSV`, or `list_diff.py N TRUE PRED`: how far the first N of TRUE have moved in PRED."""
    parser.add_argument("count", metavar="N", type=positive, help="compare the first N of the true list")
    parser.add_argument(
        "true",
        metavar="CSV|TRUE",
        type=Path,
        help="a table with two headings and the lists in columns 2 and 5; or a list",
    )
    parser.add_argument("pred", metavar="PRED", type=Path, nargs="?", help="the other list")
    options = parser.parse_args(arguments)
    if options.pred is None:
        true, pred = _read_table(options.true)
    else:
        true, pred = ([key(entry) for entry in read_list(path)] for path in (options.true, options.pred))
    places = _places(pred)
    differences = []
    for place, name in enumerate(islice(true, options.count)):
        if name not in places:
            raise AnalysisError(f"{name} is in the true list only: the two lists must hold the same entries")
        differences.append(places[name] - place)
        beside = pred[place] if place < len(pred) else "-"
        print(f"{place:4} {name} {beside} {differences[-1]:4}")
    if len(true) < options.count:
        note(f"the list has {len(true)} entries only")
    print(f"\ndiff_sum:  {sum(differences):8,}")
    print(f"diff_sum2: {sum(difference**2 for difference in differences):8,}")


def spearman(parser: ArgumentParser, arguments: list[str]) -> None:
    """`spearman.py TRUE PRED`: rank correlation of what is in both lists, by values in lines of top_drugs.sh."""
    _two_lists(parser)
    options = parser.parse_args(arguments)
    true = _ranks(read_list(options.true), (TRUE_VALUE, PRED_VALUE))
    pred = _ranks(read_list(options.pred), (PRED_VALUE, TRUE_VALUE))
    common = [name for name in true if name in pred]
    if len(common) < 2:
        raise AnalysisError(f"the lists have {len(common)} entries in common: a correlation needs two")
    left_out = len(true) + len(pred) - 2 * len(common)
    if left_out:
        note(f"{left_out} entries are in one list only, and are left out")
    x, y = (np.array([ranks[name] for name in common]) for ranks in (true, pred))
    for path, values in ((options.true, x), (options.pred, y)):
        if np.ptp(values) == 0:
            raise AnalysisError(f"{path}: all values are equal: a correlation is not defined")
    print(rank_correlation(x, y))


def _ranks(entries: Sequence[Sequence[str]], columns: Sequence[int]) -> Mapping[str, float]:
    """By entry the value that the list is sorted by, which is in the first of `columns` that ascends; else its place.

    Places are no ranks of equal values: a ranking has those in the order of the RUNs, in both lists.
    """
    if all(map(_has_values, entries)):
        for column in columns:
            values = [float(entry[column]) for entry in entries]
            if values == sorted(values):
                return {key(entry): value for entry, value in zip(entries[::-1], values[::-1], strict=True)}
    return _places([key(entry) for entry in entries])


def _two_lists(parser: ArgumentParser) -> None:
    parser.add_argument("true", metavar="TRUE", type=Path, help="the list that is right")
    parser.add_argument("pred", metavar="PRED", type=Path, help="the other one")


def _places(names: Sequence[str]) -> dict[str, int]:
    """The place of each name, the first of equal ones, counted without repeats."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _read_table(path: Path) -> tuple[list[str], list[str]]:
    with reading(path) as file:
        table = csv.reader(file)
        rows = [(table.line_num, row) for row in islice(table, HEADINGS, None) if any(row)]
    if not rows:
        raise AnalysisError(f"{path} has no rows below its {HEADINGS} headings")
    for number, row in rows:
        if len(row) <= PRED_COLUMN:
            raise AnalysisError(f"{path}:{number}: {len(row)} columns: the lists are in columns 2 and 5")
    return [row[TRUE_COLUMN] for _, row in rows], [row[PRED_COLUMN] for _, row in rows]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
