"""Somebody else's CANDLE-style model in NumPy: least squares by gradient descent, a Keras-like History."""

from argparse import ArgumentParser
from configparser import ConfigParser

import numpy as np
import shared_helper


class History:
    def __init__(self, first):
        self.first, self.history, self.epoch = first, {"loss": [], "val_loss": []}, []


def initialize_parameters(default_model=None):
    ArgumentParser().parse_args()  # as CANDLE does: fails on a command line that is not for it
    params = {"epochs": 3, "learning_rate": 0.1, "first_epoch": 0, "stop_at": 0}
    if default_model:
        parser = ConfigParser()
        parser.read(default_model)
        params["from_file"] = parser["Global_Params"]["flavour"]
    return params


def run(params):
    x = np.arange(8.0) / 8
    y = 2 * x + 0.01 * np.random.standard_normal(8) + shared_helper.OFFSET
    weight, history = 0.0, History(params["first_epoch"])
    for epoch in range(params["first_epoch"], params["epochs"]):
        if params["stop_at"] and epoch >= params["stop_at"]:
            break
        weight -= params["learning_rate"] * np.mean(2 * (weight * x - y) * x)
        history.epoch.append(epoch)
        history.history["loss"].append(np.float32(np.mean((weight * x - y) ** 2)))
        history.history["val_loss"].append(np.mean((weight * x - y)[::2] ** 2))
    return history
