"""The ckpt_* keys of a RUN's parameters. Names and meanings are those of CANDLE's ckpt module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESTART_MODES = ("off", "auto", "required")
# Metrics that are better when larger; those of a validation set carry a prefix `val_`.
MAXIMIZED = {
    *("acc", "accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"),
    *("r2", "pcc", "scc", "corr", "auc", "precision", "recall", "f1", "cosine_similarity"),
}


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "restart_mode": (lambda value: value in RESTART_MODES, f"one of {', '.join(RESTART_MODES)}"),
    "save_best": (_boolean, "true or false"),
    "save_best_metric": (_text, "the name of a metric"),
    "best_metric_last": (lambda value: value is None or _number(value), "a number"),
    "skip_epochs": (_integer(0), "an integer >= 0"),
    "save_interval": (_integer(0), "an integer >= 0 (0: only the best and the final epoch)"),
    "save_batches": (_integer(0), "an integer >= 0 (0: off)"),
    "save_seconds": (lambda value: _number(value) and value >= 0, "a number >= 0 (0: off)"),
    "save_weights_only": (_boolean, "true or false"),
    "checksum": (_boolean, "true or false"),
    "keep_mode": (lambda value: value == "linear", "linear"),
    "keep_limit": (_integer(1), "an integer >= 1"),
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
    values = {key.removeprefix("ckpt_"): value for key, value in params.items() if key.startswith("ckpt_")}
    return CkptConfig(
        directory=directory_of(params).absolute(),
        alias=Path(params["save"]).absolute() / "ckpts" if params.get("save") else None,
        metadata=values.get("metadata", params.get("metadata")),
        epochs=params.get("epochs"),
        **_checked(values),
    )


def directory_of(params: Mapping[str, Any]) -> Path:
    """Where checkpoints lie: `ckpt_directory`, else `ckpts` in `output_dir`, else in `instance_directory`."""
    default = Path(params.get("output_dir") or params.get("instance_directory") or ".") / "ckpts"
    return Path(params.get("ckpt_directory") or default)


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    for name, (fits, description) in _RULES.items():
        if name in values and not fits(values[name]):
            raise ValueError(f"ckpt_{name} must be {description}, not {values[name]!r}")
    return {name: values[name] for name in _RULES if name in values}
