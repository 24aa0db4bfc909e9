"""The journal of an EXP: one JSON object per line, on disk before anyone is told. The server writes it.

Every line has `event` and `t` (seconds since 1970). The vocabulary, `?` = may be null:

    exp_created      restart?                        the first line; EXP that is to be carried over
    job_submitted    upf, dflts?, jobid, site, scheduler, job, chain
                                                     by the submitting side: job number `job` of at most `chain`
    job_started      upf, dflts?, procs, restart?, version, host, pid, jobid?, runs, epoch_seconds
                                                     names of the copies in the EXP; everything was carried
                                                     over; the longest epoch that is known from before, or 0
    run_skipped      id, reason                      needs no training: finished before, or so says
                                                     its pre module, which a restart asks again
    run_started      id, attempt, rank, host
    run_done         id, attempt, rank, host, seconds, value, epoch_seconds?
                                                     mean of an epoch, where all were trained in this attempt
    run_failed       id, attempt, final, kind, message, log, rank, host, seconds
                                                     `final`: no attempt is left
    run_interrupted  id, attempt, rank, host, epoch_seconds?
                                                     ended by the stop of the job, not by its own doing
    job_stopped      code, reason, done, failed, skipped, left
                                                     code and reason alone from a batch job that never began

A RUN without `run_done`, `run_skipped` or a final `run_failed` was running or waiting when the job died.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any


class Journal:
    """The single writer of a journal. A line cut short by a crash or a full disk costs that line only."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; `flush` brings it to disk. A value that JSON does not know is written as its text.

        OSError (disk full): the event is not safely recorded; the caller decides, and may write it again.
        """
        record = {"t": round(self._clock(), 3), "event": event, **fields}
        line = json.dumps(record, default=str).encode() + b"\n"
        if self._torn:  # or this line would become the tail of the torn one, and be lost with it
            line = b"\n" + line
        self._torn = True
        while line:  # a nearly full disk takes a part of the line and refuses the rest at the next call
            line = line[os.write(self._file, line) :]
        self._torn = False

    def flush(self) -> None:
        """Bring everything written so far to disk: one fsync for all events of a moment. OSError: as for `write`."""
        os.fsync(self._file)

    def close(self) -> None:
        """Bring everything to disk and close the file."""
        self.flush()
        os.close(self._file)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> list[dict[str, Any]]:
    """All events in order; [] without a journal. Torn ones are left out (half an object is no object)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [event for line in data.split(b"\n") if (event := _event(line)) is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:  # torn in the middle of a word, or (UnicodeDecodeError) of a character
        return None
    return event if isinstance(event, dict) and "event" in event else None
