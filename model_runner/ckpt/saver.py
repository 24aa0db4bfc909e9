"""When a training saves, what beside the model it saves, and how it ends when asked to; for any model framework."""

import abc
import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_runner import interrupt
from model_runner.ckpt import background
from model_runner.ckpt.config import read_config
from model_runner.ckpt.state import STATE, Stateful, random_state, read_state, set_random_state, write_state
from model_runner.ckpt.store import CkptError, Store, log

Write = Callable[[Path], None]


class Saver(abc.ABC):
    """Saves a training as the ckpt_* keys of `params` say, and restores it; a framework adds `_copy` and `_load`.

    `states`: what else must survive a restart, by name. `history`: metric -> values of all epochs since the
    first, those before a restart included.
    """

    def __init__(self, params: Mapping[str, Any], states: Mapping[str, Stateful] | None = None) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self._store = Store(read_config(params))
        self._states = states or {}
        self._missing_metric_told = False
        # What the newest checkpoint holds: completed epochs, and batches of the next one; and when it was made.
        self._position = (0, 0)
        self._saved_at = time.monotonic()

    @abc.abstractmethod
    def _copy(self, weights_only: bool) -> tuple[Write, dict[str, Any]]:
        """Copy the model as it is now: a function that writes the copy into a directory, and what goes into STATE."""

    @abc.abstractmethod
    def _load(self, directory: Path, info: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Load the model from what `_copy` gave; raises where that is damaged, having changed nothing."""

    def _packed(self, value: Any) -> Any:
        """A state with what STATE cannot hold, such as a framework's tensors, as what it can; copied."""
        return value

    def _unpacked(self, value: Any) -> Any:
        """The inverse of `_packed`."""
        return value

    def within_epoch(self, epoch: int, batch: int) -> None:
        """Save, if ckpt_save_batches or ckpt_save_seconds say so, after `batch` batches of `epoch` (0-based).

        For loops of one's own, whose `states` tell after a restart how far the epoch is. Interrupted, after saving,
        where the RUN is to end.
        """
        asked = interrupt.requested()
        if (asked or self._due_within(epoch, batch)) and self._position != (epoch, batch):
            self._start((epoch, batch), lambda write: self._store.save_partial(epoch, batch, write))
        if asked:
            background.wait()
            raise interrupt.Interrupted(epoch)

    def batches_to_save(self, batch: int) -> int | None:
        """How many batches after `batch` ones ckpt_save_batches wants a checkpoint; None where it does not."""
        every = self._store.config.save_batches
        return every - batch % every if every else None

    def _due_within(self, epoch: int, batch: int) -> bool:
        every, seconds = self._store.config.save_batches, self._store.config.save_seconds
        before = self._position[1] if self._position[0] == epoch else 0
        return bool(
            (every and batch // every > before // every) or (seconds and time.monotonic() - self._saved_at >= seconds)
        )

    def _end_epoch(self, epoch: int, logs: Mapping[str, Any] | None, stopped: bool) -> None:
        """Save `epoch` (0-based) if it is due; Interrupted where the RUN is to end and this epoch is not the last."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)
        config = self._store.config
        metric = values.get(config.save_best_metric)
        if config.save_best and metric is None and not self._missing_metric_told:
            known = ", ".join(values)
            log.warning("no epoch is best: ckpt_save_best_metric %s is not one of %s", config.save_best_metric, known)
            self._missing_metric_told = True
        last = stopped or epoch + 1 == config.epochs
        asked = None if last else interrupt.requested()
        because = "final" if last else "interrupted" if asked else None
        background.wait()  # what is due depends on whether the save before succeeded
        if self._store.due(epoch + 1, metric, because):
            self._start((epoch + 1, 0), lambda write: self._store.save(epoch + 1, metric, write, because))
        if asked:
            background.wait()
            raise interrupt.Interrupted(epoch + 1)

    def _start(self, position: tuple[int, int], save: Callable[[Write], object]) -> None:
        background.wait()
        weights_only = self._store.config.save_weights_only
        write_model, state = self._copy(weights_only)
        state |= {
            "history": {name: list(values) for name, values in self.history.items()},
            "states": {name: self._packed(state.state_dict()) for name, state in self._states.items()},
            "random": random_state(),
        }

        def write(directory: Path) -> None:
            write_model(directory)
            write_state(directory / STATE, state)

        background.start(lambda: save(write))
        self._position, self._saved_at = position, time.monotonic()

    def _restore(self) -> int:
        """Take up the last usable checkpoint: completed epochs, 0 from scratch; CkptError if that is not allowed."""
        self._position = self._store.restore(self._read) or (0, 0)
        return self._position[0]

    def _read(self, directory: Path, info: Mapping[str, Any]) -> tuple[int, int]:
        path = directory / STATE
        state = read_state(path) if path.exists() else {}
        saved = {name: value for name, value in state.get("states", {}).items() if name in self._states}
        # Copied, for what a module of PyTorch tells is its live weights.
        before = {name: copy.deepcopy(self._states[name].state_dict()) for name in saved}
        generators = random_state()
        try:
            for name, value in saved.items():
                self._states[name].load_state_dict(self._unpacked(value))
            if "random" in state:
                set_random_state(state["random"])
            self._load(directory, info, state)  # last, for it changes nothing where it raises
        except Exception:
            self._set_back(before)
            set_random_state(generators)
            raise
        self.history = state.get("history", {})
        return int(info["epoch"]), int(info.get("batch", 0))

    def _set_back(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Training from scratch, or from an older checkpoint, must not begin with what half a checkpoint has left."""
        for name, state in states.items():
            try:
                self._states[name].load_state_dict(state)
            except Exception as error:
                raise CkptError(f"the state {name} can neither be restored nor be set back: {error!r}") from error
