"""Global state of Keras and TensorFlow that one RUN could leave to the next. Loads neither of them."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runner.params import expand


@dataclass(frozen=True, slots=True)
class KerasState:
    """Keras' global settings, TensorFlow's global seed, and whether tf.functions run eagerly."""

    floatx: str = "float32"
    epsilon: float = 1e-7
    image_data_format: str = "channels_last"
    policy: str = ""
    seed: int | None = None
    eagerly: bool = False


def save() -> KerasState:
    """The state now; where Keras is not loaded yet, the one that it will start with."""
    keras = sys.modules.get("keras")
    if keras is None:
        return _initial()
    backend = keras.backend
    return KerasState(
        backend.floatx(),
        backend.epsilon(),
        backend.image_data_format(),
        keras.mixed_precision.global_policy().name,
        *_tensorflow_state(),
    )


def _initial() -> KerasState:
    """What Keras starts with: the settings of the user's keras.json over the built-in ones."""
    file = Path(os.environ.get("KERAS_HOME") or Path(expand("~/.keras"))) / "keras.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    return KerasState(**{k: settings[k] for k in ("floatx", "epsilon", "image_data_format") if k in settings})


def restore(state: KerasState) -> None:
    """Bring back a state; does nothing where Keras is not loaded."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.backend.set_floatx(state.floatx)
        keras.backend.set_epsilon(state.epsilon)
        keras.backend.set_image_data_format(state.image_data_format)
        keras.mixed_precision.set_global_policy(state.policy or state.floatx)
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None:
        seed, eagerly = _tensorflow_state()
        # Setting a seed makes every later operation slower, so only where a model did set one.
        if seed != state.seed:
            tensorflow.random.set_seed(state.seed)
        if eagerly != state.eagerly:
            tensorflow.config.run_functions_eagerly(state.eagerly)


def _tensorflow_state() -> tuple[int | None, bool]:
    tensorflow: Any = sys.modules.get("tensorflow")
    context: Any = sys.modules.get("tensorflow.python.eager.context")
    if tensorflow is None or context is None:
        return None, False
    return context.global_seed(), tensorflow.config.functions_run_eagerly()


def clear_session() -> None:
    """Free Keras' models and name counters, so that memory does not grow from RUN to RUN."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.backend.clear_session()
