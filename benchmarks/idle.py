"""What waiting costs: CPU time of every process of a job whose RUNs only sleep, in percent of a core.

    python benchmarks/idle.py [--procs 4] [--seconds 20]

The target is under 2 % for each. The floor is a process that sleeps in the kernel: 0 %.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment

MODEL = """
import time
def initialize_parameters(): return {}
def run(params):
    time.sleep(params["sleep"])
    return {"val_loss": 0.0}
"""


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descendants(pid):
    children = [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    return children + [d for child in children for d in descendants(child)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--procs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "sleeper_train_improve.py").write_text(MODEL)
        # One worker stays without a RUN.
        runs = [{"id": f"RUN{i}", "sleep": options.seconds + 10} for i in range(options.procs - 2)]
        (root / "upf.json").write_text("".join(json.dumps(run) + "\n" for run in runs))
        env = {**os.environ, "MODEL_NAME": "sleeper", "MODEL_PYTHON_DIR": str(root), "CANDLE_DATA_DIR": str(root)}
        command = [mpiexec, "-n", str(options.procs), sys.executable, "-m", "swiftpy.upf", "upf.json"]
        job = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL)
        time.sleep(5)
        names = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in descendants(job.pid)}
        before = {pid: cpu_seconds(pid) for pid in names}
        time.sleep(options.seconds)
        used = [(name, 100 * (cpu_seconds(pid) - before[pid]) / options.seconds) for pid, name in names.items()]
        job.terminate()
        job.wait()
    # Ranks and their helpers are both called swiftpy.upf.
    rows = [
        {"process": name.partition("-m ")[2][:40], "percent_of_a_core": round(percent, 2)} for name, percent in used
    ]
    report = {**environment("mpi4py"), "seconds": options.seconds, "processes": rows}
    print(json.dumps(report, indent=1))
    print(f"largest: {max(row['percent_of_a_core'] for row in rows)} %", file=sys.stderr)


if __name__ == "__main__":
    main()
