"""Predictions for many pairs of cells and drugs at once. Imports TensorFlow.

A tower's output for a cell is the same with every drug, so each is computed once per distinct cell and drug. The first
joint layer, on both outputs side by side, is a sum of one matrix product with each: these too are computed once. What
is left per pair are the other joint layers.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hed.uno.data import Responses
from hed.uno.hyper import PARTS, Hyper


class Predictor:
    """The network's predictions, with the weights that it has when asked."""

    def __init__(self, model: keras.Model, hyper: Hyper) -> None:
        self._model = model
        self._size = hyper.generator_batch_size
        stack = {part: _dense_layers(model, part, len(getattr(hyper, part))) for part in PARTS}
        first, *rest = stack["interaction"]
        floats = tf.TensorSpec([None, None], tf.float32)
        rows = tf.TensorSpec([None], tf.int32)

        @tf.function(input_signature=[floats, floats, rows, rows])
        def towers(cells: tf.Tensor, drugs: tf.Tensor, cell: tf.Tensor, drug: tf.Tensor) -> list[tf.Tensor]:
            canc = _apply(stack["canc"], tf.gather(cells, cell))
            other = _apply(stack["drug"], tf.gather(drugs, drug))
            kernel = tf.cast(tf.convert_to_tensor(first.kernel), canc.dtype)
            width = stack["canc"][-1].units
            bias = tf.cast(tf.convert_to_tensor(first.bias), canc.dtype)
            return [tf.matmul(canc, kernel[:width]), tf.matmul(other, kernel[width:]) + bias]

        @tf.function(reduce_retracing=True)
        def joint(canc: tf.Tensor, other: tf.Tensor, cell: tf.Tensor, drug: tf.Tensor) -> tf.Tensor:
            x = first.activation(tf.gather(canc, cell) + tf.gather(other, drug))
            return _apply([*rest, model.get_layer("output")], x)[:, 0]

        self._towers, self._joint = towers, joint

    def __call__(self, cells: Any, drugs: Any, responses: Responses) -> np.ndarray:
        """Predictions (float32) for all `responses`, in their order; `cells` and `drugs` are the features' tensors."""
        cell_rows, cell = np.unique(responses.cell, return_inverse=True)
        drug_rows, drug = np.unique(responses.drug, return_inverse=True)
        towers = self._towers(cells, drugs, cell_rows, drug_rows)
        cell, drug = cell.astype(np.int32), drug.astype(np.int32)
        parts = [
            self._joint(
                *towers, tf.constant(cell[start : start + self._size]), tf.constant(drug[start : start + self._size])
            )
            for start in range(0, len(responses), self._size)
        ]
        return np.concatenate([part.numpy() for part in parts])


def _dense_layers(model: keras.Model, part: str, count: int) -> list[Any]:
    return [model.get_layer(f"{part}_dense_{number + 1}") for number in range(count)]


def _apply(layers: list[Any], x: Any) -> Any:
    """Dense layers one after another: dropout does nothing where nothing is learned."""
    for layer in layers:
        x = layer(x)
    return x
