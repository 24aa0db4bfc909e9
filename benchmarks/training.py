"""Training of Uno: ours, the original's feed (two pandas merges for each batch) in `fit`, and the floor.

    python benchmarks/training.py rates --network big        # samples/s of learning, alternating; the feeds alone
    python benchmarks/training.py pair                       # two RUNs at once against one, one thread each
    python benchmarks/training.py scores                     # predictions for the val set, and 10^6 rows written

The study's shape and two networks: study.py. The floor is the same network in a `tf.range` loop over one batch in
memory, with fused Adam, with and without XLA. Seconds of steps are measured, an epoch's are extrapolated.
What surrounds training in a RUN: training_runs.py.
"""

import itertools
import os
import subprocess
import sys
import time

import numpy as np
from rounds import clocks, compare, per_second
from study import NETWORKS, SPEC, load, main, split

from hed import tables
from hed.uno.hyper import read_hyper

TRAINED = SPEC.responses * 0.8


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


def ratio(name, alternatives, rates):
    """How much more `name` does than the best of `alternatives`."""
    return round(rates[name] / max(rates[other] for other in alternatives), 3)


def rates(options, source, work):
    import keras
    import tensorflow as tf

    from hed.devices import cfg_threads
    from hed.uno import compiled, network
    from hed.uno.feed import batches, order
    from hed.uno.optimizer import make

    threads = cfg_threads()
    table = load(source, work)
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

    merged = original_batches(source, split(source, work).train, size)
    both = keras.Input((genes + descriptors,))
    inner = network.build(hyper, genes, descriptors)
    plain = keras.Model(both, inner([both[:, :genes], both[:, genes:]]))
    plain.compile(optimizer=keras.optimizers.Adam(hyper.max_rate), loss="mse")

    def original():
        # Without the time that each fit() takes to begin, which is nothing in an epoch.
        ends = []
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        plain.fit(merged, steps_per_epoch=3 + max(5, steps // 8), epochs=1, verbose=0, callbacks=[note])
        return (len(ends) - 3) * size, ends[-1] - ends[2], 0.0

    floors = {"floor": floor(False), "floor_xla": floor(True)}
    learn, learn_others = per_second({"ours": learn_ours, **floors, "original": original}, options.rounds)
    best = max(floors, key=learn.__getitem__)
    over_floor = compare(learn_ours, floors[best], 4 * options.rounds)

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

    feed, feed_others = per_second({"ours": feed_ours, "original": feed_original}, options.rounds, limit=30)
    return {
        "network": options.network,
        "parameters": inner.count_params(),
        "threads": threads,
        "xla": ours.xla,
        "learning_samples_per_s": learn,
        "epoch_s_extrapolated": {name: round(TRAINED / value) for name, value in learn.items()},
        "others_used_cores": learn_others,
        "ours_over_original": ratio("ours", ["original"], learn),
        "ours_over_floor": over_floor,
        "feed_alone_samples_per_s": feed,
        "feed_others_used_cores": feed_others,
        "feed_ours_over_original": ratio("ours", ["original"], feed),
    }


def learner(options, source, work):
    """One process of `pair`: samples/s of so many seconds, which begin when a file appears."""
    from hed.devices import cfg_threads
    from hed.uno import compiled
    from hed.uno.feed import order

    cfg_threads()
    table = load(source, work)
    given = {**NETWORKS[options.network], "jit_compile": options.xla}
    net = compiled.compiled_for(given, read_hyper(given), SPEC.genes, SPEC.descriptors)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    rows = order(len(table.train), 0, 0)[: 100 * 32 if options.network == "small" else 5 * 32]
    net.learn(*tensors, table.train, rows)
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = clocks(), 0
        while time.perf_counter() - start[0] < float(line):
            net.learn(*tensors, table.train, rows)
            count += len(rows)
        passed, computed, _ = clocks() - start
        print(count / passed, computed, flush=True)


def pair(options, source, work):
    command = [sys.executable, __file__, "learner", "--network", options.network, "--data", str(source)]
    command += ["--xla"] * options.xla
    env = {**os.environ, "SWIFTPY_CORES": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)
    ]

    def go(some):
        for process in some:
            process.stdin.write(f"{options.seconds}\n")
            process.stdin.flush()
        rates, computed = zip(*([float(x) for x in process.stdout.readline().split()] for process in some), strict=True)
        return sum(rates), 1, sum(computed)

    for process in processes:
        assert process.stdout.readline() == "ready\n"
    rates, others_used = per_second({"one": lambda: go(processes[:1]), "two": lambda: go(processes)}, options.rounds)
    for process in processes:
        process.stdin.close()
        process.wait()
    return {
        "network": options.network,
        "xla": options.xla,
        "samples_per_s": rates,
        "others_used_cores": others_used,
        "two_over_one": ratio("two", ["one"], rates),
    }


def scores(options, source, work):
    import pyarrow as pa
    import tensorflow as tf

    from hed.devices import cfg_threads
    from hed.uno import compiled
    from hed.uno import scores as files

    threads = cfg_threads()

    table = load(source, work)
    given = NETWORKS[options.network]
    net = compiled.compiled_for(given, read_hyper(given), SPEC.genes, SPEC.descriptors)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    some = slice(0, 6400)
    inputs = [table.cells.matrix[table.val.cell[some]], table.drugs.matrix[table.val.drug[some]]]

    def ours():
        net.predict(*tensors, table.val)
        return len(table.val)

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

    rows, others_used = per_second({"ours": ours, "keras_predict_32": keras_predict, "floor": floor}, options.rounds)
    over_keras = compare(ours, keras_predict, options.rounds)
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
        "others_used_cores": others_used,
        "ours_over_keras_predict_32": over_keras,
        "floor_over_keras_predict_32": ratio("floor", ["keras_predict_32"], rows),
        "ours_over_floor": ratio("ours", ["floor"], rows),
        "a_million_rows_scored_and_written_s": round(time.perf_counter() - start, 2),
    }


def add_arguments(parser):
    parser.add_argument("--rounds", type=int, default=5, help="quiet rounds (default %(default)s)")
    parser.add_argument("--steps", type=int, help="batches of a round of `rates`")
    parser.add_argument("--seconds", type=float, default=2, help="of a round of `pair` (default %(default)s)")
    parser.add_argument("--xla", action="store_true", help="for `pair`")


if __name__ == "__main__":
    main(__doc__, {"rates": rates, "pair": pair, "scores": scores, "learner": learner}, add_arguments)
