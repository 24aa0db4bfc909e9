"""`mpiexec -n PROCS python -m swiftpy SCRIPT [ARGS]`, see `swiftpy.flow.script`."""

import sys

from swiftpy.flow.script import ScriptApplication
from swiftpy.runtime.job import run

if __name__ == "__main__":
    sys.exit(run(ScriptApplication(sys.argv[1:])))
