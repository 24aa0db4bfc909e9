"""Checkpoints of a Keras model trained with `fit`, as a third party would."""

import gc
import logging
import random
import resource
import shutil
import time
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest

keras = pytest.importorskip("keras")

from model_runner import interrupt  # noqa: E402
from model_runner.ckpt.keras import KerasCheckpoint  # noqa: E402
from model_runner.ckpt.snapshot import snapshot_of  # noqa: E402
from model_runner.ckpt.store import CkptError  # noqa: E402

KERAS_3 = keras.__version__.startswith("3")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 5)).astype("float32"), RNG.normal(size=(64, 1)).astype("float32")


def build(size=8, before=()):
    layers = [
        *before,
        keras.layers.Dense(size, activation="relu", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
        keras.layers.Dropout(0.3, seed=2),
        keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=3)),
    ]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    return model


def train(directory, epochs, *, model=None, callbacks=(), **keys):
    model = model or build()
    checkpoint = KerasCheckpoint({"output_dir": str(directory), "epochs": epochs, **keys})
    done = checkpoint.restart(model)
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    history = model.fit(X, Y, initial_epoch=done, epochs=epochs, callbacks=[*callbacks, checkpoint], **settings)
    return model, history, done


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 does not expose the state of Dropout layers")
def test_resumed_training_gives_the_same_bits(tmp_path):
    straight, history, _ = train(tmp_path / "a", 4)
    train(tmp_path / "b", 2)
    resumed, resumed_history, done = train(tmp_path / "b", 4)
    assert done == 2
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed_history.history == history.history
    assert resumed_history.epoch == history.epoch == [0, 1, 2, 3]


def build_nested():
    """Where the first of two layers of one size is frozen, the file has it after the other."""
    return build(before=[keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), keras.layers.Dense(5)])])


@pytest.mark.parametrize(("build", "thaw"), [(build, None), (build_nested, 0), (build_nested, 1)])
def test_model_file_is_plain_keras(tmp_path, build, thaw):
    """Also from the second epoch on, when the weights are copied into the bytes of the first file."""
    model = build()
    if thaw is not None:
        model.layers[0].layers[0].trainable = False
    change = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == thaw and setattr(model.layers[0].layers[0], "trainable", True)
    )
    train(tmp_path, 3, model=model, callbacks=[change])
    path = str(tmp_path / "ckpts/last/model.h5")
    for loaded in (keras.models.load_model(path, compile=False), build()):
        loaded.load_weights(path)
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    with h5py.File(path) as file:
        assert list(file) == ["model_weights"]  # the optimizer's lie in STATE


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    output = tmp_path_factory.mktemp("two epochs")
    train(output, 2)
    return output / "ckpts"


def torn(data):
    return data[:-200]


def with_a_flipped_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("file", ["model.h5", "state.npz", "ckpt-info.json", "checksums.json"])
@pytest.mark.parametrize("damage", [torn, with_a_flipped_bit, None])
def test_a_damaged_file_falls_back_to_the_epoch_before(two_epochs, tmp_path, file, damage):
    if file == "checksums.json" and damage is None:
        pytest.skip("that is how CANDLE's own checkpoints look")
    shutil.copytree(two_epochs, tmp_path / "ckpts", symlinks=True)
    path = tmp_path / "ckpts/epochs/002" / file
    data = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(data))
    assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(build()) == 1


@pytest.mark.parametrize("size", [8, 9], ids=["optimizer", "network"])
def test_the_checkpoint_of_another_leaves_the_model_as_it_was(tmp_path, size):
    """That of another optimizer is found out when the weights are loaded already."""
    train(tmp_path, 1)
    model = build(size)
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss="mse")
    before = model.get_weights()
    assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(model) == 0
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CkptError):
        KerasCheckpoint({"output_dir": str(tmp_path), "ckpt_restart_mode": "required"}).restart(model)


class Counted:
    """A state that takes up what it is given, and then fails `failures` times."""

    value, failures = 0, 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]
        if self.failures:
            self.failures -= 1
            raise KeyError("of another version")


def test_a_state_that_does_not_load_leaves_all_as_it_was(tmp_path):
    """Also what was loaded before it; and where it cannot be set back either, nothing is trained."""
    params = {"output_dir": str(tmp_path), "epochs": 2}
    first, second, model = Counted(), Counted(), build()
    checkpoint = KerasCheckpoint(params, {"first": first, "second": second})
    checkpoint.restart(model)
    first.value = second.value = 7
    model.set_weights([weight + 1 for weight in model.get_weights()])
    checkpoint.on_epoch_end(0, {"val_loss": 0.5})
    checkpoint.on_train_end()

    first, second, model = Counted(), Counted(), build()
    before, drawn = model.get_weights(), random.getstate()
    second.failures = 1
    assert KerasCheckpoint(params, {"first": first, "second": second}).restart(model) == 0
    assert (first.value, second.value, random.getstate()) == (0, 0, drawn)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    second.failures = 2
    with pytest.raises(CkptError, match="the state second can neither be restored nor be set back: KeyError"):
        KerasCheckpoint(params, {"first": first, "second": second}).restart(model)
    assert KerasCheckpoint(params, {"first": first}).restart(model) == 1 and first.value == 7


def test_what_is_saved_is_the_moment_of_saving(tmp_path, monkeypatch):
    """Training goes on while a slow disk writes; each file has the weights that its epoch ended with."""
    write, ends = Path.write_bytes, []

    def slowly(path, data):
        time.sleep(0.3)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", slowly)
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(model.get_weights()))
    model = build()
    train(tmp_path, 3, model=model, callbacks=[note])
    for epoch, weights in enumerate(ends, 1):
        saved = build()
        saved.load_weights(str(tmp_path / f"ckpts/epochs/{epoch:03d}/model.h5"))
        for a, b in zip(weights, saved.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2: saved from copies that are made anew")
def test_the_buffers_exist_before_training_and_serve_the_next_run_of_the_model(tmp_path):
    """Fresh memory takes ten times as long as the copy, while training waits."""
    model = build()
    model.optimizer.build(model.trainable_variables)
    KerasCheckpoint({"output_dir": str(tmp_path / "not trained")}).restart(model)
    snapshot = snapshot_of(model)
    buffers = [snapshot.image, *snapshot.variables]
    assert len(snapshot.variables) >= 2 * len(model.trainable_variables), "Adam's slots"
    for name in ("a", "b"):
        train(tmp_path / name, 1, model=model)
    assert [id(x) for x in buffers] == [id(x) for x in (snapshot_of(model).image, *snapshot_of(model).variables)]

    gone = weakref.ref(snapshot)
    del model, snapshot, buffers
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None, "a process that trains many networks keeps the buffers of all"


def test_a_full_disk_costs_checkpoints_not_the_training(tmp_path):
    """The limit lets small files through, as a disk does that is nearly full; h5py alone would crash here."""
    train(tmp_path, 2)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limit[1]))
    try:
        train(tmp_path, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "epoch 3 (best) is not saved, training goes on" in (tmp_path / "ckpts/ckpt.log").read_text()
    assert not list(tmp_path.glob("ckpts/work/*"))
    assert train(tmp_path, 4)[2] == 2


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 does not expose the state of Dropout layers")
@pytest.mark.parametrize("when", ["batch 2 of epoch 2", "the end of epoch 1"])
def test_asked_to_end_fit_goes_on_from_the_last_epoch(tmp_path, monkeypatch, when):
    """In the middle of an epoch it begins that one anew; at its end it saves it whatever the interval."""
    straight, *_ = train(tmp_path / "a", 4)

    class Ask(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch + 1

        def on_train_batch_end(self, batch, logs=None):
            self.ask(f"batch {batch + 1} of epoch {self.epoch}")

        def on_test_end(self, logs=None):
            self.ask(f"the end of epoch {self.epoch}")

        def ask(self, now):
            if now == when:
                monkeypatch.setattr(interrupt, "_reason", "SIGTERM")

    interval = 3 if "end" in when else 1
    with pytest.raises(interrupt.Interrupted) as caught:
        train(tmp_path / "b", 4, callbacks=[Ask()], ckpt_save_interval=interval)
    assert caught.value.epochs == 1 and caught.value.reason == "SIGTERM"
    monkeypatch.setattr(interrupt, "_reason", None)
    resumed, _, done = train(tmp_path / "b", 4)
    assert done == 1
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_only(tmp_path, caplog):
    model, *_ = train(tmp_path, 2, ckpt_save_weights_only=True)
    resumed = build()
    with caplog.at_level(logging.WARNING):
        assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(resumed) == 2
    assert "weights only" in caplog.text
    np.testing.assert_array_equal(model.get_weights()[0], resumed.get_weights()[0])


def test_a_checkpoint_of_candle_itself(tmp_path):
    """Without state.npz, as an EXP of the original system has it: weights and epoch count are taken up."""
    model, *_ = train(tmp_path, 2)
    for name in ("state.npz", "checksums.json"):
        (tmp_path / "ckpts/last" / name).unlink()
    resumed = build()
    assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(resumed) == 2
    np.testing.assert_array_equal(model.get_weights()[0], resumed.get_weights()[0])


def test_a_metric_that_is_not_there_is_said_once(tmp_path, caplog):
    train(tmp_path, 2, ckpt_save_best_metric="val_corr")
    assert sum("no epoch is best: ckpt_save_best_metric val_corr is not" in text for text in caplog.messages) == 1
    assert not (tmp_path / "ckpts/best").exists()
    assert (tmp_path / "ckpts/last/model.h5").exists()
