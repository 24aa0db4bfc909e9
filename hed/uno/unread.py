"""Parameters that nothing reads, though who set them may think otherwise: misspelt ones, and those of another space.

They are legal, as unknown keys are passed on to models and modules; but 770 RUNs would train without them.
"""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hed.uno.hyper import ALIASES, DEFAULT_FILE, PARTS
from hed.uno.mae_poly import HYPERPARAMETERS
from model_runner.check import RULES
from model_runner.params import read_ini

# How like a known name an unknown one must be, from 0 to 1, to be taken for it: `epoch` for epochs.
ALIKE = 0.85
# Without a default in the file: of the partition, of losses, and of the model.
_OTHERS = ("index", "partition", "partition_seed", "partition_files", "custom_loss_module", "config_file")
_SPACES = {
    "global": re.compile("dropout|activation"),
    "block": re.compile(f"({'|'.join(PARTS)})_(arch|dropout|activation)"),
    "layer": re.compile(f"({'|'.join(PARTS)})_layer_[0-9]+_(size|dropout|activation)"),
}


def unread(given: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    """A line for each parameter of a UPF or DFLTS that a RUN of Uno leaves unread.

    `given` is what the user's files say, `whole` that over the model's defaults.
    """
    defaults, space = _defaults(), whole["hyperparam_space"].lower()
    for key, value in given.items():
        own = next((name for name, keys in _SPACES.items() if keys.fullmatch(key)), None)
        if own is not None:
            if own != space and value != defaults.get(key):
                yield f"{key} has no effect: it is of the hyperparam_space {own}, not {space}"
        elif key in HYPERPARAMETERS and whole.get("custom_loss_module") is None:
            yield f"{key} has no effect: there is no custom_loss_module"
        elif near := _near(key):
            yield f"{key} is no parameter that Uno knows: is it {near}?"


@functools.cache
def _defaults() -> dict[str, Any]:
    return read_ini(DEFAULT_FILE)


@functools.cache  # the same ones in each line of a UPF, and each takes a millisecond
def _near(key: str) -> str:
    """The parameter that an unknown one may be meant for; "" for a known one, and where none is like it."""
    known = {*_defaults(), *ALIASES, *RULES, *HYPERPARAMETERS, *_OTHERS, *(f"{part}_num_layers" for part in PARTS)}
    return "" if key in known else next(iter(difflib.get_close_matches(key.lower(), sorted(known), 1, ALIKE)), "")
