"""Which drugs a cell responds to, true and predicted: rankings by lowest AUC, and how far the two agree.

A drug counts once per cell. Measured more than once, it counts with its lowest AUC. In the files of the users'
scripts a RUN's id stands for a drug: of several RUNs that held out the same one, that of the first.
"""

import difflib
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis import lists
from analysis.command import (
    AnalysisError,
    add_exp,
    add_formats,
    columns,
    exp_path,
    note,
    notes,
    number_text,
    positive,
    show,
)
from analysis.metrics import rank_correlation
from analysis.predictions import BY_DRUG, Predicted, Reader

TOP = 10
LEAST_FOR_CORRELATION = 3


class Entry(NamedTuple):
    """A drug in the ranking of a cell: `run` stands for the drug, the values are those of one measurement."""

    run: str
    true: float
    pred: float
    cell: str


class Matrices:
    """Lowest true and predicted AUC as arrays [RUN, cell] of float64, NaN where a RUN does not have the cell."""

    def __init__(self, runs: int) -> None:
        self._true = np.full((runs, 0), np.nan)
        self._pred = self._true.copy()
        self._drugs = np.zeros(runs, np.int64)  # number of each RUN's drug
        self._filled = 0
        self._numbers: dict[object, int] = {}

    def add(self, rows: Predicted) -> None:
        """Take in the next RUN."""
        needed = int(rows.cell.max(initial=-1)) + 1
        if needed > self._true.shape[1]:  # nearly all cells come with the first RUNs
            self._true, self._pred = (_widen(array, needed) for array in (self._true, self._pred))
        for array, values in ((self._true, rows.true), (self._pred, rows.pred)):
            np.fmin.at(array[self._filled], rows.cell, values)
        self._drugs[self._filled] = self._numbers.setdefault(rows.counts_as, len(self._numbers))
        self._filled += 1

    def drugs(self) -> int:
        """How many drugs the RUNs held out."""
        return len(self._numbers)

    def cell(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drugs (their numbers), true and predicted values of a cell in the order of the RUNs that have it."""
        true, pred = (array[: self._filled, number] for array in (self._true, self._pred))
        has = ~np.isnan(true)
        return self._drugs[: self._filled][has], true[has], pred[has]


def _widen(array: np.ndarray, columns: int) -> np.ndarray:
    wider = np.full((len(array), columns), np.nan)
    wider[:, : array.shape[1]] = array
    return wider


class CellScore(NamedTuple):
    """Agreement of the two rankings of one cell: `hits` of the `top` lowest; `scc` None for fewer than 3 drugs."""

    cell: str
    drugs: int
    hits: int
    top: int
    recall: float
    scc: float | None


def cell_score(cell: str, drugs: np.ndarray, true: np.ndarray, pred: np.ndarray, top: int = TOP) -> CellScore:
    """Compare the rankings; equal values keep the order of the RUNs."""
    by_true, by_pred = (_ranked(drugs, values) for values in (true, pred))
    top = min(top, len(by_true))
    hits = len(np.intersect1d(drugs[by_true[:top]], drugs[by_pred[:top]]))
    true, pred = (values[places[np.argsort(drugs[places])]] for values, places in ((true, by_true), (pred, by_pred)))
    scc = None
    if len(true) >= LEAST_FOR_CORRELATION and np.ptp(true) > 0 and np.ptp(pred) > 0:
        scc = rank_correlation(true, pred)
    return CellScore(cell, len(true), hits, top, hits / top, scc)


def _ranked(drugs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The place of each drug's lowest value, the lowest of all first."""
    order = np.argsort(values, kind="stable")
    _, first = np.unique(drugs[order], return_index=True)
    return order[np.sort(first)]


def all_cell_scores(reader: Reader, matrices: Matrices, top: int = TOP) -> list[CellScore]:
    """The scores of all cells, sorted by name."""
    order = sorted(range(len(reader.cells)), key=reader.cells.__getitem__)
    return [cell_score(reader.cells[number], *matrices.cell(number), top) for number in order]


def _held_out_drugs(reader: Reader) -> Iterator[Predicted]:
    """The RUNs. AnalysisError: one held out no drug, and its rows are of many."""
    for rows in reader:
        if rows.partition != BY_DRUG:
            raise AnalysisError(f"{rows.run} has the partition {rows.partition}: rankings of drugs need {BY_DRUG}")
        yield rows


def read_cell(exp: Path, cell: str) -> list[Entry]:
    """All rows of exactly this cell. AnalysisError: no RUN has it."""
    reader, entries = Reader(exp), []
    names: dict[object, str] = {}
    for rows in _held_out_drugs(reader):
        name = names.setdefault(rows.counts_as, rows.run)
        if (number := reader.number(cell)) is not None:
            mine = rows.cell == number
            entries += [Entry(name, t, p, cell) for t, p in zip(rows.true[mine], rows.pred[mine], strict=True)]
    notes(reader.problems)
    if not entries:
        if not reader.cells:
            raise AnalysisError(f"{exp} has no test predictions (yet)")
        near = difflib.get_close_matches(cell, reader.cells, 3)
        raise AnalysisError(f"no RUN has the cell {cell}" + (f": did you mean {', '.join(near)}?" if near else ""))
    return entries


def top_entries(entries: list[Entry], kind: str, count: int) -> list[Entry]:
    """The `count` lowest by `kind` (true or pred), one row per drug."""
    runs, values = (np.array([getattr(entry, name) for entry in entries]) for name in ("run", kind))
    return [entries[place] for place in _ranked(runs, values)[:count]]


def list_cells(parser: ArgumentParser, arguments: list[str]) -> None:
    """`list_cells.sh D`."""
    add_exp(parser)
    add_formats(parser)
    options = parser.parse_args(arguments)
    reader = Reader(exp_path(options.exp))
    for _ in reader:
        pass
    notes(reader.problems)
    if not reader.cells:
        raise AnalysisError(f"{options.exp} has no test predictions (yet)")
    cells = sorted(reader.cells)
    show(options, [{"cell": cell} for cell in cells], cells)


def top_drugs(parser: ArgumentParser, arguments: list[str]) -> None:
    """`top_drugs.sh D TYPE CELL COUNT`: lines `RUN true pred cell`."""
    add_exp(parser)
    parser.add_argument("type", metavar="TYPE", choices=("true", "pred"), help="true or pred: sorted by that AUC")
    parser.add_argument("cell", metavar="CELL")
    parser.add_argument("count", metavar="COUNT", nargs="?", type=positive, default=TOP, help="10")
    add_formats(parser)
    options = parser.parse_args(arguments)
    top = top_entries(read_cell(exp_path(options.exp), options.cell), options.type, options.count)
    show(options, [entry._asdict() for entry in top], _entry_lines(top))


def score_cell(parser: ArgumentParser, arguments: list[str]) -> None:
    """`score_cell.sh D [CELL]`: the hits among the true and predicted top 10; without CELL all cells."""
    add_exp(parser)
    parser.add_argument("cell", metavar="CELL", nargs="?", help="without it, as score_all_cells.sh")
    _score_options(parser)
    options = parser.parse_args(arguments)
    if options.cell is None:
        _score_cells(options)
        return
    entries = read_cell(exp_path(options.exp), options.cell)
    true, pred = (top_entries(entries, kind, options.top) for kind in ("true", "pred"))
    hits = [entry for entry in pred if entry.run in {other.run for other in true}]
    if len({entry.run for entry in entries}) <= options.top:
        note(f"{options.cell} has {len(true)} drugs only: all are among the top {options.top} (--top)")
    row = {"cell": options.cell, "hits": len(hits), "top": len(true), "recall": len(hits) / len(true)}
    lines = [f"hit: {line}" for line in _entry_lines(hits)]
    show(options, [row], [*lines, lists.hits_text(len(hits), len(true))])


def score_all_cells(parser: ArgumentParser, arguments: list[str]) -> None:
    """`score_all_cells.sh D [CELL]`."""
    add_exp(parser)
    parser.add_argument("cell", metavar="CELL", nargs="?", help="only this one")
    _score_options(parser)
    _score_cells(parser.parse_args(arguments))


def _score_options(parser: ArgumentParser) -> None:
    parser.add_argument("--top", type=positive, default=TOP, metavar="K", help="length of the rankings (10)")
    add_formats(parser)


def _score_cells(options: Any) -> None:
    exp = exp_path(options.exp)
    reader = Reader(exp)
    matrices = Matrices(len(reader.runs))
    for rows in _held_out_drugs(reader):
        matrices.add(rows)
    notes(reader.problems)
    found = [score for score in all_cell_scores(reader, matrices, options.top) if options.cell in (None, score.cell)]
    if not found:
        raise AnalysisError(
            f"no RUN has the cell {options.cell}" if reader.cells else f"{exp} has no test predictions (yet)"
        )
    table = [("cell", "drugs", "hits", "top", "recall", "scc")]
    table += [
        (s.cell, str(s.drugs), str(s.hits), str(s.top), f"{100 * s.recall:.1f}%", number_text(s.scc)) for s in found
    ]
    few = sum(score.drugs <= options.top for score in found)
    if few:
        note(f"{few} cells have {options.top} drugs or fewer: their recall is 100 % whatever is predicted (--top)")
    mean = sum(score.recall for score in found) / len(found)
    lines = [*columns(table, right=range(1, 6)), f"mean recall of {len(found)} cells: {100 * mean:.1f}%"]
    show(options, [score._asdict() for score in found], lines)


def _entry_lines(entries: list[Entry]) -> list[str]:
    rows = [[entry.run, repr(float(entry.true)), repr(float(entry.pred)), entry.cell] for entry in entries]
    return columns(rows) if rows else []
