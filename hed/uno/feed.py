"""From responses to batches: the order of an epoch, and the vectors that name each batch's rows.

What goes to the graph for a batch are three short vectors: rows of the cells' and the drugs' features, and responses.
The features themselves are on the device, once per process. Knows no TensorFlow.
"""

from typing import NamedTuple

import numpy as np

from hed.uno.data import Responses


class Batches(NamedTuple):
    """Rows of features (int32) of cells and drugs, and responses (float32), each (batches, samples of a batch)."""

    cell: np.ndarray
    drug: np.ndarray
    y: np.ndarray


def order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The samples' order in `epoch` (0-based): a permutation that follows from the arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def batches(responses: Responses, rows: np.ndarray, size: int, capacity: int | None = None) -> Batches:
    """The responses numbered by `rows`, in batches of `size`, which divides their number.

    With a `capacity`, that many batches: those after the last are rows 0, and only there for the shape, since a graph
    that XLA compiles is compiled for one.
    """
    count = len(rows) // size
    columns = []
    for values in (responses.cell, responses.drug, responses.y):
        column = np.zeros((count if capacity is None else capacity, size), values.dtype)
        column[:count] = values[rows].reshape(count, size)
        columns.append(column)
    return Batches(*columns)
