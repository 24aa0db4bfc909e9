"""Kill a whole HED job with SIGKILL at random moments, restart it each time, and see that nothing is lost.

    python tests/soak/kill_soak.py [--kills 20] [--runs 12] [--procs 3] [--seed 0]

Real TensorFlow trainings on made-up data. At the end: every RUN is done once, no finished RUN was trained again, the
old EXPs are byte-identical to what they were, and the predictions are those of a job that was never killed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
from job import MPIEXEC, journal, processes_in

DFLTS = {
    "epochs": 6,
    "hyperparam_space": "block",
    "canc_arch": [32],
    "drug_arch": [32],
    "interaction_arch": [32],
    "pre_module": "hed_setup",
    "post_module": "hed_setup",
}


def fingerprint(exp):
    """Names, contents and times of everything in an EXP."""
    files = sorted(p for p in exp.rglob("*") if not p.is_dir() or p.is_symlink())
    return {
        str(p.relative_to(exp)): (
            str(p.readlink()) if p.is_symlink() else hashlib.md5(p.read_bytes()).hexdigest(),
            p.lstat().st_mtime_ns,
        )
        for p in files
    }


def predictions(exp, runs):
    return {run: (exp / "run" / run / "test_y_data_predicted.csv").read_bytes() for run in runs}


class Soak:
    def __init__(self, root, options):
        self.root, self.options = root, options
        self.random = random.Random(options.seed)
        self.runs = [f"RUN{i:03d}" for i in range(options.runs)]
        data = root / "data"
        generate = [sys.executable, "-m", "hed.synthetic", str(data), "--responses", "20000", "--cells", "2000"]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        upf = "".join(json.dumps({"id": run, "index": i}) + "\n" for i, run in enumerate(self.runs))
        (root / "upf.json").write_text(upf)
        (root / "dflts.json").write_text(json.dumps({**DFLTS, "input_dir": str(data)}))

    def start(self, name, *arguments):
        command = [MPIEXEC, "-n", str(self.options.procs), sys.executable, "-m", "swiftpy.upf"]
        env = {**os.environ, "CANDLE_DATA_DIR": str(self.root / name), "DATA_SOURCE": str(self.root / "data")}
        with (self.root / "job.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "upf.json", "dflts.json", *arguments], cwd=self.root, env=env, stdout=log, stderr=log
            )

    def exp(self, number, name="killed"):
        return self.root / name / "unorun" / "Output" / f"EXP{number:03d}"

    def kill(self, job, after):
        try:
            job.wait(after)
        except subprocess.TimeoutExpired:
            for pid in [job.pid, *processes_in(self.root)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            job.wait()
        end = time.monotonic() + 10
        while processes_in(self.root):
            assert time.monotonic() < end, "a process lives on"
            time.sleep(0.05)

    def go(self):
        began = time.monotonic()
        assert self.start("whole").wait() == 0, (self.root / "job.log").read_text()[-3000:]
        usual = time.monotonic() - began
        arguments, old = [], {}
        for number in range(self.options.kills):
            moment = self.random.uniform(0.15, 0.45) * usual  # a job needs about 0.3 to load TensorFlow and begin
            self.kill(self.start("killed", *arguments), moment)
            for exp, files in old.items():
                assert fingerprint(exp) == files, f"{exp.name} was changed"
            exps = sorted(self.exp(0).parent.glob("EXP*")) if self.exp(0).parent.exists() else []
            if exps:  # killed before it made one, it left nothing
                old[exps[-1]] = fingerprint(exps[-1])
                arguments = ["--restart", exps[-1].name]
            done = len(list(exps[-1].glob("markers/*.json"))) if exps else 0
            print(f"kill {number + 1} after {moment:.1f} s: {len(exps)} EXPs, {done} RUNs done", flush=True)
        code = self.start("killed", *arguments).wait()
        assert code == 0, (self.root / "job.log").read_text()[-3000:]
        exps = sorted(self.exp(0).parent.glob("EXP*"))
        self.check(exps)
        return {"usual_seconds": round(usual, 1), "exps": len(exps), "kills": self.options.kills}

    def check(self, exps):
        finished = {}
        for exp in exps:
            for event in journal(exp):
                if event["event"] == "run_started":
                    assert event["id"] not in finished, f"{event['id']} is trained again in {exp.name}"
                if event["event"] == "run_done":
                    finished[event["id"]] = exp.name
        for run in self.runs:
            assert (exps[-1] / "markers" / f"{run}.json").exists()
            history = json.loads((exps[-1] / "run" / run / "history.txt").read_text())
            assert len(history["val_loss"]) == DFLTS["epochs"]
        assert predictions(exps[-1], self.runs) == predictions(self.exp(0, "whole"), self.runs), "other predictions"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--procs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory(prefix="soak ") as directory:
        print(json.dumps(Soak(Path(directory), parser.parse_args()).go()))
    print("nothing was lost, nothing was trained twice, the predictions are those of a job that was never killed")


if __name__ == "__main__":
    main()
