"""The checkpoint directory: layout, links, atomic saves, retention, and which checkpoint a restart takes.

    ckpts/ckpt.log
    ckpts/work/                               a save in progress
    ckpts/epochs/NNN/{model.h5, ckpt-info.json, checksums.json, ...}    epochs count from 1
    ckpts/best -> epochs/NNN, ckpts/last -> epochs/NNN
    ckpts/partial/NNN-BBBBBBBBB/              the same files, after B batches of the epoch that follows NNN

This is the layout of CANDLE's ckpt module, with relative links. What is new in it, `partial`, lies beside what CANDLE's
tools look at. There is at most one partial checkpoint, the newest; the next checkpoint of an epoch supersedes it. A
roll back (linking `last` to an older epoch) disregards it.

The store knows no model framework: what a checkpoint consists of is written and read by functions that get a directory.
"""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from model_runner.ckpt import owner
from model_runner.ckpt.config import CkptConfig
from model_runner.ckpt.files import CHECKSUMS, crc32, put_directory, replace_link, verify_checksums

MODEL = "model.h5"
INFO = "ckpt-info.json"
CHECKSUM_OFF = "__DISABLED__"

T = TypeVar("T")
log = logging.getLogger("RUNNER.ckpt")


class CkptError(Exception):
    """The checkpoints are another RUN's, or none can be used although ckpt_restart_mode is `required`."""


class Store:
    """The checkpoints of one RUN, according to `config`."""

    def __init__(self, config: CkptConfig) -> None:
        self.config = config
        self._root = config.directory
        self._epochs = self._root / "epochs"
        self._partial = self._root / "partial"
        # Asked now: when the thread that saves gets to it, a model that has raised since may have ended the RUN.
        self._owner = owner.of(self._root)
        self._best_metric = config.best_metric_last
        self._saved_at: float | None = None
        self._made = False
        self._models: set[int] | None = None  # epochs that have one

    def due(self, epoch: int, metric: float | None, because: str | None = None) -> str | None:
        """Why `epoch` (counted from 1) is to be saved: best so far, `because`, last of all, or by the interval.

        None where it is not. `metric`: the epoch's value of `save_best_metric`, None where there is none.
        """
        if self._is_best(epoch, metric):
            return "best"
        return because or ("final" if epoch == self.config.epochs else self._interval(epoch))

    def save(self, epoch: int, metric: float | None, write: Callable[[Path], None], because: str | None = None) -> bool:
        """Save `epoch` if it is `due`; `write(directory)` writes its files, model.h5 among them.

        Returns whether the epoch was saved; a full or failing disk, or a state that no checkpoint can hold, costs this
        checkpoint only, with a message.
        """
        reason = self.due(epoch, metric, because)
        if reason is None:
            return False
        best_metric = metric if reason == "best" else self._best_metric

        def then() -> None:
            if reason == "best":
                self._relink("best", epoch)
                self._best_metric = metric  # or, where the disk refuses the link, no later epoch would be good enough
            self._relink("last", epoch)
            self._remove_partial()
            self._clean(epoch)

        return self._put(
            f"epoch {epoch} ({reason})", self._directory(epoch), {"epoch": epoch}, best_metric, write, then
        )

    def save_partial(self, epoch: int, batch: int, write: Callable[[Path], None]) -> bool:
        """Save the state after `batch` batches of the epoch that follows `epoch` completed ones; see `save`."""
        target = self._partial / f"{epoch:03d}-{batch:09d}"
        position = {"epoch": epoch, "batch": batch, "last": self._linked("last")}
        name = f"epoch {epoch + 1}, batch {batch}"
        return self._put(name, target, position, self._best_metric, write, lambda: self._remove_partial(but=target))

    def _is_best(self, epoch: int, metric: float | None) -> bool:
        if not self.config.save_best or epoch <= self.config.skip_epochs or metric is None or metric != metric:
            return False
        if self._best_metric is None:
            return True
        return metric > self._best_metric if self.config.maximize else metric < self._best_metric

    def _interval(self, epoch: int) -> str | None:
        interval = self.config.save_interval
        due = interval and epoch > self.config.skip_epochs and epoch % interval == 0
        return "interval" if due else None

    def _make_directories(self) -> None:
        if self._made:
            return
        self._epochs.mkdir(parents=True, exist_ok=True)
        if self._owner:
            self._owner.claim(self._root)
        alias = self.config.alias
        if alias and not os.path.lexists(alias):
            alias.parent.mkdir(parents=True, exist_ok=True)
            alias.symlink_to(os.path.relpath(self._root, alias.parent))
        self._made = True

    def _put(
        self,
        name: str,
        target: Path,
        position: dict[str, Any],
        best_metric: float | None,
        write: Callable[[Path], None],
        then: Callable[[], None],
    ) -> bool:
        """Write a checkpoint, then do what `then` does; False, with a message, where the disk does not take it."""
        start = time.monotonic()

        def write_all(directory: Path) -> None:
            write(directory)
            self._write_info(directory, position, best_metric)

        try:
            self._make_directories()
            put_directory(self._root / "work", target, write_all)
            then()
        except (OSError, TypeError) as error:  # TypeError: a state that no restart could read, see `write_state`
            shutil.rmtree(self._root / "work", ignore_errors=True)
            self._models = None  # this one may have its model all the same, and no link or clean-up
            self._note(f"{name} is not saved, training goes on: {error}", logging.WARNING)
            return False
        self._saved_at = time.monotonic()
        self._note(f"saved {name} in {self._saved_at - start:.3f} s")
        return True

    def _write_info(self, directory: Path, position: dict[str, Any], best_metric: float | None) -> None:
        elapsed = "__FIRST__" if self._saved_at is None else round(time.monotonic() - self._saved_at, 3)
        info = {
            "epoch": position["epoch"],
            "save_best_metric": self.config.save_best_metric,
            "best_metric_last": best_metric,
            "model_file": MODEL,
            "checksum": str(crc32(directory / MODEL)) if self.config.checksum else CHECKSUM_OFF,  # as CANDLE has it
            "timestamp": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "time_elapsed": elapsed,
            "metadata": self.config.metadata,
            **position,
        }
        (directory / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    def _relink(self, name: str, epoch: int) -> None:
        replace_link(self._root / name, Path("epochs") / self._directory(epoch).name)

    def _remove_partial(self, but: Path | None = None) -> None:
        for path in self._partial.glob("*"):
            if path != but:
                shutil.rmtree(path, ignore_errors=True)

    def _clean(self, newest: int) -> None:
        """Remove the models of older epochs. Those after `newest` are left by a roll back, to be overwritten."""
        # Looked for once: after epoch 200 there are 200 directories to look into, on the file system of all workers.
        if self._models is None:
            self._models = set(self._saved())
        self._models.add(newest)
        older = sorted((epoch for epoch in self._models if epoch <= newest), reverse=True)
        for epoch in older[self.config.keep_limit :]:
            if epoch == self._linked("best"):
                continue
            # The model last: with it, this epoch counts as saved, and a clean-up cut short is taken up again.
            # The checksums last but one: they name what must be there, so that half a checkpoint is not used.
            order = (CHECKSUMS, MODEL)
            for path in sorted(self._directory(epoch).glob("*"), key=lambda path: (path.name in order, path.name)):
                if path.name != INFO:
                    path.unlink()
            self._models.remove(epoch)
            self._note(f"removed the model of epoch {epoch}")

    def restore(self, read: Callable[[Path, dict[str, Any]], T]) -> T | None:
        """Restore the checkpoint at `last`, or the newest one before it that `read(directory, info)` can use.

        `read` raises where the checkpoint is damaged, having changed nothing, or CkptError where it cannot undo what
        it has changed. Returns what it returned; None where training starts from scratch. Raises CkptError where that
        is not allowed (mode `required`), and where the checkpoints are another RUN's.
        """
        if self.config.restart_mode == "off":
            return None
        if self._owner and (reason := self._owner.refusal(self._root)):
            raise CkptError(reason)
        candidates = self._candidates()
        for directory in candidates:
            try:
                info = self._verified_info(directory)
                value = read(directory, info)
            except (MemoryError, CkptError):
                raise
            # Whatever a damaged file makes its reader raise: OSError, ValueError, KeyError, zlib.error, ...
            except Exception as error:
                self._note(f"checkpoint {directory} cannot be used: {type(error).__name__}: {error}", logging.WARNING)
                continue
            self._go_back_to(info)
            return value
        if self.config.restart_mode == "required":
            raise CkptError(
                f"no usable checkpoint in {self._root}, and ckpt_restart_mode is required: auto starts from scratch"
            )
        if candidates:
            self._note("no usable checkpoint: training starts from scratch", logging.WARNING)
        return None

    def _candidates(self) -> list[Path]:
        """Saved checkpoints, newest first. Whoever links `last` to an older epoch rolls back to it."""
        saved, last = self._saved(), self._linked("last")
        if last is None and os.path.lexists(self._root / "last"):
            self._note("the link `last` leads nowhere: taking the newest epoch that is there", logging.WARNING)
        found = {(epoch, 0): self._directory(epoch) for epoch in saved if last is None or epoch <= last}
        for path in self._partial.glob(f"*/{INFO}"):
            with contextlib.suppress(OSError, ValueError):
                info = json.loads(path.read_text(encoding="utf-8"))
                if last is None or info.get("last") == last:
                    found[info["epoch"], info["batch"]] = path.parent
        return [directory for _, directory in sorted(found.items(), reverse=True)]

    def _info(self, directory: Path) -> dict[str, Any]:
        return dict(json.loads((directory / INFO).read_text(encoding="utf-8")))

    def _verified_info(self, directory: Path) -> dict[str, Any]:
        verify_checksums(directory)
        info = self._info(directory)
        expected = info.get("checksum", CHECKSUM_OFF)
        if expected != CHECKSUM_OFF and int(expected) != crc32(directory / MODEL):
            raise ValueError(f"checksum of {MODEL} is not {expected}")
        return info

    def _go_back_to(self, info: dict[str, Any]) -> None:
        epoch = int(info["epoch"])
        if "batch" not in info and self._linked("last") != epoch:
            self._relink("last", epoch)
        if info.get("save_best_metric") == self.config.save_best_metric and self.config.save_best:
            self._best_metric = info.get("best_metric_last")
            self._relink_best(epoch)
        within = f", within the next, after batch {info['batch']}" if "batch" in info else ""
        self._note(f"restarting after epoch {epoch}{within}")

    def _relink_best(self, epoch: int) -> None:
        """After a roll back, `best` may lead to an epoch that has not happened yet, or to a damaged one."""
        linked = self._linked("best")
        if linked is not None and linked <= epoch:
            return
        if self._best_metric in (None, self.config.best_metric_last):  # no epoch was better than nothing
            (self._root / "best").unlink(missing_ok=True)
            return
        for earlier in sorted(e for e in self._saved() if e <= epoch):
            with contextlib.suppress(OSError, ValueError):  # the information on another epoch may be damaged too
                if self._info(self._directory(earlier)).get("best_metric_last") == self._best_metric:
                    self._relink("best", earlier)
                    return

    def _directory(self, epoch: int) -> Path:
        return self._epochs / f"{epoch:03d}"

    def _saved(self) -> list[int]:
        """Epochs with a model, in no order."""
        found = [path.parent.name for path in self._epochs.glob(f"*/{MODEL}")]
        return [int(name) for name in found if name.isdecimal()]

    def _linked(self, name: str) -> int | None:
        """The epoch a link leads to, None if its model is not there. CANDLE's absolute links count too."""
        link = self._root / name
        target = link.readlink().name if link.is_symlink() else ""
        return int(target) if target.isdecimal() and (self._epochs / target / MODEL).exists() else None

    def _note(self, message: str, level: int = logging.INFO) -> None:
        log.log(level, message)
        line = f"{datetime.now().strftime('%Y-%m-%d %H:%M:%S')} CKPT {logging.getLevelName(level)} {message}\n"
        try:
            with (self._root / "ckpt.log").open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:  # the disk is full, or there is no directory yet: the message went to the RUN's log
            pass
