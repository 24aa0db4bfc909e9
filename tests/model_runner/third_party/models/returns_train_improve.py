"""IMPROVE style, no initialize_parameters: does or returns what the parameter `returns` says."""

import sys
from pathlib import Path

import numpy as np

from model_runner.errors import DivergedError


def run(params):
    what = params["returns"]
    if what == "raise":
        raise ValueError("the model is wrong")
    if what == "diverge":
        raise DivergedError("the loss became nan", {"val_loss": [np.float32(0.5), float("nan")], "note": "a text"})
    if what == "exit":
        sys.exit(0)
    if what == "cwd":
        return float(Path(params["instance_directory"]).samefile("."))
    if what == "nan":
        return {"val_loss": float("nan")}
    return what
