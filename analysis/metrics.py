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
        found["scc"] = rank_correlation(true, pred)
        return found
    return {**found, "reason": f"{' and '.join(constant)} of {len(true)} rows constant"}


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two float64 arrays, neither of them constant. It uses them up: they are centered."""
    x -= np.mean(x)
    y -= np.mean(y)
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of two arrays, neither of them constant: Pearson's of their ranks."""
    # In blocks: beside 10 million rows there is no room for the ranks of all of them. Their mean is known.
    tables = [_rank_table(x), _rank_table(y)]
    products = np.zeros(3)
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        u, v = (
            ranks[np.searchsorted(different, values[block])] - (len(x) + 1) / 2
            for values, (different, ranks) in zip((x, y), tables, strict=True)
        )
        products += u @ v, u @ u, v @ v
    return float(products[0] / math.sqrt(products[1] * products[2]))


def _rank_table(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values, sorted, and their ranks from 1, of which equal values share the mean."""
    different, counts = np.unique(values, return_counts=True)
    return different, np.cumsum(counts) - (counts - 1) / 2


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
