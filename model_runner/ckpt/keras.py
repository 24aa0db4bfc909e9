"""Checkpoints of a Keras model, as a callback. For models trained with `fit` and for loops of one's own.

    checkpoint = KerasCheckpoint(params)
    done = checkpoint.restart(model)                 # epochs completed before, 0 from scratch
    model.fit(..., initial_epoch=done, epochs=..., callbacks=[..., checkpoint])      # as the last one

A save stops training only for a copy of the state; a thread writes it. A RUN that is asked to end early
(`model_runner.interrupt`) ends by the exception Interrupted: under `fit` after the batch, to go on from the last epoch
saved. A loop of one's own calls `on_epoch_end`, `on_train_end` after the last epoch, and between batches
`within_epoch`: then it goes on from that batch, and can save within epochs as well.

model.h5 is a plain Keras file: network and weights. Everything else that the next epoch depends on lies
beside it in state.npz. With Keras 3, a training killed and resumed at the end of an epoch gives the same bits
as one never killed (on a CPU with the same number of threads); Keras 2 does not expose the state of Dropout
layers. Imports Keras.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model_runner import interrupt
from model_runner.ckpt import background
from model_runner.ckpt.config import read_config
from model_runner.ckpt.snapshot import Snapshot, state_variables
from model_runner.ckpt.state import STATE, Stateful, random_state, read_state, set_random_state, write_state
from model_runner.ckpt.store import MODEL, Store, log


class KerasCheckpoint(keras.callbacks.Callback):
    """Saves a model at the end of epochs as the ckpt_* keys of `params` say, and restores it.

    `states`: what else must survive a restart, by name. `history`: metric -> values of all epochs since the
    first, those before a restart included.
    """

    def __init__(self, params: Mapping[str, Any], states: Mapping[str, Stateful] | None = None) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self._store = Store(read_config(params))
        self._states = states or {}
        self._snapshot: Snapshot | None = None
        self._missing_metric_told = False
        # What the newest checkpoint holds: completed epochs, and batches of the next one; and when it was made.
        self._position = (0, 0)
        self._saved_at = time.monotonic()

    def restart(self, model: keras.Model) -> int:
        """Restore `model` (built, and compiled if it has an optimizer) from its last usable checkpoint.

        Returns the number of completed epochs, 0 where training starts from scratch. CkptError if that is not
        allowed.
        """
        self.set_model(model)
        self._snapshot = None
        epochs, batch = self._store.restore(self._read) or (0, 0)
        self._position = (epochs, batch)
        return epochs

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save `epoch` (0-based) if it is due; Interrupted where the RUN is to end and this epoch is not the last."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)
        wanted = self._store.config.save_best_metric
        if self._store.config.save_best and wanted not in values and not self._missing_metric_told:
            log.warning("ckpt_save_best_metric %s is not among the metrics %s", wanted, ", ".join(values))
            self._missing_metric_told = True
        last = bool(getattr(self.model, "stop_training", False)) or epoch + 1 == self._store.config.epochs
        because = "final" if last else "interrupted" if interrupt.requested() else None
        background.wait()  # what is due depends on whether the save before succeeded
        if self._store.due(epoch + 1, values.get(wanted), because):
            self._start((epoch + 1, 0), lambda write: self._store.save(epoch + 1, values.get(wanted), write, because))
        if interrupt.requested() and not last:
            background.wait()
            raise interrupt.Interrupted(epoch + 1)

    def within_epoch(self, epoch: int, batch: int) -> None:
        """Save, if ckpt_save_batches or ckpt_save_seconds say so, after `batch` batches of `epoch` (0-based).

        For loops of one's own, whose `states` tell after a restart how far the epoch is. Interrupted, after saving,
        where the RUN is to end.
        """
        if interrupt.requested() or self._due_within(epoch, batch):
            if self._position != (epoch, batch):
                self._start((epoch, batch), lambda write: self._store.save_partial(epoch, batch, write))
            if interrupt.requested():
                background.wait()
                raise interrupt.Interrupted(epoch)

    def batches_to_save(self, batch: int) -> int | None:
        """How many batches after `batch` ones ckpt_save_batches wants a checkpoint; None where it does not."""
        every = self._store.config.save_batches
        return every - batch % every if every else None

    def _due_within(self, epoch: int, batch: int) -> bool:
        every, seconds = self._store.config.save_batches, self._store.config.save_seconds
        before = self._position[1] if self._position[0] == epoch else 0
        return bool(
            (every and batch // every > before // every) or (seconds and time.monotonic() - self._saved_at >= seconds)
        )

    def _start(self, position: tuple[int, int], save: Callable[[Callable[[Path], None]], object]) -> None:
        background.wait()
        write = self._take()
        background.start(lambda: save(write))
        self._position, self._saved_at = position, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """End a RUN under `fit` that is to end: nobody knows how to go on in the middle of its data."""
        if interrupt.requested():
            background.wait()
            raise interrupt.Interrupted(self._position[0])

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Complete the last save, and the History that `fit` returns by the epochs before a restart."""
        background.wait()
        returned = getattr(self.model, "history", None)
        if returned is not None and returned.epoch:
            returned.epoch[:0] = range(returned.epoch[0])
            returned.history.update(self.history)

    def _take(self) -> Callable[[Path], None]:
        """Copy all that a checkpoint holds; the function returned writes the copy."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self.model)
        snapshot, weights_only = self._snapshot, self._store.config.save_weights_only
        snapshot.take(with_variables=not weights_only)
        state: dict[str, Any] = {
            "history": {name: list(values) for name, values in self.history.items()},
            "states": {name: state.state_dict() for name, state in self._states.items()},
            "random": random_state(),
        }
        if not weights_only:
            state["variables"] = snapshot.variables

        def write(directory: Path) -> None:
            (directory / MODEL).write_bytes(snapshot.image)
            write_state(directory / STATE, state)

        return write

    def _read(self, directory: Path, info: Mapping[str, Any]) -> tuple[int, int]:
        path = directory / STATE
        state = read_state(path) if path.exists() else {}
        variables = state_variables(self.model)
        before = [np.array(v.numpy()) for v in (*self.model.weights, *variables)]
        try:
            self.model.load_weights(str(directory / info.get("model_file", MODEL)))
            _assign(variables, state.get("variables"))
        except Exception:
            # Half restored is worse than not at all: training from scratch must not begin with these weights.
            _assign([*self.model.weights, *variables], before)
            raise
        if "variables" not in state:
            log.warning("%s holds weights only: the optimizer begins anew, the result will differ", directory)
        for name, saved in state.get("states", {}).items():
            if name in self._states:
                self._states[name].load_state_dict(saved)
        if "random" in state:
            set_random_state(state["random"])
        self.history = state.get("history", {})
        return int(info["epoch"]), int(info.get("batch", 0))


def _assign(variables: list[Any], values: list[np.ndarray] | None) -> None:
    if values is None:
        return
    if [tuple(v.shape) for v in variables] != [np.shape(value) for value in values]:
        raise ValueError("the checkpoint belongs to another network or optimizer")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
