"""The ckpt_* keys of a RUN's parameters. Names and meanings are those of CANDLE's ckpt module."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runner.values import Rules, integer_from, is_boolean, is_name, is_number, one_of, wrong

RESTART_MODES = ("off", "auto", "required")
# Metrics that are better when larger; those of a validation set carry a prefix `val_`.
MAXIMIZED = {
    *("acc", "accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"),
    *("r2", "pcc", "scc", "corr", "auc", "precision", "recall", "f1", "cosine_similarity"),
}


#: What the values must be, for who reads them, and for the check before a job.
RULES: Rules = {
    "ckpt_restart_mode": (one_of(*RESTART_MODES), f"one of {', '.join(RESTART_MODES)}"),
    "ckpt_save_best": (is_boolean, "true or false"),
    "ckpt_save_best_metric": (is_name, "the name of a metric"),
    "ckpt_best_metric_last": (lambda value: value is None or is_number(value), "a number"),
    "ckpt_skip_epochs": (integer_from(0), "an integer >= 0"),
    "ckpt_save_interval": (integer_from(0), "an integer >= 0 (0: only the best and the final epoch)"),
    "ckpt_save_batches": (integer_from(0), "an integer >= 0 (0: off)"),
    "ckpt_save_seconds": (lambda value: is_number(value) and value >= 0, "a number >= 0 (0: off)"),
    "ckpt_save_weights_only": (is_boolean, "true or false"),
    "ckpt_checksum": (is_boolean, "true or false"),
    "ckpt_keep_mode": (one_of("linear"), "linear"),
    "ckpt_keep_limit": (integer_from(1), "an integer >= 1"),
}


@dataclass(frozen=True)
class CkptConfig:
    """When to save, what to keep and how to restart; field x is the key ckpt_x.

    `save_interval`: epochs, 0 saves best and final ones only. `skip_epochs`: that many first epochs are not
    saved. `save_batches`, `save_seconds`: also within epochs, every so many batches or seconds, 0 is off; only
    for models that call `within_epoch`. `keep_limit`: models of so many latest epochs are kept, and the best
    one's. `epochs`: the final epoch, which is always saved. `alias`: where a relative link to the directory is
    put for CANDLE's own tools.
    """

    directory: Path
    restart_mode: str = "auto"
    save_best: bool = True
    save_best_metric: str = "val_loss"
    best_metric_last: float | None = None
    skip_epochs: int = 0
    save_interval: int = 1
    save_batches: int = 0
    save_seconds: float = 0
    save_weights_only: bool = False
    checksum: bool = False
    keep_mode: str = "linear"
    keep_limit: int = 3
    metadata: Any = None
    epochs: int | None = None
    alias: Path | None = None

    @property
    def maximize(self) -> bool:
        """Whether a larger value of `save_best_metric` is the better one."""
        return self.save_best_metric.removeprefix("val_").lower() in MAXIMIZED


def read_config(params: Mapping[str, Any]) -> CkptConfig:
    """Read the ckpt_* keys of `params`; ValueError names the key and what it must be.

    The directory becomes absolute, because a model may change the working directory.
    """
    for _, problem in wrong(params, RULES):
        raise ValueError(problem)
    return CkptConfig(
        directory=directory_of(params).absolute(),
        alias=Path(params["save"]).absolute() / "ckpts" if params.get("save") else None,
        metadata=params.get("ckpt_metadata", params.get("metadata")),
        epochs=params.get("epochs"),
        **{key.removeprefix("ckpt_"): params[key] for key in RULES if key in params},
    )


def directory_of(params: Mapping[str, Any]) -> Path:
    """Where checkpoints lie: `ckpt_directory`, else `ckpts` in `output_dir`, else in `instance_directory`."""
    default = Path(params.get("output_dir") or params.get("instance_directory") or ".") / "ckpts"
    return Path(params.get("ckpt_directory") or default)
