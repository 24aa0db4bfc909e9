"""`python -m swiftpy SCRIPT`: an ordinary Python script on rank 0, whose tasks run on the other ranks."""

from __future__ import annotations

import argparse
import gc
import os
import runpy
import sys
import time
import traceback
from pathlib import Path

from swiftpy.arguments import whole
from swiftpy.core.scheduler import Scheduler
from swiftpy.errors import SOME_FAILED, Deadlock, UserError
from swiftpy.flow import program
from swiftpy.flow.engine import Engine
from swiftpy.runtime.call import import_from, leave_fork
from swiftpy.runtime.job import Application, JobSpec, Lead
from swiftpy.runtime.server import Server

_EPILOG = """\
example:
  mpiexec -n 4 python -m swiftpy sweep.py 100

exit codes: that of the script; 1 also if it raised; 2 bad usage; 3 tasks failed, and it did not ask
"""


def _kinds(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(","):
        name, _, count = part.partition(":")
        if not name.isidentifier() or not count.isdecimal():
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form gpu:1")
        counts[name] = int(count)
    return counts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swiftpy",
        description="Run a Python script on rank 0; its tasks run on the other ranks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what ran when, for ui.perfetto.dev")
    parser.add_argument("--summary", action="store_true", help="at the end, say how busy the workers were")
    parser.add_argument("--hostmap", action="store_true", help="say which rank is on which host, and what it is")
    parser.add_argument(
        "--kinds",
        type=_kinds,
        default={},
        metavar="KIND:N,...",
        help="of each node's workers, N are of this KIND (for @task(kind=...)), in order of rank",
    )
    parser.add_argument(
        "--servers",
        type=whole(2, "with one, nobody would share the work"),
        default=0,
        metavar="K",
        help="K more ranks serve a part of the workers each: for thousands of ranks, see docs/simulator.md",
    )
    parser.add_argument("script", type=Path, metavar="SCRIPT")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="what the script gets as arguments")
    return parser


class ScriptApplication(Engine, Application):
    """The program that is started with mpiexec: an engine on rank 0."""

    _options: argparse.Namespace
    _hosts: dict[int, str]
    _workers: list[int]
    _folder: str  # of the script
    _code = 0

    def __init__(self, arguments: list[str]) -> None:
        super().__init__()
        self._arguments = arguments

    def prepare(self, lead: Lead) -> JobSpec:
        """See Application."""
        self._options = _parser().parse_args(self._arguments)
        if not self._options.script.is_file():
            raise UserError(f"{self._options.script}: there is no such script")
        self._folder = str(self._options.script.resolve().parent)
        lead.layout.count_workers()
        self.stop = lead.stop
        self._hosts = dict(enumerate(lead.layout.hosts))
        if self._options.trace is not None or self._options.summary:
            from swiftpy.flow.trace import Trace  # the others wait for what rank 0 imports

            try:
                self.trace = Trace(time.monotonic, self._options.trace)
            except OSError as error:
                raise UserError(f"--trace {self._options.trace}: {error.strerror}") from None
        if self._options.servers:
            lead.layout.divide(self._options.servers)
        self._workers = list(lead.layout.workers)
        lead.layout.assign(self._options.kinds)
        if self._options.hostmap:
            for line in lead.layout.describe():
                print(line, file=sys.stderr)
        path = [self._folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        return JobSpec(
            outputs=(),
            env={"PYTHONPATH": os.pathsep.join(path)},
            folder=self._folder,
            grace=0.0,
            groups=lead.layout.groups,
            traced=self.trace is not None,
        )

    def serve(self, server: Server, scheduler: Scheduler) -> None:
        """See Application."""
        gc.set_threshold(10_000)  # not 700: most of what a call leaves behind is gone before there are so many objects
        self.attach(server, scheduler)
        program.begin(self)
        own = os.getpid()
        self._code = self._run_script()
        if os.getpid() != own:
            leave_fork(self._code)
        if self._code:
            self.stop.reason = self.stop.reason or "the script failed"
        try:
            if self.settling.interrupted and not self.told_to_stop and self.failures.culprit is None:
                raise KeyboardInterrupt(self.stop.reason)  # by a signal, while the script computed
            self.wait_for_all()
        except (Deadlock, KeyboardInterrupt) as reason:
            print(f"swiftpy: {reason}: ending with tasks unfinished", file=sys.stderr)
            self.stop.reason = self.stop.reason or "deadlock"
            self._code = self._code or 1
        self.close()
        if self.trace is not None:
            self.trace.close(self._hosts)
            if self._options.summary:
                workers = {rank: self._hosts[rank] for rank in self._workers}
                print(*self.trace.summary(workers), sep="\n", file=sys.stderr)
        unheard = self.failures.unheard
        for line in unheard[:10]:
            print(f"swiftpy: a task failed: {line}", file=sys.stderr)
        if unheard and not self._code:
            count = len(unheard)
            print(f"swiftpy: {count} tasks failed, and the script did not ask for their results", file=sys.stderr)
            self._code = SOME_FAILED

    def finish(self) -> int:
        """See Application."""
        return self._code

    def _run_script(self) -> int:
        sys.argv = [str(self._options.script), *self._options.args]
        import_from(self._folder)
        try:
            runpy.run_path(str(self._options.script), run_name="__main__")
        except SystemExit as end:
            if not isinstance(end.code, int | None):
                print(end.code, file=sys.stderr)
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException as exception:
            trace = exception.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename != str(self._options.script):
                trace = trace.tb_next  # the user need not see how we run the script
            traceback.print_exception(type(exception), exception, trace or exception.__traceback__)
            return 1
        return 0
