"""`mpiexec -n PROCS python -m swiftpy.upf UPF DFLTS [--restart EXP]`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from swiftpy.runtime.job import run
from swiftpy.upf.options import ranks_per_node

if TYPE_CHECKING:
    from swiftpy.upf.app import UpfApplication


def _make() -> UpfApplication:
    from swiftpy.upf.app import UpfApplication

    return UpfApplication(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run(_make, ranks_per_node=ranks_per_node(sys.argv[1:])))
