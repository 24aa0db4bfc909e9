"""From responses to batches: the order of an epoch, and the gathering of features inside the graph.

The feature matrices go to the device once; a batch is a vector of row numbers. Imports TensorFlow.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from hed.uno.data import Data, Responses


def order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The samples' order (int32) in `epoch` (0-based): a permutation that follows from the arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int32)


def chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut `rows` into pieces of `size`; the last one may be smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


class Tables:
    """The features of all cells and drugs as constants on the device."""

    def __init__(self, data: Data) -> None:
        self.cells = tf.constant(data.cells.matrix)
        self.drugs = tf.constant(data.drugs.matrix)


class Feed:
    """Batches of one set of responses."""

    def __init__(self, tables: Tables, responses: Responses) -> None:
        self.size = len(responses)
        self._tables = tables
        self._cell = tf.constant(responses.cell)
        self._drug = tf.constant(responses.drug)
        self._y = tf.constant(responses.y[:, None])

    def gather(self, rows: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The network's inputs and the responses (batch, 1) for row numbers `rows` (int32), within a graph."""
        cells = tf.gather(self._tables.cells, tf.gather(self._cell, rows))
        drugs = tf.gather(self._tables.drugs, tf.gather(self._drug, rows))
        return [cells, drugs], tf.gather(self._y, rows)
