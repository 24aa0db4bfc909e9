"""`python -m swiftpy SCRIPT`: an ordinary Python script on rank 0, whose tasks run on the other ranks."""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from pathlib import Path

from swiftpy.core.scheduler import Scheduler
from swiftpy.errors import Deadlock, UserError
from swiftpy.flow import program
from swiftpy.flow.engine import Engine
from swiftpy.runtime.job import JobSpec, Lead
from swiftpy.runtime.server import Server

_EPILOG = """\
example:
  mpiexec -n 4 python -m swiftpy sweep.py 100

exit codes: that of the script; 1 also if it raised; 2 bad usage; 3 tasks failed, and it did not ask
"""


class ScriptApplication(Engine):
    """See `swiftpy.runtime.job.Application`."""

    _options: argparse.Namespace
    _code = 0

    def __init__(self, arguments: list[str]) -> None:
        super().__init__()
        self._arguments = arguments

    def prepare(self, lead: Lead) -> JobSpec:
        """See Application."""
        parser = argparse.ArgumentParser(
            prog="python -m swiftpy",
            description="Run a Python script on rank 0; its tasks run on the other ranks.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("script", type=Path, metavar="SCRIPT")
        parser.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="what the script gets as arguments")
        self._options = parser.parse_args(self._arguments)
        if not self._options.script.is_file():
            raise UserError(f"{self._options.script}: there is no such script")
        if not lead.layout.workers:
            raise UserError("there is one process only: tasks need a worker; start with mpiexec -n 2 or more")
        return JobSpec(outputs=(), grace=5.0)

    def failed(self, reasons: list[str]) -> int:
        """See Application."""
        return 1

    def serve(self, server: Server, scheduler: Scheduler) -> None:
        """See Application."""
        self.attach(server, scheduler)
        program.begin(self)
        self._code = self._run_script()
        try:
            self.wait_for_all()
        except Deadlock as deadlock:
            print(deadlock, file=sys.stderr)
            self._code = self._code or 1
        self.close()

    def finish(self) -> int:
        """See Application."""
        return self._code

    def _run_script(self) -> int:
        sys.argv = [str(self._options.script), *self._options.args]
        sys.path[0] = str(self._options.script.resolve().parent)
        try:
            runpy.run_path(str(self._options.script), run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            return 1
        return 0
