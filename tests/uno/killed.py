"""RUNs in processes that are killed in training, and what must not differ from a RUN that never was.

The processes are forked from one that has loaded TensorFlow and used nothing of it.
"""

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import h5py
import numpy as np

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["hed.uno.training", "model_runner"])


def run(params, calls=None, delay=0.0, number=signal.SIGKILL):
    """`model_runner.run_model(params)` in a process of its own.

    `calls`: it gets the signal `number`, `delay` seconds after so many calls of `within_epoch`. Returns what run_model
    returned, None where the process was killed.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_child, args=(sender, params, calls, delay, number))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = None
    process.join()
    assert process.exitcode == (-signal.SIGKILL if answer is None else 0)
    return answer


def _child(sender, params, calls, delay, number):
    from model_runner import run_model
    from model_runner.ckpt.keras import KerasCheckpoint

    log = os.open(Path(params["instance_directory"], "..", "log.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    within_epoch = KerasCheckpoint.within_epoch
    left = calls

    def count(self, epoch, batch):
        nonlocal left
        within_epoch(self, epoch, batch)
        if left is not None:
            left -= 1
            if left == 0:
                if delay:
                    threading.Timer(delay, os.kill, (os.getpid(), number)).start()
                else:
                    os.kill(os.getpid(), number)

    KerasCheckpoint.within_epoch = count
    sender.send(run_model(params))


def outcome(directory):
    """All that a RUN computed: {name: bytes}, and the last epoch's weights and training state."""
    from model_runner.ckpt.state import read_state

    names = [*directory.glob("*_scores.json"), *directory.glob("*_predicted.csv"), directory / "history.txt"]
    last = directory / "ckpts/last"
    weights = []
    with h5py.File(last / "model.h5") as file:
        file.visititems(lambda name, item: weights.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    state = read_state(last / "state.npz")
    info = json.loads((last / "ckpt-info.json").read_text())
    position = {"epoch": info["epoch"], "best": info["best_metric_last"], "history": state["history"]}
    return {path.name: path.read_bytes() for path in names}, position, weights, state["variables"]


def assert_same(a, b):
    """Bitwise."""
    assert a[:2] == b[:2]
    for x, y in zip((*a[2], *a[3]), (*b[2], *b[3]), strict=True):
        np.testing.assert_array_equal(x, y)
