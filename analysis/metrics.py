"""Scores of predictions: those of IMPROVE, and two that weigh strong responses (low AUC).

A score that is not defined is None, and the answer says why under `reason`: NaN would go unseen into means.
"""

import math
from typing import Any

import numpy as np

BLOCK = 1 << 20
IMPROVE = ("mse", "rmse", "pcc", "scc", "r2")


def scores(true: np.ndarray, pred: np.ndarray) -> dict[str, Any]:
    """mse, rmse, pcc (Pearson), scc (Spearman, ties averaged), r2 of two equally long arrays, in float64.

    `reason` is there where something is undefined: no rows, one row, constant values.
    """
    found: dict[str, Any] = dict.fromkeys(IMPROVE)
    if len(true) == 0:
        return {**found, "reason": "no rows"}
    error = np.subtract(true, pred, dtype=np.float64)
    mse = float(error @ error) / len(true)
    del error
    found |= {"mse": mse, "rmse": math.sqrt(mse)}
    if len(true) == 1:
        return {**found, "reason": "one row"}
    constant = [name for name, values in (("true", true), ("pred", pred)) if np.ptp(values) == 0]
    if "true" not in constant:
        found["r2"] = 1 - mse / float(np.var(true, dtype=np.float64))
    if not constant:
        found["pcc"] = correlation(true.astype(np.float64), pred.astype(np.float64))
        found["scc"] = correlation(ranks(true), ranks(pred))
        return found
    return {**found, "reason": f"{' and '.join(constant)} of {len(true)} rows constant"}


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two float64 arrays, neither of them constant. It uses them up: they are centered."""
    x -= np.mean(x)
    y -= np.mean(y)
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs, as float64."""
    # By search among the different values, of which 4 decimals leave few, and in blocks: beside 10 million rows
    # there is no room for the order of all of them.
    different, counts = np.unique(values, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    found: np.ndarray = np.empty(len(values))
    for start in range(0, len(values), BLOCK):
        block = slice(start, start + BLOCK)
        found[block] = mean_ranks[np.searchsorted(different, values[block])]
    return found


def fbeta(true: np.ndarray, pred: np.ndarray, threshold: float = 0.5, beta: float = 1.0) -> float | None:
    """F-beta of finding the responders: AUC below `threshold`. None where there is none, true or predicted."""
    responds, found = true < threshold, pred < threshold
    hits = int(np.count_nonzero(responds & found))
    weighted = beta**2 * np.count_nonzero(responds) + np.count_nonzero(found)
    return float((1 + beta**2) * hits / weighted) if weighted else None


def mae_poly(true: np.ndarray, pred: np.ndarray, alpha: float) -> float | None:
    """mean(|true - pred| (1 - true)^alpha), the loss of the study; None without rows."""
    if len(true) == 0:
        return None
    return float(np.mean(np.abs(true - pred) * np.maximum(1 - true, 0) ** alpha, dtype=np.float64))
