"""Nothing leaks from one RUN to the next in the same process.

`isolated` saves what a model may change, and brings it back however the RUN ends. What it cannot bring back
(threads and processes that still run) it reports. Loaded software stays loaded: that is what the persistent process is
for.
"""

import contextlib
import importlib
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from model_runner import keras_state

log = logging.getLogger("RUNNER")

_SUPERVISOR = Path(__file__).parent / "supervisor"

# Modules from the directories of users' models, by those directories: see `_own_modules`.
_loaded: dict[tuple[Path, ...], dict[str, ModuleType]] = {}


@contextlib.contextmanager
def isolated(own: Sequence[Path], work_dir: Path) -> Iterator[None]:
    """One RUN's view of the process: `own` directories and `work_dir` lead its Python path, which ends with modules
    of CANDLE Supervisor; random seeds are fresh.

    On exit everything of `_ASPECTS` is as it was on entry.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for save, restore in _ASPECTS:
            stack.callback(restore, save())
        stack.enter_context(_own_modules((*own, _SUPERVISOR)))
        stack.callback(_report_threads, set(threading.enumerate()))
        stack.callback(_report_processes, multiprocessing.active_children())
        # Absolute, because "" and relative entries would mean the RUN directory after its chdir.
        entries = [*map(str, own), str(work_dir), *(str(work_dir / entry) for entry in sys.path), str(_SUPERVISOR)]
        sys.path[:] = list(dict.fromkeys(entries))
        importlib.invalidate_caches()
        seed_random(None)
        yield


def seed_random(seed: int | None) -> None:
    """Seed Python's and NumPy's global generators; None seeds from the operating system, as in a new process.

    Keras 3 draws the seeds of initializers and dropout from Python's generator. `tf.random.set_seed` is left
    alone: called in each RUN it makes every later operation slower.
    """
    random.seed(seed)
    np.random.seed(None if seed is None else seed % 2**32)


@contextlib.contextmanager
def voice_kept(name: str) -> Iterator[None]:
    """What is said after a model goes where it went before, and so do the lines of the logger `name`.

    A model may set `sys.stdout = open("train.log", "w")`, and close it: the first print() after it would fail.
    """
    streams = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        enable_loggers(name)


def enable_loggers(name: str) -> None:
    """The logger `name` and those below it: a model's `logging.config` disables all that it does not name."""
    for known, logger in _loggers().items():
        if f"{known}.".startswith(f"{name}."):
            logger.disabled = False


@contextlib.contextmanager
def _own_modules(own: tuple[Path, ...]) -> Iterator[None]:
    """Keep modules from `own` directories out of other RUNs' sight, yet loaded for RUNs that have the same
    ones.

    With plain `sys.modules`, the `utils.py` beside the first RUN's model would be the `utils` of every later
    model.
    """
    before = dict(sys.modules)
    mine = _loaded.setdefault(own, {})
    sys.modules.update(mine)
    try:
        yield
    finally:
        changed = [(name, one) for name, one in sys.modules.items() if before.get(name) is not one]
        for name, module in changed:
            if _directory(name, module) in own:
                mine[name] = module
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in before.keys() - sys.modules.keys()})


def _directory(name: str, module: ModuleType) -> Path | None:
    """The directory on the Python path that a module, or the package it belongs to, was imported from."""
    attributes = vars(module)  # getattr() would make lazy modules import what they stand for
    file = attributes.get("__file__")
    parents = Path(file).parents if isinstance(file, str) else ()
    levels = name.count(".") + ("__path__" in attributes)
    return parents[levels] if levels < len(parents) else None


def _report_threads(before: set[threading.Thread]) -> None:
    for thread in threading.enumerate():
        if thread not in before and thread.is_alive():
            log.warning("the RUN left a thread behind: %s", thread.name)


def _report_processes(before: list[multiprocessing.process.BaseProcess]) -> None:
    """Those of `multiprocessing`, which end with the job: until then they may write into the RUN directory."""
    for process in multiprocessing.active_children():
        if process not in before:
            log.warning("the RUN left a process behind: %s (pid %d)", process.name, process.pid)


def _restore_environ(saved: dict[str, str]) -> None:
    for name in os.environ.keys() - saved.keys():
        del os.environ[name]
    for name, value in saved.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _save_lists() -> list[tuple[str, list[Any], list[Any]]]:
    return [(name, values := getattr(sys, name), list(values)) for name in ("argv", "path")]


def _restore_lists(saved: list[tuple[str, list[Any], list[Any]]]) -> None:
    for name, values, items in saved:
        values[:] = items
        setattr(sys, name, values)


_ATTRIBUTES = ((sys, "stdin"), (sys, "stdout"), (sys, "stderr"), (sys, "excepthook"), (tempfile, "tempdir"))


def _save_attributes() -> list[Any]:
    return [getattr(owner, name) for owner, name in _ATTRIBUTES]


def _restore_attributes(saved: list[Any]) -> None:
    for (owner, name), value in zip(_ATTRIBUTES, saved, strict=True):
        setattr(owner, name, value)


def _save_descriptors() -> dict[int, int]:
    return {fd: os.dup(fd) for fd in (1, 2)}


def _restore_descriptors(saved: dict[int, int]) -> None:
    """Models point descriptors 1 and 2 elsewhere to silence TensorFlow."""
    for fd, copy in saved.items():
        os.dup2(copy, fd)
        os.close(copy)


def _save_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _save_signals() -> tuple[bool, dict[int, Any]]:
    alarm = signal.getitimer(signal.ITIMER_REAL)[0] > 0
    return alarm, {number: signal.getsignal(number) for number in signal.valid_signals()}


def _restore_signals(saved: tuple[bool, dict[int, Any]]) -> None:
    """Handlers, and an alarm that the RUN left ticking: it would go off in the next one."""
    if threading.current_thread() is not threading.main_thread():
        return  # nor could the RUN change them
    alarm, handlers = saved
    if not alarm:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


_LoggerState = tuple[list[logging.Handler], list[Any], int, bool, bool]


def _loggers() -> dict[str, logging.Logger]:
    named = logging.root.manager.loggerDict.items()
    return {"": logging.root, **{name: one for name, one in named if isinstance(one, logging.Logger)}}


def _save_logging() -> tuple[int, dict[str, _LoggerState]]:
    states = {
        name: (list(one.handlers), list(one.filters), one.level, one.propagate, one.disabled)
        for name, one in _loggers().items()
    }
    return logging.root.manager.disable, states


def _restore_logging(saved: tuple[int, dict[str, _LoggerState]]) -> None:
    """Loggers that the RUN made become as new ones are; files that its handlers hold open are closed."""
    logging.disable(saved[0])
    for name, one in _loggers().items():
        state = saved[1].get(name, ([], [], logging.NOTSET, True, False))
        for handler in one.handlers:
            if handler not in state[0]:
                handler.close()
        one.handlers[:], one.filters[:] = state[0], state[1]
        one.setLevel(state[2])
        one.propagate, one.disabled = state[3], state[4]


def _save_random() -> tuple[Any, Any, Any]:
    return random.getstate(), np.random.get_state(), np.geterr()


def _restore_random(saved: tuple[Any, Any, Any]) -> None:
    random.setstate(saved[0])
    np.random.set_state(saved[1])
    np.seterr(**saved[2])


# (save, restore): what is saved on entry is restored on exit, last one first.
_ASPECTS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (os.getcwd, os.chdir),
    (lambda: dict(os.environ), _restore_environ),
    (_save_lists, _restore_lists),
    (_save_descriptors, _restore_descriptors),
    (_save_attributes, _restore_attributes),
    (_save_umask, os.umask),
    (_save_signals, _restore_signals),
    (_save_logging, _restore_logging),
    (_save_random, _restore_random),
    (keras_state.save, keras_state.restore),
)
