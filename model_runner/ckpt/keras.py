"""Checkpoints of a Keras model, as a callback. For models trained with `fit` and for loops of one's own.

    checkpoint = KerasCheckpoint(params)
    done = checkpoint.restart(model)                 # epochs completed before, 0 from scratch
    model.fit(..., initial_epoch=done, epochs=..., callbacks=[..., checkpoint])      # as the last one

model.h5 is a plain Keras file: network and weights. Everything else that the next epoch depends on lies
beside it in state.npz. With Keras 3, a training killed and resumed at the end of an epoch gives the same bits
as one never killed (on a CPU with the same number of threads); Keras 2 does not expose the state of Dropout
layers. Imports Keras.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from model_runner.ckpt.config import read_config
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
        self._missing_metric_told = False

    def restart(self, model: keras.Model) -> int:
        """Restore `model` (built, and compiled if it has an optimizer) from its last usable checkpoint.

        Returns the number of completed epochs, 0 where training starts from scratch. CkptError if that is not
        allowed.
        """
        self.set_model(model)
        return self._store.restore(self._read) or 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save `epoch` (0-based) if it is due."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)
        wanted = self._store.config.save_best_metric
        if self._store.config.save_best and wanted not in values and not self._missing_metric_told:
            log.warning("ckpt_save_best_metric %s is not among the metrics %s", wanted, ", ".join(values))
            self._missing_metric_told = True
        final = bool(getattr(self.model, "stop_training", False))
        self._store.save(epoch + 1, values.get(wanted), self._write, final)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Complete the History that `fit` returns by the epochs before a restart."""
        returned = getattr(self.model, "history", None)
        if returned is not None and returned.epoch:
            returned.epoch[:0] = range(returned.epoch[0])
            returned.history.update(self.history)

    def _write(self, directory: Path) -> None:
        save_h5(self.model, directory / MODEL)
        state: dict[str, Any] = {
            "history": self.history,
            "states": {name: state.state_dict() for name, state in self._states.items()},
            "random": random_state(),
        }
        if not self._store.config.save_weights_only:
            state["variables"] = [v.numpy() for v in _state_variables(self.model)]
        write_state(directory / STATE, state)

    def _read(self, directory: Path, info: Mapping[str, Any]) -> int:
        path = directory / STATE
        state = read_state(path) if path.exists() else {}
        variables = _state_variables(self.model)
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
        return int(info["epoch"])


class _MemoryFile(h5py.File):
    """An HDF5 file that Keras takes for a path, by its ending."""

    def __str__(self) -> str:
        return MODEL


def save_h5(model: keras.Model, path: Path) -> None:
    """Save network and weights (no optimizer) as a Keras .h5 file; OSError where the disk is full.

    HDF5 does not survive a full disk: h5py frees the file that it could not write, which ends in a segmentation
    fault. So the file is made in memory, and only its bytes go to the disk.
    """
    buffer = io.BytesIO()
    with _without_legacy_warning(), _MemoryFile(buffer, "w") as file:
        model.save(file, include_optimizer=False)
    path.write_bytes(buffer.getbuffer())


@contextlib.contextmanager
def _without_legacy_warning() -> Iterator[None]:
    """Keras calls .h5 a legacy format at each save: Keras 2 in a Python warning, Keras 3 in absl's log."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        absl.setLevel(level)


def _state_variables(model: keras.Model) -> list[Any]:
    """What training changes and model.h5 lacks: optimizer variables, states of Dropout's generators."""
    elsewhere = {id(v) for v in (*model.weights, *getattr(model, "metrics_variables", []))}
    variables = [v for v in model.variables if id(v) not in elsewhere]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        optimizer.build(model.trainable_variables)
        variables += list(optimizer.variables)
    return variables


def _assign(variables: list[Any], values: list[np.ndarray] | None) -> None:
    if values is None:
        return
    if [tuple(v.shape) for v in variables] != [np.shape(value) for value in values]:
        raise ValueError("the checkpoint belongs to another network or optimizer")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
