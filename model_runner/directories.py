"""Directories that RUNs must not share, and checkpoints there that are not theirs; found before anything starts.

By default each RUN has its own, where only a restart brings checkpoints. One place outside of the EXP for all of them
would let each RUN go on from the last epoch of another, with the held-out drug of that one in its training.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_runner.ckpt.config import directory_of
from model_runner.ckpt.owner import Owner
from model_runner.params import expand

Sets = Mapping[int, Mapping[str, Any]]


def problems(sets: Sets, whole: Sets) -> Iterator[tuple[int, str]]:
    """(index, one line) for each; `whole` are the sets over their models' defaults, where those are known.

    A relative path lies in each RUN's own directory.
    """
    users: dict[tuple[str, str], list[int]] = {}
    for i in sets:
        named = _named(sets[i], whole[i])
        for key, place in named.items():
            if Path(place).is_absolute():
                users.setdefault((key, os.path.normpath(place)), []).append(i)
        checkpoints = directory_of(named)
        if checkpoints.is_absolute() and whole[i].get("ckpt_restart_mode") != "off":
            reason = Owner(sets[i], whole[i]).refusal(checkpoints)
            if reason:
                yield i, reason
    for (key, place), indices in users.items():
        if len(indices) > 1:
            yield (
                indices[0],
                f"{key} {place} is shared by {len(indices)} RUNs, which would go on from each other's checkpoints: "
                "leave it out, for each has a directory of its own, or name another one for each",
            )


def _named(given: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, str]:
    """What they name. The model's default of output_dir is not used, and a pre module may set it, as hed_setup does."""
    named = {"ckpt_directory": whole.get("ckpt_directory")}
    if not given.get("pre_module"):
        named["output_dir"] = given.get("output_dir")
    return {key: expand(str(place)) for key, place in named.items() if place}
