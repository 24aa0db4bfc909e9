"""The predictions of an EXP, RUN by RUN: rows true, predicted, cell.

Files that are torn or no table are passed over as far as they cannot be read, and named in `problems`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from analysis.exp import HeldOut, read_held_out, run_directories

STAGES = ("val", "test")
BY_DRUG = "by_drug"
_OPTIONS = csv.ConvertOptions(
    column_types={"true": pa.float64(), "pred": pa.float64(), "cell": pa.dictionary(pa.int32(), pa.string())},
    include_columns=["true", "pred", "cell"],
)
_READ = csv.ReadOptions(column_names=["true", "pred", "cell"], use_threads=False)


@dataclass(frozen=True, slots=True)
class Predicted:
    """The rows of one RUN: float64 `true`, `pred`, and `cell` (int32, numbers in the reader's `cells`).

    `name` of the drug or cell that was held out, at `index`; None where nothing in the RUN tells.
    """

    run: str
    partition: str
    index: int | None
    name: str | None
    true: np.ndarray
    pred: np.ndarray
    cell: np.ndarray

    @property
    def drug(self) -> str | None:
        """The drug that was held out; None for other partitions, and where it is not known."""
        return self.name if self.partition == BY_DRUG else None

    @property
    def counts_as(self) -> tuple[str, str]:
        """What RUNs of one drug have in common; a RUN whose drug is not known counts as a drug of its own."""
        return ("run", self.run) if self.drug is None else ("drug", self.drug)


class Reader:
    """Iterates over the RUNs of an EXP that have predictions, one in memory at a time.

    `drugs` are the names by index, for EXPs that record only the index. After the iteration `problems` has a
    line for each file with a lack, and `missing` the RUNs without one.
    """

    def __init__(self, exp: Path, stage: str = "test", drugs: Sequence[str] = ()) -> None:
        """FileNotFoundError: `exp` is no EXP."""
        self.runs = run_directories(exp)
        self.cells: list[str] = []
        self.problems: list[str] = []
        self.missing: list[str] = []
        self._stage, self._drugs = stage, drugs
        self._numbers: dict[str, int] = {}

    def number(self, cell: str) -> int | None:
        """The cell's number; None as long as no RUN had it."""
        return self._numbers.get(cell)

    def __iter__(self) -> Iterator[Predicted]:
        for run in self.runs:
            path = run / f"{self._stage}_y_data_predicted.csv"
            try:
                data = path.read_bytes()
            except OSError:
                self.missing.append(run.name)
                continue
            table = self._parse(path, data)
            if table is not None:
                yield self._predicted(run, path, table)

    def _parse(self, path: Path, data: bytes) -> pa.Table | None:
        head, _, rows = data.partition(b"\n")
        if not head.rstrip().endswith(b",labels") or head.count(b",") != 2:
            self.problems.append(f"{path}: passed over: its first line is not *_true,*_pred,labels")
            return None
        whole = rows[: rows.rfind(b"\n") + 1]
        if len(whole) < len(rows):
            self.problems.append(f"{path}: torn: its last line has no end, and is left out")
        bad = 0

        def count(_: object) -> str:
            nonlocal bad
            bad += 1
            return "skip"

        try:
            options = csv.ParseOptions(invalid_row_handler=count)
            table = csv.read_csv(pa.BufferReader(whole), _READ, options, _OPTIONS) if whole else _EMPTY
        except pa.ArrowInvalid as error:
            self.problems.append(f"{path}: passed over: {str(error).splitlines()[0]}")
            return None
        if bad:
            self.problems.append(f"{path}: {bad} lines without three columns are left out")
        return table

    def _predicted(self, run: Path, path: Path, table: pa.Table) -> Predicted:
        true, pred = (table[name].to_numpy() for name in ("true", "pred"))
        labels = table["cell"].combine_chunks()
        if isinstance(labels, pa.ChunkedArray):  # without rows
            labels = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
        codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        good = np.isfinite(true) & np.isfinite(pred) & (codes >= 0)
        if not good.all():
            self.problems.append(f"{path}: {np.count_nonzero(~good)} rows without finite values are left out")
            true, pred, codes = true[good], pred[good], codes[good]
            used, codes = np.unique(codes, return_inverse=True)  # a cell of bad rows only is no cell of the EXP
            labels = pa.DictionaryArray.from_arrays(pa.array(codes), labels.dictionary.take(pa.array(used)))
        names = labels.dictionary.to_pylist()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        if len(self._numbers) > len(self.cells):
            self.cells.extend(islice(self._numbers, len(self.cells), None))
        cell = np.array(numbers, np.int32)[codes] if len(codes) else np.empty(0, np.int32)
        held_out = read_held_out(run)
        partition = held_out.partition or BY_DRUG  # the original system's default
        name = self._drug(held_out) if partition == BY_DRUG else held_out.name
        return Predicted(run.name, partition, held_out.index, name, true, pred, cell)

    def _drug(self, held_out: HeldOut) -> str | None:
        if held_out.name is None and held_out.index is not None and 0 <= held_out.index < len(self._drugs):
            return self._drugs[held_out.index]
        return held_out.name


_EMPTY = pa.table(
    {
        "true": pa.array([], pa.float64()),
        "pred": pa.array([], pa.float64()),
        "cell": pa.array([], pa.dictionary(pa.int32(), pa.string())),
    }
)
