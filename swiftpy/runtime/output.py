"""Where output goes: every rank's into its own file, the job's own messages to the terminal as well."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from swiftpy.errors import disk_says


class Console:
    """What the job says to people: to the terminal or the scheduler's log, and from `keep` on also to a file."""

    def __init__(self) -> None:
        self._stream: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="replace")
        self._copy: TextIO | None = None
        self._bar = 0

    def keep(self, path: Path) -> None:
        """Append everything that is said from now on to this file as well."""
        self._copy = path.open("a", buffering=1, encoding="utf-8", errors="replace")

    def line(self, text: str) -> None:
        """Say something, on a line of its own (or several)."""
        self._write("\r" + " " * self._bar + "\r" if self._bar else "")
        self._bar = 0
        self._write(text + "\n")
        if self._copy:
            try:
                self._copy.write(text + "\n")
            except OSError:
                self._copy = None  # a full disk must not end the job

    def bar(self, text: str) -> None:
        """Show a line that the next one overwrites. It goes to the terminal alone."""
        self._write("\r" + text.ljust(self._bar))
        self._bar = len(text)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the reader of our pipe is gone (a closed terminal); the RUNs go on
            self._stream.write(text)  # which goes out at once, as there is a line end or a carriage return in it


def redirect(path: Path) -> int:
    """Append this process' stdout and stderr to a file from now on; return the file's descriptor.

    Opened for appending, so that a child that has the same file open never overwrites what the rank wrote. Where it
    cannot be made (of ten thousand ranks' files, a quota takes all but one), they go on where the launcher takes them.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        print(f"{disk_says(error, path)}: what this rank prints comes here instead", file=sys.stderr, flush=True)
        return 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.stdout, sys.stderr = _text(1), _text(2)
    return fd


class _Lossy(io.FileIO):
    """A file whose full disk is nobody's error: a rank that cannot log must go on, to report and to stop in order."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def _text(fd: int) -> TextIO:
    raw = _Lossy(fd, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def flush() -> None:
    """The output of a task. What it closed is opened anew: the next task's first print() would fail, or the rank's."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        _keep_taken(fd)
        try:
            getattr(sys, name).flush()
        except OSError:  # the disk is full
            pass
        except Exception:  # closed, or anything that the task put in its place
            setattr(sys, name, _text(fd))


def _keep_taken(fd: int) -> None:
    """Let a descriptor that was closed, as `with open(1, "w")` does, lead nowhere: the next file would get its number,
    and with it what is printed."""
    try:
        os.get_inheritable(fd)  # asks no file system
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        if null != fd:
            os.close(null)
        os.set_inheritable(fd, True)
