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
from hed.uno.schedule import EarlyStopping, LearningRate, Progress
from model_runner.ckpt.keras import KerasCheckpoint
from model_runner.ckpt.state import Stateful

# Batches per call of the graph: between calls Python sees requests to end, and a loss that is no longer a number.
MOST_PER_CALL = 1024
# Seconds that a call should last: it begins with few batches, doubles them below and halves them above.
CALL_SECONDS = (0.2, 0.5)

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
        self._progress = Progress()
        self._per_call = 16
        states: dict[str, Stateful] = {
            "learning_rate": self._rate,
            "early_stopping": self._stopping,
            "progress": self._progress,
        }
        self._checkpoint = KerasCheckpoint({**params, "epochs": hyper.epochs}, states)
        self._steps = train_steps(self.model, self._loss, self.feeds["train"], hyper.batch_size)
        self._predict = predict_step(self.model)

    @property
    def history(self) -> dict[str, list[float]]:
        """Metric -> values per epoch."""
        return self._checkpoint.history

    def train(self) -> int:
        """Train on from the last checkpoint, if there is one; leaves the best epoch's weights in `model`.

        Returns the number of completed epochs in total. Raises ValueError once a loss is no finite number, and
        Interrupted, with a checkpoint, where the RUN is asked to end early.
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
        self._checkpoint.on_train_end()
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
        self._stopping.begin_epoch()
        samples = self.feeds["train"].size
        steps = self._learn(epoch)
        loss, squares = self._progress.loss, self._progress.squares
        self._progress.load_state_dict(Progress().state_dict())
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
        _print_epoch(steps, time.perf_counter() - start, logs)
        return logs

    def _learn(self, epoch: int) -> int:
        """Learn what is left of the epoch, in calls of the graph; returns the number of batches learned."""
        size, progress, first = self._hyper.batch_size, self._progress, self._progress.batch
        rows = order(self.feeds["train"].size, self._hyper.seed, epoch)
        while progress.batch * size < len(rows):
            self._checkpoint.within_epoch(epoch, progress.batch)
            count = min(self._per_call, self._checkpoint.batches_to_save(progress.batch) or self._per_call)
            start = time.perf_counter()
            part = rows[progress.batch * size : (progress.batch + count) * size]
            progress.loss, progress.squares = (float(x) for x in self._steps(part, progress.loss, progress.squares))
            progress.batch += math.ceil(len(part) / size)
            self._set_pace(count, time.perf_counter() - start)
            _require_number("loss", progress.loss, epoch)
        return progress.batch - first

    def _set_pace(self, count: int, seconds: float) -> None:
        if seconds < CALL_SECONDS[0] and count == self._per_call:
            self._per_call = min(2 * self._per_call, MOST_PER_CALL)
        elif seconds > CALL_SECONDS[1]:
            self._per_call = max(self._per_call // 2, 1)


def make_loss(params: Mapping[str, Any], hyper: Hyper) -> Loss:
    """The loss named by `loss`, or what `construct(params)` of `custom_loss_module` returns."""
    name = params.get("custom_loss_module")
    if name is None:
        return keras.losses.get(hyper.loss)
    return importlib.import_module(loss_module_name(name) or name).construct(params)


Steps = Callable[[np.ndarray, float, float], list[tf.Tensor]]


def train_steps(model: keras.Model, loss: Loss, feed: Feed, batch_size: int) -> Steps:
    """One graph that learns rows batch by batch; answers given sums of loss and of squared error plus those over rows.

    The sums are float64 and grow batch by batch, so that they do not depend on how an epoch is cut into calls.
    """
    variables = model.trainable_variables
    optimizer = model.optimizer
    optimizer.build(variables)
    scalar = tf.TensorSpec([], tf.float64)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32), scalar, scalar])
    def steps(rows: tf.Tensor, loss_sum: tf.Tensor, squares: tf.Tensor) -> list[tf.Tensor]:
        for start in tf.range(0, tf.size(rows), batch_size):
            inputs, y = feed.gather(rows[start : start + batch_size])
            with tf.GradientTape() as tape:
                predicted = model(inputs, training=True)
                value = tf.reduce_mean(loss(y, predicted))
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
            loss_sum += tf.cast(value, tf.float64) * tf.cast(tf.size(y), tf.float64)
            squares += tf.cast(tf.reduce_sum(tf.square(y - predicted)), tf.float64)
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
