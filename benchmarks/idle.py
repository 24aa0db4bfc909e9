"""What waiting costs: CPU time of every process of a job whose RUNs only sleep, in percent of a core.

    python benchmarks/idle.py [--procs 4] [--seconds 20]

The target is under 1 % for each. The floor is a process that sleeps in the kernel: 0 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import processor_use

from environment import environment
from swiftpy.sites.launch import find_launcher

MODEL = """
import time
def initialize_parameters(): return {}
def run(params):
    time.sleep(params["sleep"])
    return {"val_loss": 0.0}
"""


def name(pid):
    """Of its module: ranks and their helpers are both called swiftpy.upf."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").partition("-m ")[2][:40]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "sleeper_train_improve.py").write_text(MODEL)
        # One worker stays without a RUN.
        runs = [{"id": f"RUN{i}", "sleep": options.seconds + 10} for i in range(options.procs - 2)]
        (root / "upf.json").write_text("".join(json.dumps(run) + "\n" for run in runs))
        env = {**os.environ, "MODEL_NAME": "sleeper", "MODEL_PYTHON_DIR": str(root), "CANDLE_DATA_DIR": str(root)}
        command = [find_launcher(), "-n", str(options.procs), sys.executable, "-m", "swiftpy.upf", "upf.json"]
        job = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL)
        time.sleep(5)
        used = processor_use(job.pid, options.seconds)
        rows = [{"process": name(pid), "percent_of_a_core": round(percent, 2)} for pid, percent in used.items()]
        job.terminate()
        job.wait()
    report = {**environment("mpi4py"), "seconds": options.seconds, "processes": rows}
    print(json.dumps(report, indent=1))
    print(f"largest: {max(row['percent_of_a_core'] for row in rows)} %", file=sys.stderr)


if __name__ == "__main__":
    main()
