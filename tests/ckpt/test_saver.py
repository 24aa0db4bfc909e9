"""When a training saves and how it ends, for any framework: here the model is one number."""

import os
import random

import numpy as np
import pytest

from model_runner import interrupt
from model_runner.ckpt import background
from model_runner.ckpt.saver import Saver


class Checkpoint(Saver):
    """As a framework's: on_epoch_end, on_train_end and restart are those that it has."""

    model = 0

    def _copy(self, weights_only):
        text = str(self.model)
        return lambda directory: (directory / "model.h5").write_text(text), {}

    def _load(self, directory, info, state):
        self.model = int((directory / "model.h5").read_text())

    def epochs(self, *losses, first=0, stopped=False):
        for epoch, loss in enumerate(losses, first):
            self._end_epoch(epoch, {"val_loss": loss}, stopped)
        background.wait()

    def batches(self, epoch, *numbers):
        """Those after which there is a checkpoint."""
        saved = []
        for self.model in numbers:
            self.within_epoch(epoch, self.model)
            background.wait()
            if partial(self) == [f"{epoch:03}-{self.model:09}"]:
                saved.append(self.model)
        return saved


def partial(checkpoint):
    return [path.name for path in checkpoint._store.config.directory.glob("partial/*")]


@pytest.fixture
def make(tmp_path):
    return lambda **keys: Checkpoint({"output_dir": str(tmp_path), **keys})


def log(checkpoint):
    return (checkpoint._store.config.directory / "ckpt.log").read_text()


NO_EPOCHS = {"ckpt_save_interval": 0, "ckpt_save_best": False}


def test_within_an_epoch_by_batches(make):
    """Where calls of many batches pass the one at which it was due, after them."""
    checkpoint = make(ckpt_save_batches=10)
    assert checkpoint.batches(0, 0, 4, 10, 14, 25, 29, 30) == [10, 25, 30]
    checkpoint.epochs(0.5)
    assert checkpoint.batches(1, 0, 9, 12) == [12], "counted from the epoch's beginning"
    assert [checkpoint.batches_to_save(batch) for batch in (0, 4, 10, 25)] == [10, 6, 10, 5]
    resumed = make(ckpt_save_batches=10)
    assert resumed._restore() == 1 and resumed.model == 12
    assert resumed.batches(1, 13, 19, 20) == [20]
    assert make().batches_to_save(4) is None


def test_within_an_epoch_when_the_one_before_was_not_saved(make):
    checkpoint = make(ckpt_save_batches=10, **NO_EPOCHS)
    assert checkpoint.batches(0, 30) == [30]
    checkpoint.epochs(0.5)
    assert checkpoint.batches(1, 0, 12) == [12]


def test_every_third_epoch(make):
    checkpoint = make(ckpt_save_interval=3, ckpt_save_best=False)
    checkpoint.epochs(*[0.5] * 7)
    assert [line.split("saved ")[1].split(" in ")[0] for line in log(checkpoint).splitlines()] == [
        "epoch 3 (interval)",
        "epoch 6 (interval)",
    ]


def test_within_an_epoch_by_seconds(make, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    checkpoint, saved = make(ckpt_save_seconds=60), []
    for batch, now in enumerate((10.0, 59.9, 60.0, 119.9, 120.0)):
        saved += checkpoint.batches(0, batch)
    assert saved == [2, 4]
    assert make().batches(1, 1) == []


def test_asked_to_end_it_saves_first(make, monkeypatch):
    checkpoint = make(epochs=3, **NO_EPOCHS)
    monkeypatch.setattr(interrupt, "_reason", "SIGTERM")
    for batch in (7, 7):  # the second time there is nothing new
        with pytest.raises(interrupt.Interrupted) as caught:
            checkpoint.within_epoch(0, batch)
        assert caught.value.epochs == 0 and partial(checkpoint) == ["000-000000007"]
    assert log(checkpoint).count("saved epoch 1, batch 7") == 1
    with pytest.raises(interrupt.Interrupted) as caught:
        checkpoint.epochs(0.5)
    assert caught.value.epochs == 1 and make()._restore() == 1
    checkpoint.epochs(0.5, first=2)  # the last one: there is nothing left to interrupt
    checkpoint.epochs(0.5, first=1, stopped=True)
    assert [f"epoch {what}" in log(checkpoint) for what in ("1 (interrupted)", "3 (final)", "2 (final)")] == [True] * 3


def test_what_comes_back(make):
    checkpoint = make()
    checkpoint.epochs(0.5, 0.4)
    drawn = random.random(), np.random.random()
    resumed = make()
    assert resumed._restore() == 2 and resumed.history == {"val_loss": [0.5, 0.4]}
    assert (random.random(), np.random.random()) == drawn
    resumed.epochs(0.3, first=2)
    assert checkpoint.history == {"val_loss": [0.5, 0.4]} and resumed.history == {"val_loss": [0.5, 0.4, 0.3]}


def test_that_no_epoch_can_be_the_best_is_said_where_it_is_so(make, caplog):
    make().epochs(0.5)
    make(ckpt_save_best_metric="val_corr", ckpt_save_best=False).epochs(0.5)
    assert not caplog.messages
    make(ckpt_save_best_metric="val_corr").epochs(0.5)
    assert len(caplog.messages) == 1


def test_what_failed_in_the_background_is_raised_once():
    def fail():
        raise ValueError("not saved")

    done = []
    background.start(fail)
    with pytest.raises(ValueError, match="not saved"):
        background.start(lambda: done.append(1))
    assert done == []
    background.start(lambda: done.append(2))
    background.wait()
    assert done == [2]


def test_it_writes_when_nothing_else_has_to_be_done():
    before, found = os.getpriority(os.PRIO_PROCESS, 0), []
    background.start(lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0)))
    background.wait()
    assert found == [19] and os.getpriority(os.PRIO_PROCESS, 0) == before
