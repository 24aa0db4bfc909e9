"""Our checkpoints as public CANDLE tooling reads them: candle_lib, ckpt_utils.restart() and ckpt_keras_utils.

candle_lib is on no package index, so what it does with the files is done here: it looks for model.h5 and
ckpt-info.json under save/ckpts/last, compares the CRC32, which it keeps as text, and loads the weights.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from test_keras import X, build, train


def candle_restart(save, model, checksum):
    last = Path(save) / "ckpts" / "last"
    info = json.loads((last / "ckpt-info.json").read_text())
    assert "restarting from epoch: %i" % info["epoch"] and "timestamp=%s" % info["timestamp"]  # noqa: UP031
    if checksum:
        assert info["checksum"] == str(zlib.crc32((last / "model.h5").read_bytes()))
    model.load_weights(last / "model.h5")
    return info


@pytest.mark.parametrize("checksum", [False, True])
def test_candle_goes_on_from_our_checkpoint(tmp_path, checksum):
    trained, history, _ = train(tmp_path, 3, ckpt_checksum=checksum)
    model = build()
    info = candle_restart(tmp_path, model, checksum)
    assert (info["epoch"], info["best_metric_last"]) == (3, pytest.approx(min(history.history["val_loss"])))
    np.testing.assert_array_equal(model.predict(X, verbose=0), trained.predict(X, verbose=0))
