"""A copy of a Keras model's state in host memory, taken between two steps in milliseconds. Imports Keras.

Keras writes model.h5 once, into memory. In that image every weight has its place, so that a later snapshot copies the
weights there and the image is the new file: while it goes to the disk, nothing touches the live model, and HDF5 is not
needed (given a full disk, h5py frees the file that it could not write, which ends in a segmentation fault).
"""

import contextlib
import io
import logging
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np


class Snapshot:
    """Host buffers for a model, filled anew by each `take()`.

    `image`: the bytes of model.h5, network and weights without optimizer. `variables`: values of what training changes
    and model.h5 lacks, in the order of `state_variables(model)`.
    """

    def __init__(self) -> None:
        self.image: memoryview | bytearray = bytearray()
        self.variables: list[np.ndarray] = []
        self._layout: list[int] = []
        self._places: list[np.ndarray] | None = None

    def take(self, model: keras.Model, with_variables: bool = True) -> None:
        """Copy `model` as it is now; `variables` only `with_variables`."""
        weights = _saved_weights(model)
        layout = [id(weight) for weight in weights]
        if self._places is None or layout != self._layout:  # at first, and after layers were frozen or thawed
            self._layout = layout
            self._make_image(model, weights)
        else:
            for place, weight in zip(self._places, weights, strict=True):
                np.copyto(place, host_value(weight))
        if with_variables:
            values = [host_value(variable) for variable in state_variables(model)]
            if [x.shape for x in self.variables] != [x.shape for x in values]:
                self.variables = [np.empty_like(value) for value in values]
            for buffer, value in zip(self.variables, values, strict=True):
                np.copyto(buffer, value)

    def _make_image(self, model: keras.Model, weights: Sequence[Any]) -> None:
        image = io.BytesIO()
        with _without_legacy_warning(), _MemoryFile(image, "w") as file:
            model.save(file, include_optimizer=False)
            file.flush()
            offsets = [dataset.id.get_offset() for dataset in _datasets(file["model_weights"])]
        self.image = image.getbuffer()
        complete = len(weights) == len(model.weights)
        self._places = _places(self.image, offsets, [host_value(w) for w in weights]) if complete else None


_snapshots: weakref.WeakKeyDictionary[keras.Model, Snapshot] = weakref.WeakKeyDictionary()


def snapshot_of(model: keras.Model) -> Snapshot:
    """The Snapshot of `model`; it serves all RUNs that train this model in the process."""
    return _snapshots.setdefault(model, Snapshot())


def _places(image: memoryview, offsets: Sequence[int | None], values: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Views into `image` where it holds `values`; None where it does not hold them as plain arrays in this order."""
    if len(offsets) != len(values) or None in offsets:
        return None
    places = [
        np.frombuffer(image, value.dtype, value.size, offset or 0).reshape(value.shape)
        for offset, value in zip(offsets, values, strict=True)
    ]
    same = all(place.tobytes() == value.tobytes() for place, value in zip(places, values, strict=True))
    return places if same else None


def _saved_weights(model: keras.Model) -> list[Any]:
    """The weights in the order of the .h5 format: layer by layer, those that are trained first."""
    return [w for layer in model.layers for w in (*layer.trainable_weights, *layer.non_trainable_weights)]


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    return [group[layer][name] for layer in group.attrs["layer_names"] for name in group[layer].attrs["weight_names"]]


def state_variables(model: keras.Model) -> list[Any]:
    """What training changes and model.h5 lacks: optimizer variables, states of Dropout's generators."""
    elsewhere = {id(v) for v in (*model.weights, *getattr(model, "metrics_variables", []))}
    variables = [v for v in model.variables if id(v) not in elsewhere]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        optimizer.build(model.trainable_variables)
        variables += list(optimizer.variables)
    return variables


def host_value(variable: Any) -> np.ndarray:
    """The variable's value, without a copy where the backend allows it: to be copied before the next step."""
    try:
        return np.asarray(memoryview(variable.value.value()))
    except (AttributeError, TypeError, ValueError, BufferError):  # not TensorFlow, Keras 2, or bfloat16
        return np.asarray(variable.numpy())


class _MemoryFile(h5py.File):
    """An HDF5 file that Keras takes for a path, by its ending."""

    def __str__(self) -> str:
        return "model.h5"


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
