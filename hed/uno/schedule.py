"""What changes from epoch to epoch: the learning rate, the decision to stop, and how far the epoch is.

Knows no TensorFlow. All keep their whole state in `state_dict()`, so that a resumed RUN goes on as if it had never been
interrupted. The rules are those of Keras' LearningRateScheduler, ReduceLROnPlateau and EarlyStopping as Uno
combines them.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hed.uno.hyper import Hyper

# Per epoch, in history.txt: what ckpt_save_best_metric and MODEL_RETURN can name.
METRICS = ("loss", "r2", "val_loss", "val_r2", "learning_rate")
# ReduceLROnPlateau's default: an improvement by less than this counts as none.
PLATEAU_MIN_DELTA = 1e-4

log = logging.getLogger("RUNNER.unorun")


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
            self.value = _warmed_up(hyper.warmup_type, hyper.max_rate / 100, hyper.max_rate, done)
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


def _warmed_up(kind: str, start: float, full: float, done: float) -> float:
    """The rate when the share `done` of the warm-up is over."""
    if kind in ("none", "constant"):
        return full
    if kind == "exponential":
        return start * (full / start) ** done
    return start + (full - start) * done ** (2 if kind == "quadratic" else 1)


class EarlyStopping:
    """Stops after `early_stopping_patience` epochs without a better val_loss, and keeps the best epoch's
    weights.

    `get_weights` answers the network's weights as they are, each time as new arrays. They are copied when the next
    epoch begins: where the last epoch is the best, never.
    """

    def __init__(self, hyper: Hyper, get_weights: Callable[[], list[np.ndarray]]) -> None:
        self._patience = hyper.early_stopping_patience
        self._get_weights = get_weights
        self._best = math.inf
        self._wait = 0
        self.stopped = False
        #: Whether the last epoch was the best so far: its weights are then the network's own.
        self.improved = False
        self.best_weights: list[np.ndarray] | None = None

    def begin_epoch(self) -> None:
        """Set the best weights aside, if they are the network's: it is about to learn."""
        if self.improved:
            self.best_weights = self._get_weights()
        self.improved = False

    def end_epoch(self, epoch: int, val_loss: float) -> None:
        """Take note of the result of `epoch` (0-based)."""
        self.improved = val_loss < self._best
        if self.improved:
            self._best, self._wait, self.best_weights = val_loss, 0, None
            return
        self._wait += 1
        self.stopped = epoch > 0 and self._wait >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """All that the next epochs depend on."""
        return {
            "best": self._best,
            "wait": self._wait,
            "stopped": self.stopped,
            "improved": self.improved,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier `state_dict()`."""
        self._best, self._wait, self.stopped = state["best"], state["wait"], state["stopped"]
        # This project's first checkpoints, of whole epochs only, lack `improved`: with nothing to wait for it was so.
        self.improved, self.best_weights = state.get("improved", self._wait == 0), state["best_weights"]


@dataclass
class Progress:
    """How far an epoch is: batches learned, and the sums over their samples of loss and squared error."""

    batch: int = 0
    loss: float = 0.0
    squares: float = 0.0

    def add(self, results: np.ndarray, size: int, samples: int) -> None:
        """Count batches of `size` samples, with loss and sum of squared errors each; of the last, what is left.

        One after another, so that the sums do not depend on how an epoch is cut into calls.
        """
        for number, (loss, squares) in enumerate(results.tolist()):
            self.loss += loss * min(size, samples - number * size)
            self.squares += squares
        self.batch += len(results)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the epoch depends on."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier `state_dict()`."""
        self.batch, self.loss, self.squares = state["batch"], state["loss"], state["squares"]


@dataclass(frozen=True)
class Execution:
    """What changes the last digits of the numbers, and nothing else: a resumed RUN says so if it is not as before."""

    threads: int
    xla: bool
    fused_optimizer: bool
    policy: str

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.state_dict().items())

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with what the RUN had before it was resumed."""
        before = Execution(**state)
        if before != self:
            log.warning("the RUN began with %s; it goes on with %s: not the same to the last digit", before, self)
