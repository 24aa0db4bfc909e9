"""A third party's model for tests of whole jobs: one "weight", a checkpoint each epoch, and every way to die.

`do` says what happens in the epoch `at` (the first by default); `history.txt`, result and checkpoint are as any
CANDLE model's. `epochs.log` in the RUN directory gets a line for each epoch that was really trained. With `pause_every`
training goes no further after each so many epochs: the RUN makes `paused-K` the K-th time, and waits to be killed.
"""

import ctypes
import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np


def initialize_parameters(default_model=None):
    return {"epochs": 3, "do": "train", "at": 1, "epoch_seconds": 0.0, "pause_every": 0, "seed": 1}


class History:
    def __init__(self, val_loss):
        self.history = {"loss": [2 * v for v in val_loss], "val_loss": val_loss}
        self.epoch = list(range(len(val_loss)))


def run(params):
    state_file = Path("ckpts/state.json")
    state_file.parent.mkdir(exist_ok=True)
    state = json.loads(state_file.read_text()) if state_file.exists() else {"weight": 1.0, "val_loss": []}
    for epoch in range(len(state["val_loss"]) + 1, params["epochs"] + 1):
        print(f"Epoch {epoch}/{params['epochs']} of {params['run_id']}", flush=True)
        if epoch == params["at"]:
            misbehave(params["do"])
        time.sleep(params["epoch_seconds"])
        noise = np.random.default_rng([params["seed"], epoch]).normal()
        state["weight"] = state["weight"] * 0.5 + 0.01 * noise
        state["val_loss"].append(state["weight"] ** 2)
        with Path("epochs.log").open("a") as log:
            log.write(f"{epoch}\n")
        temporary = state_file.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        temporary.replace(state_file)
        if params["pause_every"] and epoch % params["pause_every"] == 0:
            Path(f"paused-{epoch // params['pause_every']}").touch()
            time.sleep(3600)
    return History(state["val_loss"])


def misbehave(what):
    if what == "raise":
        raise RuntimeError("the model does not like this drug")
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    if what == "wait":
        while not (Path(os.environ["CANDLE_DATA_DIR"]).parent / "go-on").exists():
            time.sleep(0.02)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fill":
        with Path("big").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    if what == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        bytearray(4 << 30)
