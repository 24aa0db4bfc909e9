"""What a report needs of an EXP, gathered in one pass over its predictions: never all rows at once."""

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.command import AnalysisError, Ticker, count_text, reading
from analysis.convergence import Convergence, converged
from analysis.exp import Run, all_checkpoints, read_runs
from analysis.metrics import scores
from analysis.predictions import BY_DRUG, Reader
from analysis.ranking import TOP, CellScore, Matrices, all_cell_scores
from analysis.timeline import Timeline, read_timeline

BINS = 100
OUTLIER = 1.5  # times the interquartile range above the upper quartile, as in a box plot


@dataclass(frozen=True, slots=True)
class RunScore:
    """Scores of a RUN's test predictions. `label`: the drug or cell that it held out, else the RUN."""

    run: str
    partition: str
    index: int | None
    name: str | None
    label: str
    rows: int
    mse: float
    rmse: float
    pcc: float | None
    scc: float | None
    r2: float | None

    def same_test_set(self, other: "RunScore") -> bool:
        """Whether both held out the same, by its name, or by its index where one of the two does not name it."""
        named = self.name is not None and other.name is not None
        same = self.name == other.name if named else self.index == other.index
        return same and self.partition == other.partition


@dataclass(slots=True)
class Summary:
    """An EXP for a report, in which its name is `name`; `density`: counts [true, pred] of AUC in BINS bins from 0 to 1.

    `residuals`: predicted - true, row by row. `bias`: number, sum and sum of squares of the residuals [0 to 2, true] in
    the same bins. Values outside 0 to 1 count in the first and the last bin.
    """

    exp: Path
    name: str
    runs: list[Run]
    scores: list[RunScore]
    cells: list[CellScore]
    density: np.ndarray
    bias: np.ndarray
    residuals: np.ndarray
    overall: dict[str, float]
    convergence: list[Convergence]
    timeline: Timeline | None
    problems: list[str]

    def drugs(self) -> list[RunScore]:
        """The scores of RUNs that held out a drug."""
        return [score for score in self.scores if score.partition == BY_DRUG]

    def high_error(self) -> list[RunScore]:
        """The drugs with outlying rmse, worst first."""
        drugs = self.drugs()
        if not drugs:
            return []
        low, high = np.percentile([drug.rmse for drug in drugs], [25, 75])
        limit = high + OUTLIER * (high - low)
        return sorted((drug for drug in drugs if drug.rmse > limit), key=lambda drug: -drug.rmse)


class AllRows:
    """What the rows of all RUNs come to; for `density`, `bias` and `residuals` see Summary.

    `outside` is the number of rows with a value outside 0 to 1.
    """

    def __init__(self) -> None:
        self.density, self.bias, self.outside = np.zeros((BINS, BINS)), np.zeros((3, BINS)), 0
        self._residuals: list[np.ndarray] = []
        self._sums = np.zeros(7)
        self._first: tuple[float, float] | None = None

    def add(self, true: np.ndarray, pred: np.ndarray) -> None:
        """Take in some rows, one at least."""
        error = pred - true
        x, y = (np.clip(values * BINS, 0, BINS - 1).astype(np.int64) for values in (true, pred))
        self.density += np.bincount(x * BINS + y, minlength=BINS**2).reshape(BINS, BINS)
        self.bias += [np.bincount(x, error**power, BINS) for power in range(3)]
        self.outside += int(np.count_nonzero((np.minimum(true, pred) < 0) | (np.maximum(true, pred) > 1)))
        self._residuals.append(error.astype(np.float32))
        # As distances from the first row: constant values are 0, and have no spread by rounding, as 0.1234 has.
        self._first = self._first or (true[0], pred[0])
        t, p = true - self._first[0], pred - self._first[1]
        self._sums += [len(t), t.sum(), p.sum(), t @ t, p @ p, t @ p, error @ error]

    def residuals(self) -> np.ndarray:
        """float32, in the order of the rows."""
        return np.concatenate(self._residuals) if self._residuals else np.empty(0, np.float32)

    def scores(self) -> dict[str, float]:
        """Number of rows, mse, rmse, and r2 and pcc where they are defined; nothing without rows."""
        n, t, p, tt, pp, tp, squares = self._sums.tolist()
        if not n:
            return {}
        mse = squares / n
        spread_t, spread_p = tt - t * t / n, pp - p * p / n
        found = {"rows": n, "mse": mse, "rmse": math.sqrt(mse)}
        if spread_t > 0:
            found["r2"] = 1 - mse * n / spread_t
            if spread_p > 0:
                found["pcc"] = (tp - t * p / n) / math.sqrt(spread_t * spread_p)
        return found


def summarize(exp: Path, names: dict[str, str], top: int | None, drugs: list[str]) -> Summary:
    """Read the EXP. `names` maps a drug's id to the name that people know, `drugs` an index to a drug's id.

    `top`: length of the cells' rankings; None: 10, or fewer where there are fewer than 40 drugs, since all of 8
    drugs are among the top 10.
    """
    reader = Reader(exp, drugs=drugs)
    matrices, every = Matrices(len(reader.runs)), AllRows()
    found: list[RunScore] = []
    empty: list[str] = []
    ticker = Ticker(f"reading {exp.name}", len(reader.runs))
    for number, rows in enumerate(reader):
        ticker(number)
        if not len(rows.true):
            empty.append(rows.run)
            continue
        matrices.add(rows)
        every.add(rows.true, rows.pred)
        values: dict[str, Any] = scores(rows.true, rows.pred)
        values.pop("reason", None)
        label = names.get(rows.drug or "", rows.name or rows.run)
        found.append(RunScore(rows.run, rows.partition, rows.index, rows.name, label, len(rows.true), **values))
    ticker.close()
    checkpoints = all_checkpoints(exp)
    others = [score.run for score in found if score.partition != BY_DRUG]
    length = max(1, min(TOP, matrices.drugs() // 4) if top is None else top)
    return Summary(
        exp,
        exp.name,
        read_runs(exp),
        found,
        [] if others else all_cell_scores(reader, matrices, length),
        every.density,
        every.bias,
        every.residuals(),
        every.scores(),
        converged(checkpoints)[0],
        read_timeline(exp, time.time(), checkpoints),
        [*reader.problems, *_problems(reader.missing, empty, others, every.outside)],
    )


def _problems(missing: list[str], empty: list[str], others: list[str], outside: int) -> Iterator[str]:
    """A line for each kind of RUNs, or rows, with a lack."""
    if missing:
        yield f"{count_text(len(missing), 'RUN')} without test predictions"
    if empty:
        yield f"{count_text(len(empty), 'RUN')} without rows in the test predictions: {empty[0]}"
    if outside:
        yield f"{count_text(outside, 'row')} outside 0 to 1: pictures by AUC have them at their edges"
    if others:
        left_out = f"rankings of drugs are left out, and {count_text(len(others), 'RUN')} from the errors per drug"
        yield f"{left_out}: {others[0]} is not partitioned {BY_DRUG}"


def read_drug_info(path: Path) -> dict[str, str]:
    """Names by id from a table (TSV, else CSV) with columns improve_chem_id and name."""
    with reading(path, "utf-8-sig") as file:
        head = file.readline()
        file.seek(0)
        rows = csv.DictReader(file, delimiter="\t" if "\t" in head else ",")
        if not rows.fieldnames or not {"improve_chem_id", "name"} <= set(rows.fieldnames):
            raise AnalysisError(f"{path} has no columns improve_chem_id and name")
        return {row["improve_chem_id"]: row["name"] for row in rows if row["name"]}
