"""The model behind model_name `unorun`: Uno, trained, then applied to the test set.

Importing it loads no TensorFlow.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hed import tables
from hed.uno import data, hyper, scores
from hed.uno.schedule import METRICS
from hed.uno.unread import unread
from model_runner.ckpt.config import CkptConfig, read_config
from model_runner.errors import RunError
from model_runner.params import find_config, read_ini

# The compiled network serves the next RUN; `compiled` clears the Keras session before it builds another one.
KEEPS_SESSION = True


log = logging.getLogger("RUNNER.unorun")


@dataclass
class History:
    """What a training did: metric -> values, one for each of the 0-based epochs in `epoch`."""

    history: dict[str, list[float]]
    epoch: list[int]


def initialize_parameters(default_model: str | None = None) -> dict[str, Any]:
    """Uno's defaults (uno_default_model.txt beside this file) under those of the INI file `default_model`."""
    defaults = read_ini(hyper.DEFAULT_FILE)
    return {**defaults, **(read_ini(Path(default_model)) if default_model else {})}


def check(param_sets: Sequence[Mapping[str, Any]], data_dir: str | None) -> list[tuple[int, str]]:
    """What is wrong with each set's hyperparameters: (index of the set, one line). Looks at no data.

    Warnings tell of parameters that are not read.
    """
    found: list[tuple[int, str]] = []
    warnings: dict[str, None] = {}  # each once, in order
    returned = os.environ.get("MODEL_RETURN", "val_loss")
    if param_sets and returned not in METRICS:
        found.append((0, f"MODEL_RETURN must be one of {', '.join(METRICS)}, not {returned!r}"))
    for index, given in enumerate(param_sets):
        if not given.get("input_dir") and not given.get("pre_module"):
            found.append((index, "there is no input_dir to read tables from: set it, or pre_module hed_setup"))
        try:
            config = find_config(given, Path.cwd(), Path(__file__).parent)
            params = {**initialize_parameters(str(config) if config else None), **given}
            _require_metric(read_config(params))
            hyper.read_hyper(params)
            warnings |= dict.fromkeys(unread(given, params))
        except hyper.HyperError as error:
            found += [(index, problem) for problem in error.problems]
        except (RunError, ValueError) as error:
            found.append((index, str(error)))
    for warning in warnings:
        log.warning("%s", warning)
    return found


def _require_metric(config: CkptConfig) -> None:
    # Found out after the first epoch, it would be a warning in a log, and no best weights to go on from.
    if config.save_best and config.save_best_metric not in METRICS:
        raise ValueError(f"ckpt_save_best_metric must be one of {', '.join(METRICS)}, not {config.save_best_metric!r}")


def run(params: Mapping[str, Any]) -> History:
    """Train Uno as `params` says and write scores and predictions of the val and test sets into `output_dir`.

    `params`: the hyperparameters (see uno_default_model.txt), `input_dir` with the tables, `output_dir` (else
    `instance_directory`), and the ckpt_* keys. Takes up training after the last checkpoint; where nothing is
    left to train, only scores and predictions are written. Raises ValueError for wrong hyperparameters, an
    empty set, or predictions that are NaN, DivergedError where a loss is, FileNotFoundError for a missing table.
    """
    settings = hyper.read_hyper(params)
    _require_metric(read_config(params))
    table = data.load(params)
    output_dir = Path(params.get("output_dir") or params["instance_directory"])

    from hed.devices import cfg_threads
    from hed.uno.training import Trainer

    cfg_threads()
    trainer = Trainer(params, settings, table)
    epochs = trainer.train()
    stages = ("val", "test") if settings.calc_infer_scores else ("val",)
    for stage in stages:
        responses = getattr(table, stage)
        predicted = trainer.predict_best(stage)
        scores.write(
            output_dir,
            stage,
            params.get("y_col_name", tables.RESPONSE),
            responses.y,
            predicted,
            responses.labels,
        )
    return History(trainer.history, list(range(epochs)))
