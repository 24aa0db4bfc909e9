"""The ckpt_* keys: where checkpoints lie, what is better, and what is wrong."""

import pytest

from model_runner.ckpt.config import read_config


def test_where_checkpoints_lie_and_what_is_better(tmp_path, monkeypatch):
    """Absolute, because a model may change the working directory."""
    monkeypatch.chdir(tmp_path)
    both = {"output_dir": "out", "instance_directory": "run"}
    directories = [({}, "ckpts"), (both, "out/ckpts"), ({"instance_directory": "run"}, "run/ckpts")]
    for params, directory in (*directories, (both | {"ckpt_directory": "here"}, "here")):
        assert read_config(params).directory == tmp_path / directory
    assert read_config({"save": "out"}).alias == tmp_path / "out/ckpts"
    assert [read_config(params).metadata for params in ({"metadata": 1}, {"metadata": 1, "ckpt_metadata": 2})] == [1, 2]
    better = {
        name: read_config({"ckpt_save_best_metric": name}).maximize for name in ("loss", "r2", "val_R2", "val_mae")
    }
    assert better == {"loss": False, "r2": True, "val_R2": True, "val_mae": False}


def test_candles_defaults(tmp_path):
    keys = {
        **{"restart_mode": "auto", "save_best": True, "save_best_metric": "val_loss", "best_metric_last": None},
        **{"skip_epochs": 0, "save_interval": 1, "save_weights_only": False, "checksum": False},
        **{"keep_mode": "linear", "keep_limit": 3, "save_batches": 0, "save_seconds": 0},
    }
    given = read_config({"output_dir": str(tmp_path), **{f"ckpt_{key}": value for key, value in keys.items()}})
    assert read_config({"output_dir": str(tmp_path)}) == given


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("save_batches", 0.5),
            ("save_seconds", -1),
            ("save_seconds", "often"),
            ("restart_mode", "always"),
            ("save_best", "yes"),
            ("save_interval", -1),
            ("save_interval", 1.5),
        ),
        *(
            ("keep_limit", 0),
            ("keep_mode", "exponential"),
            ("best_metric_last", "low"),
            ("skip_epochs", True),
        ),
    ],
)
def test_wrong_keys_are_named(key, value):
    with pytest.raises(ValueError, match=f"ckpt_{key} must be"):
        read_config({f"ckpt_{key}": value})
