"""Milliseconds of training that a checkpoint costs, with the study's network (space global); print JSON.

The same batches are learned in blocks: without a checkpoint, with one that overlaps them, and with one as plain Keras
saves it (`model.save` to .h5 with the optimizer, before training goes on). The three alternate; what a checkpoint costs
is the difference of the medians. `stopped` is the part of it in which training stands still: the copy of the state.
`prepare` is what getting the buffers takes, once per network and process, before training.

    python benchmarks/checkpoint.py

Where training keeps all cores busy, what the writing thread needs is lost too, although it has the lowest priority:
0.14 s of one core for 151 MB, and some of the memory's bandwidth. The plain save does not wait for the disk, ours does.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from environment import environment
from hed.uno import network
from hed.uno.hyper import read_hyper
from model_runner.ckpt import background
from model_runner.ckpt.keras import KerasCheckpoint

GENES, DESCRIPTORS, BATCH = 958, 1600, 32


def make_training(model: keras.Model) -> Callable[[int], tf.Tensor]:
    """A function that learns so many batches."""
    rng = np.random.default_rng(0)
    inputs = [tf.constant(rng.normal(size=(BATCH, size)), tf.float32) for size in (GENES, DESCRIPTORS)]
    y = tf.constant(rng.uniform(size=(BATCH, 1)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def train(steps: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(y - model(inputs, training=True)))
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return model.optimizer.iterations.value

    return train


def measure(work: Path, rounds: int, steps: int) -> dict[str, object]:
    """Median milliseconds."""
    model = network.build(read_hyper({}), GENES, DESCRIPTORS)
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss=keras.losses.MeanSquaredError())
    model.optimizer.build(model.trainable_variables)
    train = make_training(model)
    checkpoint = KerasCheckpoint({"output_dir": str(work), "ckpt_save_best": False, "ckpt_keep_limit": 1})
    begin = time.perf_counter()
    checkpoint.set_model(model)
    prepared = time.perf_counter() - begin
    stopped: list[float] = []
    epoch = 0

    def ours() -> None:
        nonlocal epoch
        start = time.perf_counter()
        checkpoint.on_epoch_end(epoch, {})
        stopped.append((time.perf_counter() - start) * 1e3)
        epoch += 1

    saves: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "ours": ours,
        "keras": lambda: model.save(str(work / "plain.h5")),
    }
    times: dict[str, list[float]] = {name: [] for name in saves}
    for _ in range(rounds + 1):
        for name, save in saves.items():
            start = time.perf_counter()
            save()
            int(train(steps))
            times[name].append((time.perf_counter() - start) * 1e3)
            background.wait()
            os.sync()  # the next block must not pay for this one
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        "parameters": model.count_params(),
        "median_ms_of_a_block": {name: round(value, 1) for name, value in medians.items()},
        "lost_ms_per_checkpoint": {name: round(medians[name] - medians["none"], 1) for name in ("ours", "keras")},
        "prepare_ms": round(prepared * 1e3, 1),
        "stopped_ms": round(statistics.median(stopped[1:]), 1),
        "first_stopped_ms": round(stopped[0], 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    parser.add_argument("--steps", type=int, default=40, help="batches in a block (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        report = measure(Path(work), options.rounds, options.steps)
    report |= {"rounds": options.rounds, "steps": options.steps}
    print(json.dumps({**report, **environment("tensorflow-cpu", "keras", "numpy", "h5py")}, indent=1))


if __name__ == "__main__":
    main()
