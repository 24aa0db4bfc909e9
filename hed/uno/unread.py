"""Parameters that nothing reads, though who set them may think otherwise: misspelt ones, and those of another space.

They are legal, as unknown keys are passed on to models and modules; but 770 RUNs would train without them.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hed.uno.hyper import ALIASES, DEFAULT_FILE, PARTS
from model_runner.check import RULES
from model_runner.params import read_ini

# How like a known name an unknown one must be, from 0 to 1, to be taken for it: `epoch` for epochs.
ALIKE = 0.85
# Without a default in the file: of the partition, of losses, and of the network's size.
_OTHERS = ("index", "partition", "partition_seed", "partition_files", "alpha", "custom_loss_module", "config_file")
_SPACES = {
    "global": re.compile("dropout|activation"),
    "block": re.compile(f"({'|'.join(PARTS)})_(arch|dropout|activation)"),
    "layer": re.compile(f"({'|'.join(PARTS)})_layer_[0-9]+_(size|dropout|activation)"),
}


def unread(given: Mapping[str, Any], space: str) -> Iterator[str]:
    """A line for each parameter of a UPF or DFLTS that a RUN of Uno with this `hyperparam_space` leaves unread."""
    defaults = read_ini(DEFAULT_FILE)
    known = {*defaults, *ALIASES, *RULES, *_OTHERS, *(f"{part}_num_layers" for part in PARTS)}
    for key, value in given.items():
        own = next((name for name, keys in _SPACES.items() if keys.fullmatch(key)), None)
        if own is not None:
            if own != space and value != defaults.get(key):
                yield f"{key} has no effect: it is of the hyperparam_space {own}, not {space}"
        elif key not in known and (near := difflib.get_close_matches(key.lower(), known, 1, ALIKE)):
            yield f"{key} is no parameter that Uno knows: is it {near[0]}?"
