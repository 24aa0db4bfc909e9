"""Scores and predictions of one set of responses, in the files that the HED scripts read."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from model_runner.files import replacing, write_file

DECIMALS = 4


def compute(true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """mse, rmse, pcc (Pearson), scc (Spearman, ties averaged) and r2 of two equally long arrays, in float64.

    Correlations and r2 that are undefined, because one of the two is constant, are None, and `reason` says
    why.
    """
    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    mse = float(np.mean((true - predicted) ** 2))
    scores: dict[str, Any] = {"mse": mse, "rmse": math.sqrt(mse), "pcc": None, "scc": None, "r2": None}
    constant = [name for name, x in (("true values", true), ("predictions", predicted)) if np.ptp(x) == 0]
    if not constant:
        scores["pcc"] = _correlation(true, predicted)
        scores["scc"] = _correlation(_ranks(true), _ranks(predicted))
    if "true values" not in constant:
        scores["r2"] = float(1 - mse / np.var(true))
    if constant:
        scores["reason"] = f"{' and '.join(constant)} of the {len(true)} responses are constant"
    return scores


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[group]  # equal values share the mean of their places
    return ranks


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def write(directory: Path, stage: str, y_name: str, true: np.ndarray, predicted: np.ndarray, labels: pa.Array) -> None:
    """Write `<stage>_y_data_predicted.csv` and then `<stage>_scores.json` into `directory`, each atomically.

    Values are rounded to 4 decimals, and the scores are those of the rounded values: whoever computes them
    from the predictions file gets the same. Raises ValueError where predictions are not finite.
    """
    bad = np.count_nonzero(~np.isfinite(predicted))
    if bad:
        raise ValueError(f"{bad} of {len(predicted)} predictions for the {stage} set are NaN or infinite: no scores")
    true, predicted = (np.round(values.astype(np.float64), DECIMALS) for values in (true, predicted))
    with replacing(directory / f"{stage}_y_data_predicted.csv") as file:
        file.write(f"{y_name}_true,{y_name}_pred,labels\n".encode())
        _write_rows(file, pa.table({"true": true, "pred": predicted, "labels": labels}))
    write_file(directory / f"{stage}_scores.json", json.dumps(compute(true, predicted), indent=4, allow_nan=False))


def _write_rows(file: Any, rows: pa.Table) -> None:
    if pa.types.is_dictionary(rows["labels"].type):
        rows = rows.set_column(2, "labels", rows["labels"].cast(pa.string()))
    # Without quotes, as the scripts read it, unless an id holds a comma, a quote or a line end.
    special = pc.any(pc.match_substring_regex(rows["labels"], '[,"\r\n]')).as_py()
    options = csv.WriteOptions(include_header=False, quoting_style="needed" if special else "none")
    if not special:  # or the numbers would be in quotes, too
        rows = pa.table({name: rows[name] if name == "labels" else _texts(rows[name]) for name in rows.column_names})
    csv.write_csv(rows, file, options)


def _texts(values: pa.ChunkedArray) -> pa.Array:
    """Numbers as Python and pandas write them, and so the original: Arrow's text of 1.0 is 1."""
    known, codes = np.unique(values.to_numpy(), return_inverse=True)
    texts = pa.array(map(repr, known.tolist()), pa.string())
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), texts).cast(pa.string())
