"""Checkpoints of a Keras model trained with `fit`, as a third party would."""

import logging
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from model_runner.ckpt.keras import KerasCheckpoint, save_h5  # noqa: E402
from model_runner.ckpt.store import CkptError  # noqa: E402

KERAS_3 = keras.__version__.startswith("3")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 5)).astype("float32"), RNG.normal(size=(64, 1)).astype("float32")


def build(size=8):
    layers = [
        keras.layers.Dense(size, activation="relu", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
        keras.layers.Dropout(0.3, seed=2),
        keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=3)),
    ]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    return model


def train(directory, epochs, *, model=None, **keys):
    model = model or build()
    checkpoint = KerasCheckpoint({"output_dir": str(directory), "epochs": epochs, **keys})
    done = checkpoint.restart(model)
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    history = model.fit(X, Y, initial_epoch=done, epochs=epochs, callbacks=[checkpoint], **settings)
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


def test_model_file_is_plain_keras(tmp_path):
    model, *_ = train(tmp_path, 1)
    path = str(tmp_path / "ckpts/last/model.h5")
    for loaded in (keras.models.load_model(path, compile=False), build()):
        loaded.load_weights(path)
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("file", ["model.h5", "state.npz"])
def test_torn_files_fall_back_to_the_epoch_before(tmp_path, file):
    train(tmp_path, 3)
    path = tmp_path / "ckpts/epochs/003" / file
    path.write_bytes(path.read_bytes()[:-200])
    assert train(tmp_path, 3)[2] == 2


def test_a_flipped_bit_in_the_state_is_noticed(tmp_path):
    train(tmp_path, 2)
    path = tmp_path / "ckpts/epochs/002/state.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert train(tmp_path, 2)[2] == 1


def test_the_checkpoint_of_another_network_leaves_the_model_as_it_was(tmp_path):
    train(tmp_path, 1)
    model = build(size=9)
    before = model.get_weights()
    assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(model) == 0
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CkptError):
        KerasCheckpoint({"output_dir": str(tmp_path), "ckpt_restart_mode": "required"}).restart(model)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_raises_and_does_not_crash(tmp_path):
    """Given the full disk itself, HDF5 ends the process with a segmentation fault."""
    with pytest.raises(OSError, match="No space left"):
        save_h5(build(size=1000), Path("/dev/full"))


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
    (tmp_path / "ckpts/last/state.npz").unlink()
    resumed = build()
    assert KerasCheckpoint({"output_dir": str(tmp_path)}).restart(resumed) == 2
    np.testing.assert_array_equal(model.get_weights()[0], resumed.get_weights()[0])


def test_a_metric_that_is_not_there_is_said_once(tmp_path, caplog):
    train(tmp_path, 2, ckpt_save_best_metric="val_corr")
    assert sum("val_corr" in message for message in caplog.messages) == 1
    assert not (tmp_path / "ckpts/best").exists()
    assert (tmp_path / "ckpts/last/model.h5").exists()
