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
from study import SPEC, main, split, subject

from hed import tables

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
    on = subject(options, source, work)
    size = on.hyper.batch_size
    steps = options.steps or {"big": 20, "small": 400}[options.network]
    merged = original_batches(source, split(source, work).train, size)
    ours = learn_ours(on, steps)
    floors = {"floor": learn_one_batch(on, steps, xla=False), "floor_xla": learn_one_batch(on, steps, xla=True)}
    candidates = {"ours": ours, **floors, "original": learn_original(on, merged, steps)}
    learn, learn_others = per_second(candidates, options.rounds)
    over_floor = compare(ours, floors[max(floors, key=learn.__getitem__)], 4 * options.rounds)

    def feed_original():
        for _ in range(50):
            next(merged)
        return 50 * size

    feeds = {"ours": feed_ours(on), "original": feed_original}
    feed, feed_others = per_second(feeds, options.rounds, limit=30)
    return {
        "network": options.network,
        "parameters": on.ours.model.count_params(),
        "threads": on.threads,
        "xla": on.ours.xla,
        "learning_samples_per_s": learn,
        "epoch_s_extrapolated": {name: round(TRAINED / value) for name, value in learn.items()},
        "others_used_cores": learn_others,
        "ours_over_original": ratio("ours", ["original"], learn),
        "ours_over_floor": over_floor,
        "feed_alone_samples_per_s": feed,
        "feed_others_used_cores": feed_others,
        "feed_ours_over_original": ratio("ours", ["original"], feed),
    }


def learn_ours(on, steps):
    from hed.uno.feed import order

    rows = order(len(on.table.train), 0, 0)[: steps * on.hyper.batch_size]
    most = on.ours.capacity * on.hyper.batch_size

    def learn():
        for start in range(0, len(rows), most):
            on.ours.learn(*on.features, on.table.train, rows[start : start + most])
        return len(rows)

    return learn


def learn_one_batch(on, steps, xla):
    """The floor: no feed at all, the batch and the loop are in the graph."""
    import tensorflow as tf

    from hed.uno import network
    from hed.uno.feed import batches, order
    from hed.uno.optimizer import make

    model = network.build(on.hyper, SPEC.genes, SPEC.descriptors)
    model.compile(optimizer=make(on.hyper))
    model.optimizer.build(model.trainable_variables)
    size, variables = on.hyper.batch_size, model.trainable_variables
    first = batches(on.table.train, order(len(on.table.train), 0, 0)[:size], size)
    inputs = [tf.gather(on.features[0], first.cell[0]), tf.gather(on.features[1], first.drug[0])]
    y = tf.constant(first.y[0][:, None])

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], jit_compile=xla)
    def learn(count):
        last = tf.constant(0.0)
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                last = tf.reduce_mean(tf.square(y - model(inputs, training=True)))
            model.optimizer.apply_gradients(zip(tape.gradient(last, variables), variables, strict=True))
        return last

    return lambda: (learn(steps).numpy(), steps * size)[1]


def learn_original(on, merged, steps):
    import keras

    from hed.uno import network

    both = keras.Input((SPEC.genes + SPEC.descriptors,))
    inner = network.build(on.hyper, SPEC.genes, SPEC.descriptors)
    plain = keras.Model(both, inner([both[:, : SPEC.genes], both[:, SPEC.genes :]]))
    plain.compile(optimizer=keras.optimizers.Adam(on.hyper.max_rate), loss="mse")

    def learn():
        # Without the time that each fit() takes to begin, which is nothing in an epoch.
        ends = []
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        plain.fit(merged, steps_per_epoch=3 + max(5, steps // 8), epochs=1, verbose=0, callbacks=[note])
        return (len(ends) - 3) * on.hyper.batch_size, ends[-1] - ends[2], 0.0

    return learn


def feed_ours(on):
    """An epoch's batches, gathered in a graph that looks at one number of each."""
    import tensorflow as tf

    from hed.uno.feed import batches, order

    @tf.function
    def gather(cells, drugs, cell, drug):
        total = tf.constant(0.0)
        for i in tf.range(tf.shape(cell)[0]):
            total += tf.gather(cells, cell[i])[0, 0] + tf.gather(drugs, drug[i])[0, 0]
        return total

    size, capacity = on.hyper.batch_size, on.ours.capacity

    def feed():
        rows = order(len(on.table.train), 0, 1)
        count = len(rows) // size // capacity
        for number in range(count):
            part = rows[number * capacity * size :][: capacity * size]
            given = batches(on.table.train, part, size, capacity)
            gather(*on.features, given.cell, given.drug).numpy()
        return count * capacity * size

    return feed


def learner(options, source, work):
    """One process of `pair`: samples/s of so many seconds, each time that a line with them arrives."""
    on = subject(options, source, work, jit_compile=options.xla)
    learn = learn_ours(on, 100 if options.network == "small" else 5)
    learn()
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = clocks(), 0
        while time.perf_counter() - start[0] < float(line):
            count += learn()
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
    on = subject(options, source, work)
    table = on.table
    some = slice(0, 6400)
    inputs = [table.cells.matrix[table.val.cell[some]], table.drugs.matrix[table.val.drug[some]]]

    def ours():
        on.ours.predict(*on.features, table.val)
        return len(table.val)

    def keras_predict():
        on.ours.model.predict(inputs, batch_size=32, verbose=0)
        return 6400

    candidates = {"ours": ours, "keras_predict_32": keras_predict, "floor": joint_products(on.hyper)}
    rows, others_used = per_second(candidates, options.rounds)
    return {
        "network": options.network,
        "threads": on.threads,
        "rows_per_s": rows,
        "others_used_cores": others_used,
        "ours_over_keras_predict_32": compare(ours, keras_predict, options.rounds),
        "floor_over_keras_predict_32": ratio("floor", ["keras_predict_32"], rows),
        "ours_over_floor": ratio("ours", ["floor"], rows),
        "a_million_rows_scored_and_written_s": round(write_a_million(work), 2),
    }


def joint_products(hyper):
    """The floor: what no way to compute them can leave out for each pair, the joint layers after the first."""
    import tensorflow as tf

    size, widths = hyper.generator_batch_size, [layer.size for layer in hyper.interaction]
    batch = tf.random.normal((size, widths[0]))
    kernels = [tf.random.normal(shape) for shape in itertools.pairwise([*widths, 1])]

    @tf.function
    def products(x):
        for kernel in kernels:
            x = tf.matmul(x, kernel)
        return x

    def multiply():
        for _ in range(20):
            products(batch).numpy()
        return 20 * size

    return multiply


def write_a_million(work):
    """Seconds for scores and predictions of 10^6 rows."""
    import pyarrow as pa

    from hed.uno import scores

    y = np.random.default_rng(0).random(1_000_000, np.float32)
    labels = pa.DictionaryArray.from_arrays(
        np.arange(1_000_000, dtype=np.int32) % 1000, [f"ACH-{i:06}" for i in range(1000)]
    )
    start = time.perf_counter()
    scores.write(work, "val", "auc", y, y[::-1], labels)
    return time.perf_counter() - start


def add_arguments(parser):
    parser.add_argument("--rounds", type=int, default=5, help="quiet rounds (default %(default)s)")
    parser.add_argument("--steps", type=int, help="batches of a round of `rates`")
    parser.add_argument("--seconds", type=float, default=2, help="of a round of `pair` (default %(default)s)")
    parser.add_argument("--xla", action="store_true", help="for `pair`")


if __name__ == "__main__":
    main(__doc__, {"rates": rates, "pair": pair, "scores": scores, "learner": learner}, add_arguments)
