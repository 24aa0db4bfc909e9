"""`mpiexec -n PROCS python -m swiftpy SCRIPT [ARGS]`, see `swiftpy.flow.script`."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import TYPE_CHECKING

from swiftpy.flow import nested
from swiftpy.runtime.call import import_from
from swiftpy.runtime.job import run

if TYPE_CHECKING:
    from swiftpy.flow.script import ScriptApplication
    from swiftpy.runtime.worker import Worker


def _make() -> ScriptApplication:
    from swiftpy.flow.script import ScriptApplication

    return ScriptApplication(sys.argv[1:])


def _join(worker: Worker) -> None:
    """What lies beside the script can be imported on workers, too."""
    import_from(os.environ["PYTHONPATH"].partition(os.pathsep)[0])
    faulthandler.enable()  # a task that crashes the rank is seen where it did
    nested.join(worker)


if __name__ == "__main__":
    sys.exit(run(_make, _join))
