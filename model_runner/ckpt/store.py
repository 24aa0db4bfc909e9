"""The checkpoint directory: layout, links, atomic saves, retention, and which checkpoint a restart takes.

    ckpts/ckpt.log
    ckpts/work/                               a save in progress
    ckpts/epochs/NNN/{model.h5, ckpt-info.json, ...}    epochs count from 1
    ckpts/best -> epochs/NNN, ckpts/last -> epochs/NNN

This is the layout of CANDLE's ckpt module, with relative links. The store knows no model framework: what a
checkpoint consists of is written and read by functions that get a directory.
"""

import contextlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from model_runner.ckpt.config import CkptConfig

MODEL = "model.h5"
INFO = "ckpt-info.json"
CHECKSUM_OFF = "__DISABLED__"

T = TypeVar("T")
log = logging.getLogger("RUNNER.ckpt")


class CkptError(Exception):
    """No checkpoint can be used although ckpt_restart_mode is `required`."""


class Store:
    """The checkpoints of one RUN, according to `config`."""

    def __init__(self, config: CkptConfig) -> None:
        self.config = config
        self._root = config.directory
        self._epochs = self._root / "epochs"
        self._best_metric = config.best_metric_last
        self._saved_at: float | None = None
        self._made = False

    def save(self, epoch: int, metric: float | None, write: Callable[[Path], None], final: bool = False) -> bool:
        """Save `epoch` (counted from 1) if it is due: best so far, `final`, last of all, or by the interval.

        `metric`: the epoch's value of `save_best_metric`, None where there is none. `write(directory)` writes
        the files of the checkpoint, model.h5 among them. Returns whether the epoch was saved; a full or
        failing disk costs this checkpoint only, with a message.
        """
        best = self._is_best(epoch, metric)
        reason = "best" if best else "final" if final or epoch == self.config.epochs else self._interval(epoch)
        if reason is None:
            return False
        start = time.monotonic()
        try:
            self._make_directories()
            self._put(epoch, write, metric if best else self._best_metric)
            if best:
                self._best_metric = metric
                self._relink("best", epoch)
            self._relink("last", epoch)
            self._saved_at = time.monotonic()
            self._note(f"saved epoch {epoch} ({reason}) in {self._saved_at - start:.3f} s")
            self._clean(epoch)
        except OSError as error:
            shutil.rmtree(self._root / "work", ignore_errors=True)
            self._note(f"epoch {epoch} is not saved, training goes on: {error}", logging.WARNING)
            return False
        return True

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
        alias = self.config.alias
        if alias and alias != self._root and not os.path.lexists(alias):
            alias.parent.mkdir(parents=True, exist_ok=True)
            alias.symlink_to(os.path.relpath(self._root, alias.parent))
        self._made = True

    def _put(self, epoch: int, write: Callable[[Path], None], best_metric: float | None) -> None:
        work = self._root / "work"
        shutil.rmtree(work, ignore_errors=True)  # what a killed save has left
        new, old = work / "new", work / "old"
        new.mkdir(parents=True)
        write(new)
        self._write_info(new, epoch, best_metric)
        for path in (*new.iterdir(), new):
            _fsync(path)
        target = self._directory(epoch)
        if target.exists():  # after a roll back: a directory that is not empty cannot be replaced by a rename
            target.rename(old)
        new.rename(target)
        _fsync(self._epochs)
        shutil.rmtree(old, ignore_errors=True)

    def _write_info(self, directory: Path, epoch: int, best_metric: float | None) -> None:
        elapsed = "__FIRST__" if self._saved_at is None else round(time.monotonic() - self._saved_at, 3)
        info = {
            "epoch": epoch,
            "save_best_metric": self.config.save_best_metric,
            "best_metric_last": best_metric,
            "model_file": MODEL,
            "checksum": _crc32(directory / MODEL) if self.config.checksum else CHECKSUM_OFF,
            "timestamp": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "time_elapsed": elapsed,
            "metadata": self.config.metadata,
        }
        (directory / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    def _relink(self, name: str, epoch: int) -> None:
        temporary = self._root / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("epochs") / self._directory(epoch).name)
        temporary.replace(self._root / name)
        _fsync(self._root)

    def _clean(self, newest: int) -> None:
        """Remove the models of older epochs. Those after `newest` are left by a roll back, to be overwritten."""
        older = [epoch for epoch in self._saved() if epoch <= newest]
        for epoch in older[self.config.keep_limit :]:
            if epoch == self._linked("best"):
                continue
            # The model last: with it, this epoch counts as saved, and a clean-up cut short is taken up again.
            for path in sorted(self._directory(epoch).iterdir(), key=lambda path: path.name == MODEL):
                if path.name != INFO:
                    path.unlink()
            self._note(f"removed the model of epoch {epoch}")

    def restore(self, read: Callable[[Path, dict[str, Any]], T]) -> T | None:
        """Restore the checkpoint at `last`, or the newest one before it that `read(directory, info)` can use.

        `read` raises where the checkpoint is damaged, having changed nothing. Returns what it returned; None
        where training starts from scratch. Raises CkptError where that is not allowed (mode `required`).
        """
        if self.config.restart_mode == "off":
            return None
        candidates = self._candidates()
        for epoch in candidates:
            directory = self._directory(epoch)
            try:
                info = self._verified_info(epoch)
                value = read(directory, info)
            except MemoryError:
                raise
            # Whatever a damaged file makes its reader raise: OSError, ValueError, KeyError, zlib.error, ...
            except Exception as error:
                self._note(f"checkpoint {directory} cannot be used: {type(error).__name__}: {error}", logging.WARNING)
                continue
            self._go_back_to(epoch, info)
            return value
        if self.config.restart_mode == "required":
            raise CkptError(f"no usable checkpoint in {self._root} (ckpt_restart_mode is required)")
        if candidates:
            self._note("no usable checkpoint: training starts from scratch", logging.WARNING)
        return None

    def _candidates(self) -> list[int]:
        """The saved epochs, newest first. Whoever links `last` to an older epoch rolls back to it."""
        saved, last = self._saved(), self._linked("last")
        if last is None and os.path.lexists(self._root / "last"):
            self._note("the link `last` leads nowhere: taking the newest epoch that is there", logging.WARNING)
        return [epoch for epoch in saved if last is None or epoch <= last]

    def _info(self, epoch: int) -> dict[str, Any]:
        return dict(json.loads((self._directory(epoch) / INFO).read_text(encoding="utf-8")))

    def _verified_info(self, epoch: int) -> dict[str, Any]:
        info = self._info(epoch)
        expected = info.get("checksum", CHECKSUM_OFF)
        if expected != CHECKSUM_OFF and int(expected) != _crc32(self._directory(epoch) / MODEL):
            raise ValueError(f"checksum of {MODEL} is not {expected}")
        return info

    def _go_back_to(self, epoch: int, info: dict[str, Any]) -> None:
        if self._linked("last") != epoch:
            self._relink("last", epoch)
        if info.get("save_best_metric") == self.config.save_best_metric and self.config.save_best:
            self._best_metric = info.get("best_metric_last")
            self._relink_best(epoch)
        self._note(f"restarting after epoch {epoch}")

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
                if self._info(earlier).get("best_metric_last") == self._best_metric:
                    self._relink("best", earlier)
                    return

    def _directory(self, epoch: int) -> Path:
        return self._epochs / f"{epoch:03d}"

    def _saved(self) -> list[int]:
        """Epochs with a model, newest first."""
        found = [path.parent.name for path in self._epochs.glob(f"*/{MODEL}")]
        return sorted((int(name) for name in found if name.isdigit()), reverse=True)

    def _linked(self, name: str) -> int | None:
        """The epoch a link leads to, None if its model is not there. CANDLE's absolute links count too."""
        link = self._root / name
        target = link.readlink().name if link.is_symlink() else ""
        return int(target) if target.isdigit() and (self._epochs / target / MODEL).exists() else None

    def _note(self, message: str, level: int = logging.INFO) -> None:
        log.log(level, message)
        line = f"{datetime.now().strftime('%Y-%m-%d %H:%M:%S')} CKPT {logging.getLevelName(level)} {message}\n"
        try:
            with (self._root / "ckpt.log").open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:  # the disk is full, or there is no directory yet: the message went to the RUN's log
            pass


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
