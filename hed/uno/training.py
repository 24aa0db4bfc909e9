"""The training loop of Uno: many batches in one call of a graph, epochs in Python. Imports TensorFlow.

An own loop rather than `fit`: the batches of many steps are gathered and learned inside one graph (see `compiled`).
"""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from hed.devices import threads_in_use
from hed.uno.compiled import compiled_for, on_device
from hed.uno.data import Data
from hed.uno.feed import order
from hed.uno.hyper import Hyper
from hed.uno.schedule import METRICS, EarlyStopping, Execution, LearningRate, Progress
from model_runner.ckpt.keras import KerasCheckpoint
from model_runner.ckpt.state import Stateful
from model_runner.errors import DivergedError

# Seconds that a call of the graph should last: between calls Python sees requests to end, and a loss that is no
# number any more. It begins with few batches, doubles them below and halves them above.
CALL_SECONDS = (0.2, 0.5)

log = logging.getLogger("RUNNER.unorun")


class Trainer:
    """Trains one network on the train set of `data` and judges it by the val set.

    `history` maps a metric to its values for all epochs, those before a restart included.
    """

    def __init__(self, params: Mapping[str, Any], hyper: Hyper, data: Data) -> None:
        self._hyper, self._data = hyper, data
        self._tables = on_device(data.cells), on_device(data.drugs)
        self._compiled = compiled_for(params, hyper, data.cells.matrix.shape[1], data.drugs.matrix.shape[1])
        self.model = self._compiled.model
        self._best_val: np.ndarray | None = None  # predictions with the best weights, where this process made them
        self._rate = LearningRate(hyper)
        self._stopping = EarlyStopping(hyper, self.model.get_weights)
        self._progress = Progress()
        self._per_call = hyper.steps_per_execution or min(16, self._compiled.capacity)
        execution = Execution(threads_in_use(), self._compiled.xla, hyper.fused_optimizer, hyper.policy)
        log.info("%s", execution)
        states: dict[str, Stateful] = {
            "learning_rate": self._rate,
            "early_stopping": self._stopping,
            "progress": self._progress,
            "execution": execution,
        }
        self._checkpoint = KerasCheckpoint({**params, "epochs": hyper.epochs}, states)

    @property
    def history(self) -> dict[str, list[float]]:
        """Metric -> values per epoch."""
        return self._checkpoint.history

    def train(self) -> int:
        """Train on from the last checkpoint, if there is one; leaves the best epoch's weights in `model`.

        Returns the number of completed epochs in total. Raises DivergedError once a loss is no finite number, and
        Interrupted, with a checkpoint, where the RUN is asked to end early.
        """
        epoch = self._checkpoint.restart(self.model)
        while epoch < self._hyper.epochs and not self._stopping.stopped:
            print(f"Epoch {epoch + 1}/{self._hyper.epochs}", flush=True)
            logs = self._epoch(epoch)
            self._rate.end_epoch(logs["val_loss"])
            self._stopping.end_epoch(epoch, logs["val_loss"])
            if self._stopping.improved:
                self._best_val = self._predicted
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
        return self._compiled.predict(*self._tables, getattr(self._data, stage))

    def predict_best(self, stage: str) -> np.ndarray:
        """The same after `train`, with the best weights: the val set's are known from their epoch."""
        return self._best_val if stage == "val" and self._best_val is not None else self.predict(stage)

    def _epoch(self, epoch: int) -> dict[str, float]:
        start = time.perf_counter()
        self.model.optimizer.learning_rate = self._rate.begin_epoch(epoch)
        self._stopping.begin_epoch()
        samples = len(self._data.train)
        steps = self._learn(epoch)
        loss, squares = self._progress.loss, self._progress.squares
        self._progress.load_state_dict(Progress().state_dict())
        self._predicted = predicted = self.predict("val")
        y = self._data.val.y
        val_loss = self._compiled.loss(tf.constant(y[:, None]), tf.constant(predicted[:, None]))
        logs = {
            "loss": loss / samples,
            "r2": _r2(squares, self._data.train.y),
            "val_loss": float(tf.reduce_mean(val_loss)),
            "val_r2": _r2(float(np.sum((y - predicted).astype(np.float64) ** 2)), y),
            "learning_rate": self._rate.value,
        }
        self._require_number("val_loss", logs["val_loss"], epoch)
        _print_epoch(steps, time.perf_counter() - start, logs)
        return logs

    def _learn(self, epoch: int) -> int:
        """Learn what is left of the epoch, in calls of the graph; returns the number of batches learned."""
        size, progress, first = self._hyper.batch_size, self._progress, self._progress.batch
        rows = order(len(self._data.train), self._hyper.seed, epoch)
        while progress.batch * size < len(rows):
            self._checkpoint.within_epoch(epoch, progress.batch)
            count = min(self._per_call, self._checkpoint.batches_to_save(progress.batch) or self._per_call)
            start = time.perf_counter()
            part = rows[progress.batch * size : (progress.batch + count) * size]
            results = self._compiled.learn(*self._tables, self._data.train, part)
            progress.add(results, size, len(part))
            self._set_pace(count, time.perf_counter() - start)
            self._require_number("loss", progress.loss, epoch)
        return progress.batch - first

    def _set_pace(self, count: int, seconds: float) -> None:
        if self._hyper.steps_per_execution:
            return
        if seconds < CALL_SECONDS[0] and count == self._per_call:
            self._per_call = min(2 * self._per_call, self._compiled.capacity)
        elif seconds > CALL_SECONDS[1]:
            self._per_call = max(self._per_call // 2, 1)

    def _require_number(self, name: str, value: float, epoch: int) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} became {value} in epoch {epoch + 1}: training diverged (a lower learning_rate may help)",
                {metric: [*self.history.get(metric, ()), math.nan] for metric in METRICS},
            )


def _r2(squared_error: float, y: np.ndarray) -> float:
    total = float(np.var(y, dtype=np.float64)) * len(y)
    return 1 - squared_error / total if total else math.nan


def _print_epoch(steps: int, seconds: float, logs: Mapping[str, float]) -> None:
    metrics = " - ".join(f"{name}: {value:.{'4f' if abs(value) > 1e-3 else '4e'}}" for name, value in logs.items())
    print(f"{steps}/{steps} - {seconds:.0f}s - {1000 * seconds / steps:.3g}ms/step - {metrics}", flush=True)
