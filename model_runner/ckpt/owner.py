"""Whose checkpoints lie in a directory outside of the RUN directory: a RUN takes up only what was trained for it.

Into a RUN directory only a restart brings checkpoints, when it has compared the parameters. A `ckpt_directory`
elsewhere outlives its EXP: the next one, with another alpha, would find the last epoch there, train none, and write
scores that are not its own. So `run.json` beside such checkpoints says what they were trained with.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runner.compare import compare
from model_runner.files import write_file
from model_runner.params import plain_values

OWNER = "run.json"


@dataclass(frozen=True)
class Owner:
    """A RUN: the parameters that it was `given`, and the `whole` of them, over the model's defaults as far as known."""

    given: Mapping[str, Any]
    whole: Mapping[str, Any]

    def refusal(self, directory: Path) -> str:
        """Why this RUN must not go on from the checkpoints in `directory`; empty where it may, or nobody knows."""
        try:
            then = json.loads((directory / OWNER).read_text(encoding="utf-8"))
        except FileNotFoundError:  # nobody's yet, or of CANDLE itself
            return ""
        # As for a restart: a default that only one of the two names, such as a newer version's, may have been the same.
        known = {key: then["whole"][key] for key in self.whole if key in then["whole"]} | then["given"]
        now = {key: value for key, value in plain_values(self.whole).items() if key in self.given or key in known}
        verdict, reason = compare(known, now, None)
        if verdict != "refuse":
            return ""
        return f"the checkpoints in {directory} are another RUN's ({reason}): name another directory, or remove it"

    def claim(self, directory: Path) -> None:
        """Say in `directory` that its checkpoints are this RUN's."""
        record = {"given": plain_values(self.given), "whole": plain_values(self.whole)}
        write_file(directory / OWNER, json.dumps(record) + "\n")


_current: tuple[Owner, Path] | None = None


@contextlib.contextmanager
def running(owner: Owner, run_directory: Path) -> Iterator[None]:
    """Checkpoints made in here are those of `owner`."""
    global _current
    _current = owner, run_directory
    try:
        yield
    finally:
        _current = None


def of(directory: Path) -> Owner | None:
    """The RUN that must own `directory`; None for one inside of its RUN directory, and outside of any RUN."""
    if _current is None or directory.resolve().is_relative_to(_current[1].resolve()):
        return None
    return _current[0]
