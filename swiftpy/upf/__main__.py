"""`mpiexec -n PROCS python -m swiftpy.upf UPF DFLTS [--restart EXP]`."""

import sys

from swiftpy.runtime.job import run
from swiftpy.upf.app import UpfApplication
from swiftpy.upf.options import ranks_per_node

if __name__ == "__main__":
    sys.exit(run(UpfApplication(sys.argv[1:]), ranks_per_node(sys.argv[1:])))
