"""How many epochs a RUN has completed, by what its model says: by that a stop.marker is written, for good."""

import numpy as np
import pytest

from model_runner.results import read_outcome


@pytest.mark.parametrize("said", [3, 3.0, np.int64(3), np.array(3)])
def test_a_number_of_epochs(said):
    outcome = read_outcome({"val_loss": [0.5], "epochs_completed": said}, "val_loss", 5)
    assert outcome.epochs == 3 and outcome.stopped_early


@pytest.mark.parametrize("said", [-1, 1.5, float("nan"), float("inf"), "three", [3]])
def test_what_is_none_is_not_known(said, caplog):
    outcome = read_outcome({"val_loss": [0.5], "epochs_completed": said}, "val_loss", 5)
    assert outcome.epochs is None and not outcome.stopped_early
    assert "no number of epochs" in caplog.text
