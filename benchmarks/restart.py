"""What a restart brings into the new EXP: bytes and time, ours and a full copy as the original makes, in alternation.

    python benchmarks/restart.py [--runs 10] [--megabytes 65] [--rounds 3]

Every other RUN is finished, the others have three checkpoints; `--megabytes` is the size of one model (65 in the
published runs). Both flush to disk.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from environment import environment
from swiftpy.experiment.carry import carry
from swiftpy.experiment.exp import Exp, create
from swiftpy.experiment.restart import Decision


def make_exp(parent, runs, megabytes):
    exp = create(parent)
    model = os.urandom(1 << 20)
    for number in range(runs):
        run = exp.run_dir(f"RUN{number:03d}")
        for epoch in (18, 19, 20):
            (run / f"ckpts/epochs/{epoch:03d}").mkdir(parents=True)
            (run / f"ckpts/epochs/{epoch:03d}/model.h5").write_bytes(model * megabytes)
            (run / f"ckpts/epochs/{epoch:03d}/ckpt-info.json").write_text("{}" * 100)
        (run / "ckpts/last").symlink_to("epochs/020")
        (run / "parameters.txt").write_bytes(bytes(4000))
        if number % 2:
            for name, size in (("result.txt", 22), ("test_y_data_predicted.csv", 90_000), ("val_scores.json", 130)):
                (run / name).write_bytes(bytes(size))
            (run / "val_y_data_predicted.csv").write_bytes(bytes(6_200_000))
    os.sync()
    return exp


def ours(old, new):
    verdicts = ("resume", "skip")
    decisions = [Decision(path.name, verdicts[int(path.name[3:]) % 2], "") for path in sorted(old.run.iterdir())]
    return carry(old, new, decisions).copied


def full_copy(old, new):
    shutil.copytree(old.run, new.run, symlinks=True, dirs_exist_ok=True)
    os.sync()
    return sum(path.stat().st_size for path in new.run.rglob("*") if path.is_file() and not path.is_symlink())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=65)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds, copied = {"ours": [], "full_copy": []}, {}
    with tempfile.TemporaryDirectory(dir=".") as directory:
        parent = Path(directory)
        old = make_exp(parent, options.runs, options.megabytes)
        for number in range(options.rounds):
            for name, way in (("ours", ours), ("full_copy", full_copy)):
                new = Exp(parent.absolute() / f"{name}{number}")
                new.markers.mkdir(parents=True)
                new.run.mkdir()
                start = time.perf_counter()
                copied[name] = way(old, new) / options.runs
                seconds[name].append(time.perf_counter() - start)
                shutil.rmtree(new.root)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                **environment(),
                "runs": options.runs,
                "megabytes_per_model": options.megabytes,
                "bytes_copied_per_run": {name: round(value) for name, value in copied.items()},
                "seconds": {name: round(value, 3) for name, value in medians.items()},
                "bytes_ratio": round(copied["full_copy"] / copied["ours"]),
                "time_ratio": round(medians["full_copy"] / medians["ours"], 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
