"""Training of Uno: ours, the original's feed (two pandas merges for each batch) in `fit`, and the floor.

    python benchmarks/training.py rates --network big        # samples/s of learning, alternating; the feeds alone
    python benchmarks/training.py runs --count 100           # RUNs one after another: fixed cost, memory
    python benchmarks/training.py pair                       # two RUNs at once against one, one thread each
    python benchmarks/training.py scores                     # predictions for the val set, and 10^6 rows written
    python benchmarks/training.py share                      # cold start, and memory of a second process

The study's shape: 0.6 M responses, 770 drugs, 1,000 cells, 958 + 1,613 features, made up. `big` is the study's network,
`small` has towers of 3 x 128 and 5 x 128 joint units. The floor is the same network in a `tf.range` loop over one batch
in memory, with fused Adam, with and without XLA. Seconds of steps are measured, an epoch's are extrapolated.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from environment import environment
from hed import arrays, synthetic, tables
from hed.uno import data
from hed.uno.hyper import read_hyper

SPEC = synthetic.Spec(drugs=770, cells=1000, genes=958, descriptors=1613, responses=600_000)
SMALL = {"hyperparam_space": "block", "canc_arch": [128] * 3, "drug_arch": [128] * 3, "interaction_arch": [128] * 5}
NETWORKS = {"big": {}, "small": SMALL}
TRAINED = SPEC.responses * 0.8


def load(source, work):
    names = arrays.columns({})
    params = {"input_dir": str(source), "node_dir": str(work / "node"), "partition_files": False}
    return data.load({**params, "partition": "by_drug", "index": 0, "partition_seed": 1}), names


def original_batches(source, rows, batch_size):
    """As the public Uno does it: the rows of a batch, merged with both tables of features."""
    import pandas as pd

    rsp, ge, md = (pd.read_parquet(source / name) for name in (tables.RSP, tables.GE, tables.MD))
    rsp = rsp.iloc[rows].reset_index(drop=True)[[tables.CELL, tables.DRUG, tables.RESPONSE]]
    indices = np.arange(len(rsp))
    while True:
        np.random.shuffle(indices)
        for start in range(0, len(indices), batch_size):
            batch = rsp.iloc[indices[start : start + batch_size]]
            merged = batch.merge(ge, on=tables.CELL, how="inner").merge(md, on=tables.DRUG, how="inner")
            merged = merged.drop([tables.CELL, tables.DRUG], axis=1)
            yield merged.drop(tables.RESPONSE, axis=1).values, merged[tables.RESPONSE].values


def samples_per_second(candidates, rounds):
    """{name: samples/s}, the median of all rounds and the best of them, which others on the machine disturbed least.

    Each candidate returns how many it has processed, and may say in which time.
    """
    rates = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, work in candidates.items():
            start = time.perf_counter()
            count = work()
            count, seconds = count if isinstance(count, tuple) else (count, time.perf_counter() - start)
            if number:
                rates[name].append(count / seconds)
    return tuple({name: round(of(values), 1) for name, values in rates.items()} for of in (statistics.median, max))


def ratio(name, others, *rates):
    """How much more `name` does than the best of `others`, in each of `rates` (median and best round)."""
    return [round(rate[name] / max(rate[other] for other in others), 3) for rate in rates]


def rates(options, source, work):
    import keras
    import tensorflow as tf

    from hed.devices import cfg_threads
    from hed.uno import compiled, network
    from hed.uno.feed import batches, order
    from hed.uno.optimizer import make

    threads = cfg_threads()
    table, _ = load(source, work)
    given = NETWORKS[options.network]
    hyper = read_hyper(given)
    size, genes, descriptors = hyper.batch_size, SPEC.genes, SPEC.descriptors
    steps = options.steps or {"big": 20, "small": 400}[options.network]
    order_ = order(len(table.train), 0, 0)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)

    def floor(xla):
        model = network.build(hyper, genes, descriptors)
        model.compile(optimizer=make(hyper))
        model.optimizer.build(model.trainable_variables)
        first = batches(table.train, order_[:size], size)
        inputs = [tf.gather(tensors[0], first.cell[0]), tf.gather(tensors[1], first.drug[0])]
        y = tf.constant(first.y[0][:, None])

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], jit_compile=xla)
        def learn(count):
            last = tf.constant(0.0)
            for _ in tf.range(count):
                with tf.GradientTape() as tape:
                    last = tf.reduce_mean(tf.square(y - model(inputs, training=True)))
                variables = model.trainable_variables
                model.optimizer.apply_gradients(zip(tape.gradient(last, variables), variables, strict=True))
            return last

        return lambda: (learn(steps).numpy(), steps * size)[1]

    ours = compiled.compiled_for(given, hyper, genes, descriptors)

    def learn_ours():
        for start in range(0, steps * size, ours.capacity * size):
            part = order_[start : min(start + ours.capacity * size, steps * size)]
            ours.learn(*tensors, table.train, part)
        return steps * size

    split = arrays.split(
        arrays.open_arrays(source, arrays.columns({}), work / "node"),
        source,
        {"partition": "by_drug", "index": 0, "partition_seed": 1},
    )
    merged = original_batches(source, split.train, size)
    both = keras.Input((genes + descriptors,))
    inner = network.build(hyper, genes, descriptors)
    plain = keras.Model(both, inner([both[:, :genes], both[:, genes:]]))
    plain.compile(optimizer=keras.optimizers.Adam(hyper.max_rate), loss="mse")

    def original():
        # Without the time that each fit() takes to begin, which is nothing in an epoch.
        ends = []
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        plain.fit(merged, steps_per_epoch=steps // 2, epochs=1, verbose=0, callbacks=[note])
        return (len(ends) - 3) * size, ends[-1] - ends[2]

    learn, best = samples_per_second(
        {"ours": learn_ours, "floor": floor(False), "floor_xla": floor(True), "original": original}, options.rounds
    )

    def feed_ours():
        rows = order(len(table.train), 0, 1)
        count = len(rows) // size // ours.capacity
        for number in range(count):
            part = rows[number * ours.capacity * size :][: ours.capacity * size]
            given = batches(table.train, part, size, ours.capacity)
            gather(*tensors, given.cell, given.drug).numpy()
        return count * ours.capacity * size

    @tf.function
    def gather(cells, drugs, cell, drug):
        total = tf.constant(0.0)
        for i in tf.range(tf.shape(cell)[0]):
            total += tf.gather(cells, cell[i])[0, 0] + tf.gather(drugs, drug[i])[0, 0]
        return total

    def feed_original():
        for _ in range(50):
            next(merged)
        return 50 * size

    feed, best_feed = samples_per_second({"ours": feed_ours, "original": feed_original}, options.rounds)
    return {
        "network": options.network,
        "parameters": inner.count_params(),
        "threads": threads,
        "xla": ours.xla,
        "learning_samples_per_s": learn,
        "epoch_s_extrapolated": {name: round(TRAINED / value) for name, value in learn.items()},
        "best_round": best,
        "ours_over_original": ratio("ours", ["original"], learn, best),
        "ours_over_floor": ratio("ours", ["floor", "floor_xla"], learn, best),
        "feed_alone_samples_per_s": feed,
        "feed_ours_over_original": ratio("ours", ["original"], feed, best_feed),
    }


def resident():
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def clocks():
    """Seconds that have passed, and seconds of computing by all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def runs(options, source, work):
    """RUNs as model_runner runs them; the time of learning, of judging an epoch and of checkpoints is taken off."""
    from model_runner import run_model

    small = work / "some"
    synthetic.generate(small, synthetic.Spec(20, SPEC.cells, SPEC.genes, SPEC.descriptors, 20_000))
    memory, fixed = [], []
    for number in range(options.count):
        # The first RUNs at the study's shape, with its val set to be predicted and written; then many short ones.
        whole = number < options.whole
        directory = work / "EXP/run" / f"RUN{number:03d}"
        directory.mkdir(parents=True)
        params = {"model_name": "unorun", "pre_module": "hed_setup", "post_module": "hed_setup", "timeout": -1}
        params |= {
            **NETWORKS[options.network],
            "epochs": 1,
            "index": number % 20,
            "seed": number,
            "ckpt_save_interval": 0,
        }
        params |= {"input_dir": str(source if whole else small), "instance_directory": str(directory)}
        outside = Outside(limit=2 if whole or options.network == "big" else None)
        start = clocks()
        with outside:
            run_model(params)
        fixed.append(clocks() - start - outside.inside)
        memory.append(resident())
    passed, computed = ([round(float(x), 3) for x in column] for column in zip(*fixed, strict=True))
    return {
        "network": options.network,
        "fixed_s_at_the_studys_shape": {"first": passed[0], "later": passed[1 : options.whole]},
        "of_them_computing": {"first": computed[0], "later": computed[1 : options.whole]},
        "fixed_s_short": {"median": statistics.median(passed[options.whole :] or passed), "last_10": passed[-10:]},
        "resident_mb": [round(m) for m in (*memory[:: max(1, options.count // 10)], memory[-1])],
        "memory_growth_percent_since_the_fifth": round(100 * (memory[-1] / memory[min(5, options.count) - 1] - 1), 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


class Outside:
    """Counts `clocks` of training in `inside`: learning, validation per epoch, checkpoints.

    With a `limit`, only so many calls learn, and the val set's predictions are made up: neither is what is measured.
    """

    def __init__(self, limit):
        self.inside, self._limit = np.zeros(2), limit

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


def learner(options, source, work):
    """One process of `pair`: samples/s of so many seconds, which begin when a file appears."""
    from hed.devices import cfg_threads
    from hed.uno import compiled
    from hed.uno.feed import order

    cfg_threads()
    table, _ = load(source, work)
    given = {**NETWORKS[options.network], "jit_compile": options.xla}
    net = compiled.compiled_for(given, read_hyper(given), SPEC.genes, SPEC.descriptors)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    rows = order(len(table.train), 0, 0)[: 100 * 32 if options.network == "small" else 5 * 32]
    net.learn(*tensors, table.train, rows)
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < float(line):
            net.learn(*tensors, table.train, rows)
            count += len(rows)
        print(count / (time.perf_counter() - start), flush=True)


def pair(options, source, work):
    command = [sys.executable, __file__, "learner", "--network", options.network, "--data", str(source)]
    command += ["--xla"] * options.xla
    env = {**os.environ, "SWIFTPY_CORES": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)
    ]

    def go(some, seconds):
        for process in some:
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in some)

    for process in processes:
        assert process.stdout.readline() == "ready\n"
    one, two = [], []
    for number in range(options.rounds):
        one.append(go([processes[number % 2]], 4))
        two.append(go(processes, 4))
    for process in processes:
        process.stdin.close()
        process.wait()
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    return {
        "network": options.network,
        "xla": options.xla,
        "one_samples_per_s": round(statistics.median(one)),
        "two_samples_per_s": round(statistics.median(two)),
        "two_over_one": round(statistics.median(ratios), 2),
    }


def scores(options, source, work):
    import pyarrow as pa
    import tensorflow as tf

    from hed.devices import cfg_threads
    from hed.uno import compiled
    from hed.uno import scores as files

    threads = cfg_threads()

    table, _ = load(source, work)
    given = NETWORKS[options.network]
    net = compiled.compiled_for(given, read_hyper(given), SPEC.genes, SPEC.descriptors)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    val = data.Responses(*(column[:20_000] for column in (table.val.cell, table.val.drug, table.val.y)), None)
    some = slice(0, 6400)
    inputs = [table.cells.matrix[table.val.cell[some]], table.drugs.matrix[table.val.drug[some]]]

    def ours():
        net.predict(*tensors, val)
        return len(val)

    def keras_predict():
        net.model.predict(inputs, batch_size=32, verbose=0)
        return 6400

    # What no way to compute them can leave out: for each pair, the joint layers after the first.
    hyper = read_hyper(given)
    size, widths = hyper.generator_batch_size, [layer.size for layer in hyper.interaction]
    batch = tf.random.normal((size, widths[0]))
    kernels = [tf.random.normal(shape) for shape in itertools.pairwise([*widths, 1])]

    @tf.function
    def products(x):
        for kernel in kernels:
            x = tf.matmul(x, kernel)
        return x

    def floor():
        for _ in range(20):
            products(batch).numpy()
        return 20 * size

    rows, best = samples_per_second({"ours": ours, "keras_predict_32": keras_predict, "floor": floor}, options.rounds)
    y = np.random.default_rng(0).random(1_000_000, np.float32)
    labels = pa.DictionaryArray.from_arrays(
        np.arange(1_000_000, dtype=np.int32) % 1000, [f"ACH-{i:06}" for i in range(1000)]
    )
    start = time.perf_counter()
    files.write(work, "val", "auc", y, y[::-1], labels)
    return {
        "network": options.network,
        "threads": threads,
        "rows_per_s": rows,
        "ours_over_keras_predict_32": ratio("ours", ["keras_predict_32"], rows, best),
        "ours_over_floor": ratio("ours", ["floor"], rows, best),
        "a_million_rows_scored_and_written_s": round(time.perf_counter() - start, 2),
    }


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


PARTS = {"rates": rates, "runs": runs, "pair": pair, "scores": scores, "share": share, "learner": learner}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--data", type=Path, help="where the made-up data is, or is to be kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="batches of a round of `rates`")
    parser.add_argument("--count", type=int, default=100, help="RUNs of `runs` (default %(default)s)")
    parser.add_argument("--whole", type=int, default=4, help="of which so many at the study's shape")
    parser.add_argument("--xla", action="store_true", help="for `pair`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        source = options.data or work / "study"
        synthetic.generate(source, SPEC)
        report = PARTS[options.part](options, source, work)
    if report is not None:
        print(json.dumps({**report, **environment("tensorflow-cpu", "keras", "numpy", "pandas")}, indent=1))


if __name__ == "__main__":
    main()
