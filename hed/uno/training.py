"""The training loop of Uno: steps in one graph, epochs in Python. Imports TensorFlow.

An own loop rather than `fit`: on two cores, small networks train twice as fast when the batches of many steps
are gathered and learned inside one graph.
"""

import importlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hed.uno import network
from hed.uno.data import Data
from hed.uno.feed import Feed, Tables, chunks, order
from hed.uno.hyper import Hyper, loss_module_name
from hed.uno.schedule import EarlyStopping, LearningRate
from model_runner.ckpt.keras import KerasCheckpoint
from model_runner.ckpt.state import Stateful

# Steps per call of the graph: between calls Python sees signals, and a loss that is no longer a number.
STEPS_PER_CALL = 1024

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Trainer:
    """Trains one network on the train set of `data` and judges it by the val set.

    `history` maps a metric to its values for all epochs, those before a restart included.
    """

    def __init__(self, params: Mapping[str, Any], hyper: Hyper, data: Data) -> None:
        self._hyper = hyper
        self._loss = make_loss(params, hyper)
        tables = Tables(data)
        self.feeds = {stage: Feed(tables, getattr(data, stage)) for stage in ("train", "val", "test")}
        self._y = {"train": data.train.y, "val": data.val.y}
        self.model = network.build(hyper, data.cells.matrix.shape[1], data.drugs.matrix.shape[1])
        self.model.compile(optimizer=getattr(keras.optimizers, hyper.optimizer)(learning_rate=hyper.max_rate))
        self._rate = LearningRate(hyper)
        self._stopping = EarlyStopping(hyper, self.model.get_weights)
        states: dict[str, Stateful] = {"learning_rate": self._rate, "early_stopping": self._stopping}
        self._checkpoint = KerasCheckpoint({**params, "epochs": hyper.epochs}, states)
        self._steps = train_steps(self.model, self._loss, self.feeds["train"], hyper.batch_size)
        self._predict = predict_step(self.model)

    @property
    def history(self) -> dict[str, list[float]]:
        """Metric -> values per epoch."""
        return self._checkpoint.history

    def train(self) -> int:
        """Train on from the last checkpoint, if there is one; leaves the best epoch's weights in `model`.

        Returns the number of completed epochs in total. Raises ValueError once a loss is no finite number.
        """
        epoch = self._checkpoint.restart(self.model)
        while epoch < self._hyper.epochs and not self._stopping.stopped:
            print(f"Epoch {epoch + 1}/{self._hyper.epochs}", flush=True)
            logs = self._epoch(epoch)
            self._rate.end_epoch(logs["val_loss"])
            self._stopping.end_epoch(epoch, logs["val_loss"])
            self.model.stop_training = self._stopping.stopped
            self._checkpoint.on_epoch_end(epoch, logs)
            epoch += 1
        if self._stopping.stopped:
            print(f"Epoch {epoch}: early stopping", flush=True)
        if self._stopping.best_weights is not None:
            self.model.set_weights(self._stopping.best_weights)
        return epoch

    def predict(self, stage: str) -> np.ndarray:
        """Predictions (float32) for all responses of a set, in their order."""
        feed, rows = self.feeds[stage], np.arange(self.feeds[stage].size, dtype=np.int32)
        parts = [self._predict(*feed.gather(part)[0]) for part in chunks(rows, self._hyper.generator_batch_size)]
        return np.concatenate([part.numpy()[:, 0] for part in parts])

    def _epoch(self, epoch: int) -> dict[str, float]:
        start = time.perf_counter()
        self.model.optimizer.learning_rate = self._rate.begin_epoch(epoch)
        samples = self.feeds["train"].size
        loss = squares = 0.0
        for rows in chunks(order(samples, self._hyper.seed, epoch), STEPS_PER_CALL * self._hyper.batch_size):
            sums = [float(x) for x in self._steps(rows)]
            loss, squares = loss + sums[0], squares + sums[1]
            _require_number("loss", loss, epoch)
        predicted = self.predict("val")
        y = self._y["val"]
        logs = {
            "loss": loss / samples,
            "r2": _r2(squares, self._y["train"]),
            "val_loss": float(tf.reduce_mean(self._loss(tf.constant(y[:, None]), tf.constant(predicted[:, None])))),
            "val_r2": _r2(float(np.sum((y - predicted).astype(np.float64) ** 2)), y),
            "learning_rate": self._rate.value,
        }
        _require_number("val_loss", logs["val_loss"], epoch)
        _print_epoch(math.ceil(samples / self._hyper.batch_size), time.perf_counter() - start, logs)
        return logs


def make_loss(params: Mapping[str, Any], hyper: Hyper) -> Loss:
    """The loss named by `loss`, or what `construct(params)` of `custom_loss_module` returns."""
    name = params.get("custom_loss_module")
    if name is None:
        return keras.losses.get(hyper.loss)
    return importlib.import_module(loss_module_name(name) or name).construct(params)


def train_steps(model: keras.Model, loss: Loss, feed: Feed, batch_size: int) -> Callable[[np.ndarray], list[tf.Tensor]]:
    """One graph that learns rows batch by batch; answers the sums of loss and of squared error over them."""
    variables = model.trainable_variables
    optimizer = model.optimizer
    optimizer.build(variables)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def steps(rows: tf.Tensor) -> list[tf.Tensor]:
        loss_sum = tf.constant(0.0)
        squares = tf.constant(0.0)
        for start in tf.range(0, tf.size(rows), batch_size):
            inputs, y = feed.gather(rows[start : start + batch_size])
            with tf.GradientTape() as tape:
                predicted = model(inputs, training=True)
                value = tf.reduce_mean(loss(y, predicted))
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
            loss_sum += value * tf.cast(tf.size(y), tf.float32)
            squares += tf.reduce_sum(tf.square(y - predicted))
        return [loss_sum, squares]

    return steps


def predict_step(model: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The network as one graph for batches of any size."""
    shapes = [tf.TensorSpec([None, *x.shape[1:]], tf.float32) for x in model.inputs]

    @tf.function(input_signature=shapes)
    def step(cells: tf.Tensor, drugs: tf.Tensor) -> tf.Tensor:
        return model([cells, drugs], training=False)

    return step


def _r2(squared_error: float, y: np.ndarray) -> float:
    total = float(np.var(y, dtype=np.float64)) * len(y)
    return 1 - squared_error / total if total else math.nan


def _require_number(name: str, value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"{name} became {value} in epoch {epoch + 1}: training diverged (a lower learning_rate may help)"
        )


def _print_epoch(steps: int, seconds: float, logs: Mapping[str, float]) -> None:
    metrics = " - ".join(f"{name}: {value:.{'4f' if abs(value) > 1e-3 else '4e'}}" for name, value in logs.items())
    print(f"{steps}/{steps} - {seconds:.0f}s - {1000 * seconds / steps:.3g}ms/step - {metrics}", flush=True)
