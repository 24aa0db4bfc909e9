"""The main program of an isolated child: one persistent Python instance that runs one task after another.

Started by `spawner` as `python -m swiftpy.runtime.child FOLDER CHANNEL PARENT`. It reads (function, payload) from its
channel and sends an `Answer`, see `call`; a `Reference` that it sends meanwhile is answered with the value. Software
and data that a task loads stay loaded for the next.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import select
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from types import FrameType

from swiftpy.parent import end_with_parent
from swiftpy.runtime.call import Run, forget, import_from
from swiftpy.runtime.output import flush
from swiftpy.runtime.signals import in_forks
from swiftpy.runtime.store import LostError, Packed, Reference, fetch_with


def _exit_at_hangup(fd: int) -> None:
    """Exit as soon as the rank has closed its end, also in the middle of a task.

    The kernel does the same when the helper dies; this holds too where the helper cannot see it (a rank that closed
    its socket but lives). Only the hang-up is waited for: requests are left to the main thread.
    """
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    poller.poll()
    os._exit(1)


def _leave_to_task(number: int, frame: FrameType | None) -> None:
    pass


def main() -> None:
    """Serve the channel until its end."""
    folder, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if folder:
        import_from(folder)
    end_with_parent(parent)
    faulthandler.enable()  # a segmentation fault leaves the Python stack in out-NNN.txt
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A request to stop is for the task to heed. Not SIG_IGN, which what the task starts would inherit for ever.
    signal.signal(signal.SIGTERM, _leave_to_task)
    in_forks({signal.SIGTERM: signal.SIG_DFL}, _leave_to_task)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # as the rank's own: no RUN fails because of a name that it prints
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.argv = sys.argv[:1]
    os.set_inheritable(fd, False)  # or what a task starts, and leaves running, would keep the channel open
    channel = Connection(fd)
    threading.Thread(target=_exit_at_hangup, args=(fd,), daemon=True).start()

    def fetch(reference: Reference) -> Packed:
        """By way of the rank, which is in the job."""
        channel.send(reference)
        packed = channel.recv()
        if isinstance(packed, LostError):
            raise packed
        assert isinstance(packed, Packed)
        return packed

    fetch_with(fetch)
    while True:
        request = channel.recv()
        if request is None:
            return
        function, payload = request
        answer = Run(function, payload).make()
        if payload[0] is not None:  # it comes with each call
            forget(function)
        flush()
        channel.send(answer)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        # Not the interpreter's own end, which waits for ever for processes that tasks of before have left running.
        with contextlib.suppress(Exception):
            traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
