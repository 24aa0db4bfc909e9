"""What a model returned, and the files that a RUN leaves: result.txt, history.txt, parameters.txt,
stop.marker.

Names and formats are those of CANDLE Supervisor's model_runner, since users' scripts read them. Every file is
written to a temporary name and renamed, so that a RUN killed at any moment leaves whole files only.
"""

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from model_runner.errors import RunError
from model_runner.files import write_file

log = logging.getLogger("RUNNER")

DEFAULT_METRIC = "val_loss"
STANDING_FOR_DEFAULT = ("val_mse", "mse", "loss")
COMPLETED_ALREADY = "EPOCHS_COMPLETED_ALREADY"
NAN = "nan"
RUN_EXCEPTION = "RUN_EXCEPTION"
# CANDLE's readers expect these two under a heading of their own, at the end of parameters.txt.
_MONITOR_KEYS = ("timeout", "solr_root")
_WANTED = "run() must return a History, or metrics by name, as a dict"


class ModelResult(IntEnum):
    """What `pre_run` and `post_run` answer; the numbers are those of CANDLE Supervisor."""

    SUCCESS = 1
    SKIP = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call of a model's `run` gave.

    `result` is the text of result.txt: the last value of MODEL_RETURN, or a word. `history` maps a metric to
    its values per epoch. `epochs` counts all completed epochs, earlier attempts included; None when the model
    does not say.
    """

    result: str
    history: dict[str, list[float | None]] | None = None
    epochs: int | None = None
    expected: int | None = None

    @property
    def stopped_early(self) -> bool:
        """Whether training ended by its own criterion before the last of the epochs asked for."""
        return self.epochs is not None and self.expected is not None and self.epochs < self.expected


def read_outcome(returned: Any, metric: str, expected: int | None) -> Outcome:
    """Understand what a model's `run` returned.

    A History (`.history`, `.epoch`), a dict of metrics or of scores, a pair that holds one of those, a single
    number, or one of the words EPOCHS_COMPLETED_ALREADY and nan. `metric` is the user's MODEL_RETURN, `expected` the
    epochs asked for. Where there are numbers, but not `metric`, the result is `nan`: a training of a day is worth its
    history. RunError where there is no number at all, and for several without a name.
    """
    if isinstance(returned, str):
        return _from_word(returned, expected)
    if isinstance(returned, tuple):
        returned = _from_pair(returned, metric)
    epochs = _epochs_completed(returned)
    metrics = returned if isinstance(returned, Mapping) else getattr(returned, "history", None)
    if metrics is None:
        # Several without a name are no epochs: Keras' evaluate() returns [loss, accuracy], a row of a table begins
        # with whatever is its first column.
        numbers = _per_epoch(returned) or []
        metrics = {metric: numbers} if len(numbers) == 1 else {}
    # A fit() that resumes after its last epoch gives an empty History: nothing is wrong with such a RUN.
    elif not isinstance(returned, Mapping) and not any(len(values) for values in metrics.values()):
        return Outcome(COMPLETED_ALREADY, None, expected, expected)
    history = plain_history(metrics)
    name = _result(history, metric)
    return Outcome(str(history[name][-1]) if name else NAN, history, epochs, expected)


def _from_word(word: str, expected: int | None) -> Outcome:
    """Any other text is no result: a model that returns "failed: no data" would be done, and RUN_EXCEPTION is ours."""
    if word not in (COMPLETED_ALREADY, NAN):
        raise RunError(f"the model returned the text {word!r}: {_WANTED}")
    return Outcome(word, None, expected if word == COMPLETED_ALREADY else None, expected)


def plain_history(metrics: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Metric -> numbers per epoch, of what is numeric in a model's `metrics`."""
    return {
        str(name): values
        for name, value in metrics.items()
        if name != "epochs_completed" and (values := _per_epoch(value)) is not None
    }


def _result(history: Mapping[str, list[float | None]], metric: str) -> str | None:
    """The metric for result.txt: `metric`, or, where the default one is not there, what stands for it; None without.

    IMPROVE's models return the scores of the validation set under their own names, and call its mse `val_loss`.
    """
    named = [name for name, values in history.items() if values]
    if metric in named:
        return metric
    if not named:
        raise RunError(f"the model returned no number with a name: {_WANTED}")
    if metric != DEFAULT_METRIC:
        return None
    standing = next((name for name in STANDING_FOR_DEFAULT if name in named), named[0])
    log.info("the model returned no %s: the result is its %s", metric, standing)
    return standing


def _from_pair(pair: tuple[Any, ...], metric: str) -> Any:
    """What holds the metrics in a returned tuple: (name, value), or the first dict or History in it."""
    if len(pair) == 2 and isinstance(pair[0], str) and _plain(pair[1]) is not None:
        return {pair[0]: pair[1]}
    holders = [part for part in pair if isinstance(part, Mapping) or hasattr(part, "history")]
    return next((h for h in holders if metric in getattr(h, "history", h)), holders[0] if holders else None)


def _epochs_completed(returned: Any) -> int | None:
    """Epochs completed in total, by what the model says.

    The length of a metric's list will not do: a RUN that resumed at epoch 8 of 10 returns 2 values, and
    counting those wrote the stop.marker `2/10`, after which no restart ever touched the RUN again.
    """
    said = returned.get("epochs_completed") if isinstance(returned, Mapping) else None
    said = getattr(returned, "epochs_completed", said)
    if said is not None:
        completed = _plain(said)
        if isinstance(completed, (int, float)) and 0 <= completed < math.inf and completed == int(completed):
            return int(completed)
        log.warning("the model says that it completed %r epochs, which is no number of epochs", said)
        return None
    absolute = getattr(returned, "epoch", None)  # Keras: 0-based numbers of the epochs, counted from initial_epoch
    return int(absolute[-1]) + 1 if isinstance(absolute, Sequence) and absolute else None


def _plain(value: Any) -> Any:
    """Arrays, NumPy numbers and tensors as Python numbers and lists; None for what is not numeric."""
    if isinstance(value, type):  # CANDLE's data_type is the class np.float32, of which tolist() is a method
        return None
    if hasattr(value, "tolist"):  # NumPy, PyTorch
        value = value.tolist()
    elif hasattr(value, "numpy"):  # TensorFlow
        value = value.numpy().tolist()
    return value if isinstance(value, (int, float, list, tuple)) and not isinstance(value, bool) else None


def _per_epoch(value: Any) -> list[float | None] | None:
    """A metric as numbers per epoch (a single score is one epoch); None when it is not numeric."""
    value = _plain(value)
    values = [_plain(item) for item in value] if isinstance(value, (list, tuple)) else [value]
    return values if all(isinstance(item, (int, float)) for item in values) else None


def write_results(directory: Path, outcome: Outcome) -> None:
    """Write history.txt (one line of JSON; NaN and infinity, which JSON lacks, as null), then result.txt."""
    history = outcome.history and {name: [_finite(v) for v in vs] for name, vs in outcome.history.items()}
    write_file(directory / "history.txt", json.dumps(history, allow_nan=False) + "\n")
    write_file(directory / "result.txt", outcome.result + "\n")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def write_stop_marker(directory: Path, outcome: Outcome) -> None:
    """Write stop.marker: this RUN ended by its own criterion, no restart needs to touch it."""
    write_file(directory / "stop.marker", f"early stopping: {outcome.epochs}/{outcome.expected}\n")


def read_stop_marker(directory: Path) -> int | None:
    """Epochs that stop.marker says were completed; None where it does not say (or is not there)."""
    marker = directory / "stop.marker"
    text = marker.read_text(encoding="utf-8") if marker.exists() else ""
    found = re.match(r"early stopping: (\d+)/", text)
    return int(found[1]) if found else None


def write_parameters(directory: Path, params: Mapping[str, Any]) -> None:
    """Write parameters.txt in CANDLE's form: `k=v` lines, strings in single quotes.

    Each value is a Python literal (`ast.literal_eval` reads it back): quotes, backslashes and line ends in
    strings are escaped, which the original did not do.
    """
    lines = ["[Global Params]"]
    lines += [f"{key}={_literal(value)}" for key, value in params.items() if key not in _MONITOR_KEYS]
    lines.append("[Monitor Params]")
    monitor = {"solr_root": "", **params}  # CANDLE's readers look for it, and nobody here has one
    lines += [f"{key}={_literal(monitor[key])}" for key in _MONITOR_KEYS if key in monitor]
    write_file(directory / "parameters.txt", "\n".join(lines) + "\n")


def _literal(value: Any) -> str:
    number = _plain(value)
    if number is not None:
        value = number
    if value is None or isinstance(value, (bool, int, float, list, tuple, dict)):
        return repr(value)
    text = getattr(value, "__name__", None) or str(value)  # a class or function by its name
    # repr() quotes with ' whatever the text holds, if there is a " in it.
    return "'" + repr('"' + text)[2:]
