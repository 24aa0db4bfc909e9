"""Scores of RUNs, as their files say and computed anew from the predictions; all predictions as one table."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import metrics
from analysis.command import (
    AnalysisError,
    Ticker,
    add_exp,
    add_formats,
    columns,
    exp_path,
    note,
    notes,
    number_text,
    replacing,
    show,
)
from analysis.predictions import STAGES, Predicted, Reader
from analysis.tables import drug_names

ROWS_PER_GROUP = 1_000_000
SCHEMA = pa.schema(
    [
        pa.field("run", pa.dictionary(pa.int32(), pa.string()), metadata={"about": "id of the RUN"}),
        pa.field("drug", pa.dictionary(pa.int32(), pa.string()), metadata={"about": "held-out drug; null: not known"}),
        pa.field("cell", pa.dictionary(pa.int32(), pa.string()), metadata={"about": "cell, `labels` in the CSV"}),
        pa.field("true", pa.float64(), metadata={"about": "measured response (AUC)"}),
        pa.field("pred", pa.float64(), metadata={"about": "predicted response (AUC)"}),
    ]
)


def collect(parser: ArgumentParser, arguments: list[str]) -> None:
    """`collect D`: all predictions as one Parquet table with the columns of SCHEMA, RUN after RUN."""
    add_exp(parser)
    _stage_options(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="predictions.parquet in the EXP")
    options = parser.parse_args(arguments)
    exp, reader = _reader(options)
    output = options.output or exp / "predictions.parquet"
    ticker = Ticker("reading", len(reader.runs))
    rows = runs = 0
    with replacing(output, "wb") as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        gathered: list[pa.Table] = []
        waiting = 0
        for predicted in reader:
            gathered.append(_table(predicted, reader))
            waiting += len(predicted.true)
            runs += 1
            ticker(runs)
            if waiting >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(gathered).unify_dictionaries())
                rows, waiting, gathered = rows + waiting, 0, []
        if gathered:
            writer.write_table(pa.concat_tables(gathered).unify_dictionaries())
            rows += waiting
    ticker.close()
    notes(reader.problems)
    if reader.missing:
        note(f"{len(reader.missing)} of {len(reader.runs)} RUNs have no {options.stage} predictions")
    print(f"{rows} rows of {runs} RUNs -> {output}")


def _table(rows: Predicted, reader: Reader) -> pa.Table:
    size = len(rows.true)
    zeros = pa.array(np.zeros(size, np.int32))
    none = pa.nulls(size, pa.int32())
    used, cells = np.unique(rows.cell, return_inverse=True)
    names = pa.array([reader.cells[number] for number in used], pa.string())
    return pa.table(
        [
            pa.DictionaryArray.from_arrays(zeros, pa.array([rows.run])),
            pa.DictionaryArray.from_arrays(none if rows.drug is None else zeros, pa.array([rows.drug or ""])),
            pa.DictionaryArray.from_arrays(pa.array(cells.astype(np.int32)), names),
            rows.true,
            rows.pred,
        ],
        schema=SCHEMA,
    )


def scores(parser: ArgumentParser, arguments: list[str]) -> None:
    """`scores D`: every score from the predictions themselves."""
    add_exp(parser)
    _stage_options(parser)
    parser.add_argument("--by", choices=("run", "cell", "all"), default="run", help="what a line is about (run)")
    parser.add_argument("--threshold", type=float, default=0.5, help="a response is an AUC below it (F-beta; 0.5)")
    parser.add_argument("--beta", type=float, default=1.0, help="weight of recall in F-beta (1)")
    parser.add_argument("--alpha", type=float, default=6.0, help="exponent of mae_poly (6)")
    add_formats(parser)
    options = parser.parse_args(arguments)
    _, reader = _reader(options)

    def score(true: np.ndarray, pred: np.ndarray) -> dict[str, Any]:
        found = metrics.scores(true, pred)
        reason = found.pop("reason", "")
        return {
            "rows": len(true),
            **found,
            "fbeta": metrics.fbeta(true, pred, options.threshold, options.beta),
            "mae_poly": metrics.mae_poly(true, pred, options.alpha),
            "reason": reason,
        }

    found = (
        [{"run": rows.run, "drug": rows.drug or "", **score(rows.true, rows.pred)} for rows in reader]
        if (options.by == "run")
        else _grouped(reader, options.by, score)
    )
    notes(reader.problems)
    if not found:
        raise AnalysisError(f"{options.exp} has no {options.stage} predictions (yet)")
    names = ["rows", *metrics.IMPROVE, "fbeta", "mae_poly"]
    heads = [name for name in found[0] if name not in (*names, "reason")]
    table = [[*heads, *names, "reason"]]
    table += [
        [
            *(str(row[name]) for name in heads),
            str(row["rows"]),
            *(number_text(row[n], ".6f") for n in names[1:]),
            row["reason"],
        ]
        for row in found
    ]
    show(options, found, columns(table, right=range(len(heads), len(heads) + len(names))))


def _grouped(
    reader: Reader, by: str, score: Callable[[np.ndarray, np.ndarray], dict[str, Any]]
) -> list[dict[str, Any]]:
    # float32 is enough for the 4 decimals of the files, and halves what 10 million rows need.
    trues, preds, cells = [], [], []
    for rows in reader:
        trues.append(rows.true.astype(np.float32))
        preds.append(rows.pred.astype(np.float32))
        if by == "cell":
            cells.append(rows.cell)
    if not trues:
        return []
    true, pred = _joined(trues), _joined(preds)
    if by == "all":
        return [{"set": "all", **score(true, pred)}]
    cell = _joined(cells)
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=len(reader.cells)))
    places = {name: order[start:end] for name, start, end in zip(reader.cells, [0, *ends], ends, strict=False)}
    return [{"cell": name, **score(true[places[name]], pred[places[name]])} for name in sorted(places)]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array, in place of the parts."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _stage_options(parser: ArgumentParser) -> None:
    parser.add_argument("--stage", choices=STAGES, default="test", help="predictions of this set (test)")
    parser.add_argument(
        "--rsp", type=Path, help="response table, for the drugs' names in EXPs that record the index only"
    )


def _reader(options: Namespace) -> tuple[Path, Reader]:
    exp = exp_path(options.exp)
    return exp, Reader(exp, options.stage, drug_names(options.rsp) if options.rsp else ())
