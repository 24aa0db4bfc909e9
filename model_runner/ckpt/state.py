"""The file beside model.h5 that makes a resume exact: nested dicts and lists of numbers, texts and arrays as
.npz.

A zip archive carries a CRC for each of its members, so that a damaged file is noticed when it is read.
"""

import json
import random
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
    """Write `state` (dicts with text keys, lists, numbers, texts, None, arrays) to a file named *.npz."""
    arrays: dict[str, Any] = {}

    def extract(value: Any) -> Any:
        arrays[name := f"a{len(arrays)}"] = np.asarray(value)
        return {"__array__": name}

    text = json.dumps(state, default=extract)
    np.savez(path, json=np.array(text), **arrays)


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; raises where the file is damaged."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["json"]), object_hook=lambda d: file[d["__array__"]] if "__array__" in d else d)


def random_state() -> dict[str, Any]:
    """The states of Python's and NumPy's global generators."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys, *rest]}


def set_random_state(state: dict[str, Any]) -> None:
    """Take up the result of `random_state()`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
