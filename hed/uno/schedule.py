"""What changes from epoch to epoch: the learning rate, and the decision to stop. Knows no TensorFlow.

Both keep their whole state in `state_dict()`, so that a resumed RUN goes on as if it had never been
interrupted. The rules are those of Keras' LearningRateScheduler, ReduceLROnPlateau and EarlyStopping as Uno
combines them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hed.uno.hyper import Hyper

# ReduceLROnPlateau's default: an improvement by less than this counts as none.
PLATEAU_MIN_DELTA = 1e-4


class LearningRate:
    """Warm-up from 1/100 of the full rate, then less on each plateau of val_loss, down to 1/10,000."""

    def __init__(self, hyper: Hyper) -> None:
        self._hyper = hyper
        self.value = hyper.max_rate
        self._best = math.inf
        self._wait = 0

    def begin_epoch(self, epoch: int) -> float:
        """The rate of `epoch` (0-based)."""
        hyper = self._hyper
        if hyper.warmup_epochs and epoch <= hyper.warmup_epochs:
            done = epoch / hyper.warmup_epochs
            start = hyper.max_rate / 100
            power = 2 if hyper.warmup_type == "quadratic" else 1
            self.value = start + (hyper.max_rate - start) * done**power
        return self.value

    def end_epoch(self, val_loss: float) -> None:
        """Take note of an epoch's result."""
        if val_loss < self._best - PLATEAU_MIN_DELTA:
            self._best, self._wait = val_loss, 0
            return
        self._wait += 1
        if self._wait >= self._hyper.reduce_lr_patience:
            self.value = max(self.value * self._hyper.reduce_lr_factor, self._hyper.max_rate / 10_000)
            self._wait = 0

    def state_dict(self) -> dict[str, Any]:
        """All that the next epochs depend on."""
        return {"value": self.value, "best": self._best, "wait": self._wait}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier `state_dict()`."""
        self.value, self._best, self._wait = state["value"], state["best"], state["wait"]


class EarlyStopping:
    """Stops after `early_stopping_patience` epochs without a better val_loss, and keeps the best epoch's
    weights.

    `get_weights` answers the network's weights as they are, each time as new arrays.
    """

    def __init__(self, hyper: Hyper, get_weights: Callable[[], list[np.ndarray]]) -> None:
        self._patience = hyper.early_stopping_patience
        self._get_weights = get_weights
        self._best = math.inf
        self._wait = 0
        self.stopped = False
        self.best_weights: list[np.ndarray] | None = None

    def end_epoch(self, epoch: int, val_loss: float) -> None:
        """Take note of the result of `epoch` (0-based)."""
        if val_loss < self._best:
            self._best, self._wait = val_loss, 0
            self.best_weights = self._get_weights()
            return
        self._wait += 1
        self.stopped = epoch > 0 and self._wait >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """All that the next epochs depend on; best weights only where they are not this epoch's."""
        kept = None if self._wait == 0 else self.best_weights
        return {"best": self._best, "wait": self._wait, "stopped": self.stopped, "best_weights": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier `state_dict()`, after the network's weights have been restored."""
        self._best, self._wait, self.stopped = state["best"], state["wait"], state["stopped"]
        self.best_weights = self._get_weights() if state["best_weights"] is None else state["best_weights"]
