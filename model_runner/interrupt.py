"""A request to end the RUN early, and what a model that follows it raises.

    if interrupt.requested():
        ...                                         # write a checkpoint
        raise interrupt.Interrupted(completed_epochs)

While a RUN runs, SIGTERM and SIGUSR1 (a batch system before the walltime, a deadline, a person) are such a request:
they set a flag and disturb nothing. A model that never looks at it is not interrupted.
"""

import os
import signal
import threading
from types import FrameType

_reason: str | None = None
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_masks = threading.local()


class Interrupted(Exception):  # noqa: N818 - nothing is wrong with such a RUN
    """The RUN ended early because it was asked to, with a checkpoint to go on from after `epochs` completed ones."""

    def __init__(self, epochs: int | None = None) -> None:
        after = "" if epochs is None else f" after {epochs} epochs"
        super().__init__(f"interrupted by {_reason or 'itself'}{after}")
        self.reason = _reason or ""
        self.epochs = epochs


def requested() -> str | None:
    """Why the RUN is to end early (the signal's name); None if it is not."""
    return _reason


def watch() -> None:
    """Take SIGTERM and SIGUSR1 as requests from now on; `isolation` brings the handlers of before back.

    Only the main thread can have handlers: in another one, nothing is ever requested.
    """
    global _reason
    _reason = None
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    global _reason
    _reason = signal.Signals(number).name


# What the model forks, such as a pool that loads data, ends by these signals as any process does; with our handler,
# `terminate()` would do nothing. They wait until then, as it may come before the first instruction.


def _block() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _end_forks() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is _note:
            signal.signal(number, signal.SIG_DFL)
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_end_forks)
