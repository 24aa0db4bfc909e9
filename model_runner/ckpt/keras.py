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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model_runner import interrupt
from model_runner.ckpt import background
from model_runner.ckpt.saver import Saver, Write
from model_runner.ckpt.snapshot import snapshot_of, state_variables
from model_runner.ckpt.store import MODEL, log


class KerasCheckpoint(Saver, keras.callbacks.Callback):
    """Saves a model at the end of epochs as the ckpt_* keys of `params` say, and restores it."""

    def restart(self, model: keras.Model) -> int:
        """Restore `model` (built, and compiled if it has an optimizer) from its last usable checkpoint.

        Returns the number of completed epochs, 0 where training starts from scratch. CkptError if that is not
        allowed.
        """
        self.set_model(model)
        return self._restore()

    def set_model(self, model: keras.Model) -> None:
        """Save `model` from now on; `fit` and `restart` call it before training."""
        super().set_model(model)
        if model.built:
            # The first copy waits for fresh memory, ten times as long as for the copying: better now than in training.
            # An optimizer that is not built yet stays so: layers may be frozen or thawed before training begins.
            built = getattr(getattr(model, "optimizer", None), "built", False)
            snapshot_of(model).take(model, with_variables=built and not self._store.config.save_weights_only)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save `epoch` (0-based) if it is due; Interrupted where the RUN is to end and this epoch is not the last."""
        self._end_epoch(epoch, logs, bool(getattr(self.model, "stop_training", False)))

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

    def _copy(self, weights_only: bool) -> tuple[Write, dict[str, Any]]:
        snapshot = snapshot_of(self.model)
        snapshot.take(self.model, with_variables=not weights_only)

        def write(directory: Path) -> None:
            (directory / MODEL).write_bytes(snapshot.image)

        return write, {} if weights_only else {"variables": snapshot.variables}

    def _load(self, directory: Path, info: Mapping[str, Any], state: Mapping[str, Any]) -> None:
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


def _assign(variables: list[Any], values: list[np.ndarray] | None) -> None:
    if values is None:
        return
    if [tuple(v.shape) for v in variables] != [np.shape(value) for value in values]:
        raise ValueError("the checkpoint belongs to another network or optimizer")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
