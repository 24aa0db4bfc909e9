"""What is started for one system and one case: `program.py SYSTEM WORKERS CASE` prints its figures as JSON."""

import json
import os
import sys

from benchmarks.engine.cases import CASES
from benchmarks.engine.launch import LAUNCHES

#: What the line of figures begins with, among whatever a system prints.
MARK = "benchmark-figures "


def main():
    name, workers, case = sys.argv[1:]
    with LAUNCHES[name].system(int(workers)) as system:
        figures = CASES[case](system)
        version = system.version()
    report = {"figures": [[*key, value] for key, value in figures.items()], "version": version, "load": os.getloadavg()}
    print(f"{MARK}{json.dumps(report)}", flush=True)


if __name__ == "__main__":
    main()
