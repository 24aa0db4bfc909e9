"""Starting real jobs with mpiexec, in a directory of their own, with the toy model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from swiftpy.experiment.journal import read

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
MODELS = Path(__file__).parent / "models"


class Workplace:
    """A directory in which jobs run, as a user would have it."""

    def __init__(self, root):
        self.root = Path(root)
        self.output = self.root / "out" / "toy" / "Output"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PMI", "HYD", "SWIFTPY"))},
            "CANDLE_DATA_DIR": str(self.root / "out"),
            "MODEL_NAME": "toy",
            "MODEL_PYTHON_DIR": str(MODELS),
        }

    def write(self, runs, dflts=None, name="upf.json"):
        lines = [line if isinstance(line, str) else json.dumps(line) for line in runs]
        (self.root / name).write_text("\n".join(lines) + "\n")
        (self.root / "dflts.json").write_text(json.dumps(dflts or {}))

    def command(self, *options, procs=3, upf="upf.json"):
        return [MPIEXEC, "-n", str(procs), sys.executable, "-m", "swiftpy.upf", upf, "dflts.json", *options]

    def start(self, *options, procs=3, **env):
        """The job as a process, its output in job.log."""
        with (self.root / "job.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*options, procs=procs),
                cwd=self.root,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, *options, procs=3, timeout=300, upf="upf.json", **env):
        return subprocess.run(
            self.command(*options, procs=procs, upf=upf),
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def exp(self, number):
        return self.output / f"EXP{number:03d}"

    def exps(self):
        return sorted(self.output.iterdir()) if self.output.exists() else []

    def epochs(self, number, run_id):
        """The epochs that were trained for a RUN, in order, over all jobs that led to this EXP."""
        return [int(line) for line in (self.exp(number) / "run" / run_id / "epochs.log").read_text().split()]


def journal(exp):
    return read(exp / "journal.jsonl")


def processes_in(directory):
    """Processes whose working directory is under `directory`: what a job has left behind."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if cwd.readlink().is_relative_to(directory):
                found.append(int(cwd.parent.name))
        except OSError:
            continue
    return found
