"""The file beside model.h5 that makes a resume exact: nested dicts and lists of numbers, texts and arrays as
.npz.

A zip archive carries a CRC for each of its members, so that a damaged file is noticed when it is read.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

STATE = "state.npz"


class Stateful(Protocol):
    """Something that a resumed training must find as it was left, such as a learning rate schedule."""

    def state_dict(self) -> dict[str, Any]:
        """The whole state: dicts, lists, numbers, texts, None and NumPy arrays; it is written while training goes on.

        So nothing in it may change afterwards: lists and dicts are new ones, arrays are replaced, not altered.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier `state_dict()`."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (dicts, lists, numbers, texts, None, arrays) to a file named *.npz; tuples become lists.

    Raises TypeError for anything else: NumPy would pickle a set, and no restart could read it.
    """
    arrays: dict[str, Any] = {}

    def extract(value: Any) -> Any:
        arrays[name := f"a{len(arrays)}"] = array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"a state_dict() holds a {type(value).__name__}, which no checkpoint can: {value!r:.80}")
        return {"__array__": name}

    text = json.dumps(_with_pairs(state), default=extract)
    np.savez(path, json=np.array(text), **arrays)


def _with_pairs(value: Any) -> Any:
    """Dicts whose keys are not texts as lists of pairs: JSON makes the milestones {30: 1} of a schedule {"30": 1}."""
    if isinstance(value, (list, tuple)):
        return [_with_pairs(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if all(isinstance(key, str) and not key.startswith("__") for key in value):
        return {key: _with_pairs(item) for key, item in value.items()}
    return {"__pairs__": [[key, _with_pairs(item)] for key, item in value.items()]}


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; raises where the file is damaged."""
    with np.load(path, allow_pickle=False) as file:

        def restored(given: dict[str, Any]) -> Any:
            if "__array__" in given:
                return file[given["__array__"]]
            if "__pairs__" in given:
                return {tuple(key) if isinstance(key, list) else key: value for key, value in given["__pairs__"]}
            return given

        return json.loads(str(file["json"]), object_hook=restored)


def random_state() -> dict[str, Any]:
    """The states of Python's and NumPy's global generators."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys, *rest]}


def set_random_state(state: dict[str, Any]) -> None:
    """Take up the result of `random_state()`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
