"""What surrounds training in a RUN of Uno: time, and memory from RUN to RUN and from process to process.

    python benchmarks/training_runs.py runs --count 100      # RUNs one after another: fixed cost, memory
    python benchmarks/training_runs.py share                 # cold start, and memory of a second process

The study's shape and two networks: study.py.
"""

import contextlib
import resource
import statistics
import subprocess
import sys

import numpy as np
from processes import megabytes
from rounds import clocks, others
from study import NETWORKS, SPEC, main

from hed import synthetic


def runs(options, source, work):
    """RUNs as model_runner runs them; the time of learning, of judging an epoch and of checkpoints is taken off."""
    from model_runner import run_model

    small = work / "some"
    synthetic.generate(small, synthetic.Spec(20, SPEC.cells, SPEC.genes, SPEC.descriptors, 20_000))
    memory, fixed, took = [], [], []
    for number in range(options.count):
        # The first RUNs at the study's shape, with its val set to be predicted and written; then many short ones.
        whole = number < options.whole
        directory = work / "EXP/run" / f"RUN{number:03d}"
        directory.mkdir(parents=True)
        params = {
            **{"model_name": "unorun", "pre_module": "hed_setup", "post_module": "hed_setup", "timeout": -1},
            **NETWORKS[options.network],
            **{"epochs": 1, "index": number % 20, "seed": number, "ckpt_save_interval": 0},
            **{"input_dir": str(source if whole else small), "instance_directory": str(directory)},
        }
        outside = Outside(limit=2 if whole or options.network == "big" else None)
        start = clocks()
        with outside, contextlib.redirect_stdout(sys.stderr):
            run_model(params)
        took.append(clocks() - start)
        fixed.append(took[-1] - outside.inside)
        memory.append(megabytes())
    # The two kinds of RUNs differ in memory and time: what grows is seen among the short ones, if there are enough.
    fifth = 4 + (options.whole if options.count - options.whole >= 15 else 0)
    return {
        "network": options.network,
        "fixed_at_the_studys_shape": {"first": summary(fixed[:1]), "later": summary(fixed[1 : options.whole])},
        "fixed_short": summary(fixed[options.whole :]),
        "whole_runs": {"fifth_to_14th": summary(took[fifth:][:10]), "last_10": summary(took[-10:])},
        "resident_mb": [round(m) for m in (*memory[:: max(1, options.count // 10)], memory[-1])],
        "memory_growth_percent_since_the_fifth": round(100 * (memory[-1] / memory[min(fifth, len(memory) - 1)] - 1), 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def summary(fixed):
    """Of RUNs, each `clocks` outside training: the median, the one least disturbed by others, and computing."""
    if not fixed:
        return None
    quietest = min(fixed, key=lambda run: others(*run))
    return {
        "median_s": round(statistics.median(run[0] for run in fixed), 3),
        "quietest_s": round(quietest[0], 3),
        "others_used_cores": round(others(*quietest), 2),
        "median_computing_s": round(statistics.median(run[1] for run in fixed), 3),
    }


class Outside:
    """Counts `clocks` of training in `inside`: learning, validation per epoch, checkpoints.

    With a `limit`, only so many calls learn, and the val set's predictions are made up: neither is what is measured.
    """

    def __init__(self, limit):
        self.inside, self._limit = np.zeros(3), limit

    def __enter__(self):
        from hed.uno import compiled, training
        from model_runner.ckpt import keras as ckpt

        self._patched = []
        learn, calls = compiled.Compiled.learn, [0]

        def few(this, cells, drugs, responses, rows):
            calls[0] += 1
            if self._limit and calls[0] > self._limit:
                return np.zeros((-(-len(rows) // 32), 2), np.float32)
            return learn(this, cells, drugs, responses, rows)

        predict = training.Trainer.predict

        def made_up(this, stage):
            return np.roll(this._data.val.y, 1) if self._limit and stage == "val" else predict(this, stage)

        self._patch(compiled.Compiled, "learn", few)
        self._patch(training.Trainer, "predict", made_up)
        for owner, name in ((training.Trainer, "_epoch"), (ckpt.KerasCheckpoint, "on_epoch_end")):
            self._patch(owner, name, self._timed(getattr(owner, name)))
        self._patch(ckpt.KerasCheckpoint, "on_train_end", self._timed(ckpt.KerasCheckpoint.on_train_end))

    def _timed(self, function):
        def timed(*arguments):
            start = clocks()
            try:
                return function(*arguments)
            finally:
                self.inside += clocks() - start

        return timed

    def _patch(self, owner, name, replacement):
        self._patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, replacement)

    def __exit__(self, *_):
        for owner, name, original in self._patched:
            setattr(owner, name, original)


SHARE = """
import sys, time
from pathlib import Path
import pandas  # as Keras does, and pyarrow at its first array
from hed import arrays
start = time.perf_counter()
opened = arrays.open_arrays(Path(sys.argv[1]), arrays.columns({}), Path(sys.argv[2]))
seconds = time.perf_counter() - start
mapped = opened.cells.matrix, opened.drugs.matrix, opened.y, opened.cell.codes, opened.drug.codes
sum(float(part.sum()) for part in mapped)
private = shared = 0
for line in Path("/proc/self/smaps").read_text().splitlines():
    if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
        mine = "arrays-" in line
    elif mine and line.startswith("Anonymous"):
        private += int(line.split()[1])
    elif mine and line.startswith("Rss"):
        shared += int(line.split()[1])
start = time.perf_counter()
arrays._make(Path(sys.argv[1]), arrays.columns({}))
print(seconds, private / 1e3, shared / 1e3, time.perf_counter() - start)
"""


def share(options, source, work):
    command = [sys.executable, "-c", SHARE, str(source), str(work / "node")]
    rows = [[float(x) for x in subprocess.check_output(command, text=True).split()] for _ in range(4)]
    return {
        "open_s": {"first": round(rows[0][0], 3), "later": round(statistics.median(r[0] for r in rows[1:]), 3)},
        "parquet_s": round(statistics.median(r[3] for r in rows), 3),
        "mapped_mb": rows[-1][2],
        "of_them_private_mb": rows[-1][1],
    }


def add_arguments(parser):
    parser.add_argument("--count", type=int, default=100, help="RUNs of `runs` (default %(default)s)")
    parser.add_argument("--whole", type=int, default=8, help="of which so many at the study's shape")


if __name__ == "__main__":
    main(__doc__, {"runs": runs, "share": share}, add_arguments)
