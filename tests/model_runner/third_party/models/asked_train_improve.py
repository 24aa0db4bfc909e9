"""A model that asks itself to end by the signals in `signals`, and follows that request if `follows`."""

import os
import signal

from model_runner import interrupt


def initialize_parameters(**kw):
    return {"epochs": 4}


def run(params):
    for name in params["signals"].split():
        os.kill(os.getpid(), getattr(signal, name))
    if params["follows"] and interrupt.requested():
        raise interrupt.Interrupted(2)
    return {"val_loss": [0.5], "epochs_completed": 4}
