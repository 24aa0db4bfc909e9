"""A network that serves RUN after RUN, and what makes it fast: the numbers must be those of a plain new network."""

import json

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from hed.uno import compiled, data, network  # noqa: E402
from hed.uno.feed import order  # noqa: E402
from hed.uno.hyper import read_hyper  # noqa: E402
from model_runner import run_model  # noqa: E402

pytestmark = pytest.mark.skipif(not network.REUSABLE, reason="Keras 2: a new network for each RUN")

GIVEN = {
    "hyperparam_space": "block",
    "canc_arch": [12],
    "drug_arch": [8],
    "interaction_arch": [12, 6],
    "canc_dropout": 0.3,
    "drug_dropout": 0,
    "batch_size": 10,
    "learning_rate": 2e-3,
    "warmup_epochs": 1,
}


@pytest.fixture
def run(tmp_path, input_dir):
    """run(name, **changes) -> all that the RUN left, through model_runner as in a job."""

    def run(name, **changes):
        directory = tmp_path / name
        directory.mkdir()
        place = {"instance_directory": str(directory), "output_dir": str(directory), "input_dir": str(input_dir)}
        run_model({"model_name": "unorun", "timeout": -1, "epochs": 2, **GIVEN, **place, **changes})
        return {p.name: p.read_bytes() for p in [*directory.glob("*_*.*"), directory / "history.txt"]} | {
            "model": (directory / "ckpts/last/model.h5").read_bytes()
        }

    return run


@pytest.mark.parametrize(("xla", "more"), [(False, 43), (True, 2)])
def test_a_later_run_is_the_first(run, xla, more, monkeypatch):
    """After RUNs with other seeds, of another loss and optimizer, of another network, and as the fiftieth."""
    monkeypatch.setattr(compiled, "_current", None)
    first = run("first", jit_compile=xla)
    assert run("other seed", jit_compile=xla, seed=7) != first
    if not xla:  # which takes 10 s each time that a network is built
        kept = compiled._current[1]
        run("other network", interaction_arch=[5], canc_dropout=0.5)
        run("other loss", custom_loss_module="mae_poly", alpha=2, optimizer="Nadam")
        assert compiled._current[1] is not kept
    assert run("again", jit_compile=xla) == first
    kept = compiled._current[1]
    for number in range(more):
        run(f"between {number}", jit_compile=xla, epochs=1, seed=number)
    assert run("at last", jit_compile=xla) == first
    assert compiled._current[1] is kept, "the network was built anew"


@pytest.mark.parametrize("optimizer", ["Adam", "Adagrad", "Ftrl", "Nadam"])
def test_begin_gives_what_a_fresh_build_has(optimizer):
    given = {**GIVEN, "optimizer": optimizer}
    used = compiled.compiled_for(given, read_hyper({**given, "seed": 1}), 6, 4)
    responses = data.Responses(np.arange(9, dtype=np.int32), np.zeros(9, np.int32), np.ones(9, np.float32), None)
    used.learn(np.ones((9, 6), np.float32), np.ones((1, 4), np.float32), responses, order(9, 0, 0))
    again = compiled.compiled_for(given, read_hyper({**given, "seed": 2}), 6, 4)
    fresh = network.build(read_hyper({**given, "seed": 2}), 6, 4)
    fresh.compile(optimizer=optimizer)
    fresh.optimizer.build(fresh.trainable_variables)
    assert again is used and len(fresh.variables) > len(fresh.weights)  # the states of Dropout are among them
    rate = fresh.optimizer.learning_rate
    for a, b in zip(again.model.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(again.model.optimizer.variables, fresh.optimizer.variables, strict=True):
        if b is not rate:
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(tf.__version__.startswith("2.16."), reason="what it prints differs from one call to the next")
def test_xla_compiles_one_program_for_any_number_of_batches():
    """Calls have as many batches as take 0.3 s: a program for each number would take seconds, again and again."""
    given = {**GIVEN, "jit_compile": True}
    net = compiled.compiled_for(given, read_hyper(given), 6, 4)
    rows = tf.zeros((net.capacity, 10), tf.int32)
    batches = tf.zeros((1, 6)), tf.zeros((1, 4)), rows, rows, tf.zeros(rows.shape)

    def program(count):
        return net._whole.experimental_get_compiler_ir(*batches, tf.constant(count))(stage="hlo")

    assert program(2) == program(3)


def test_a_users_loss_is_compiled_anew_unless_it_says_what_it_reads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "def construct(params):\n    return lambda y, p: abs(y - p) * params['weight']\n"
    (tmp_path / "silent_loss.py").write_text(text)
    (tmp_path / "open_loss.py").write_text("HYPERPARAMETERS = ['weight']\n" + text)

    def key(module, **more):
        return compiled.make_loss({"custom_loss_module": module, "weight": 1, "id": "A", **more}, read_hyper({}))[1]

    assert key("open_loss", id="B") == key("open_loss") != key("open_loss", weight=2)
    assert key("silent_loss", id="B") != key("silent_loss")


def test_a_users_loss_may_branch_on_tensors(tmp_path, input_dir, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    branches = "    if p[0, 0] > 0.5:\n        return p - p\n    return p - p + 7\n"
    (tmp_path / "branching_loss.py").write_text(f"def construct(params):\n    return loss\ndef loss(y, p):\n{branches}")
    table, given = data.load({"input_dir": str(input_dir)}), {**GIVEN, "custom_loss_module": "branching_loss"}
    net = compiled.compiled_for(given, read_hyper(given), 6, 4)
    results = net.learn(table.cells.matrix, table.drugs.matrix, table.train, order(144, 0, 0))
    assert set(results[:, 0]) <= {0, 7}


def test_fused_adam_is_keras_adam_up_to_rounding(input_dir):
    """The largest difference of a weight after 300 steps of which each moves it by about the learning rate."""
    table = data.load({"input_dir": str(input_dir)})
    weights = {}
    for fused in (True, False):
        given = {**GIVEN, "canc_dropout": 0, "interaction_dropout": 0, "fused_optimizer": fused}
        net = compiled.compiled_for(given, read_hyper(given), 6, 4)
        assert (type(net.model.optimizer).__name__ == "FusedAdam") is fused
        net.model.optimizer.learning_rate = rate = 1e-3
        tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
        start = net.model.get_weights()
        for epoch in range(20):
            net.learn(*tensors, table.train, order(len(table.train), 0, epoch))
        weights[fused] = net.model.get_weights()
        assert int(net.model.optimizer.iterations.numpy()) == 300
    moved = max(np.abs(a - b).max() for a, b in zip(weights[True], start, strict=True))
    apart = max(np.abs(a - b).max() for a, b in zip(weights[True], weights[False], strict=True))
    assert moved > 20 * rate and apart < 1e-2 * rate, (moved, apart)


def test_mixed_precision_learns_and_loads_in_plain_keras(run, tmp_path):
    left = run("mixed", mixed_precision=True, epochs=8)
    losses = json.loads(left["history.txt"])["val_loss"]
    assert losses[-1] < losses[0] and left["history.txt"] != run("plain", epochs=8)["history.txt"]
    model = keras.models.load_model(str(tmp_path / "mixed/ckpts/last/model.h5"), compile=False)
    assert {str(w.dtype) for w in model.weights} == {"float32"}


@pytest.mark.parametrize("drugs", ["all", "one"])
def test_towers_once_per_cell_and_drug_predict_what_the_network_does(input_dir, drugs):
    table = data.load({"input_dir": str(input_dir)})
    given = {**GIVEN, "generator_batch_size": 7, "interaction_activation": "tanh"}
    net = compiled.compiled_for(given, read_hyper(given), 6, 4)
    responses = table.train if drugs == "all" else table.test
    got = net.predict(compiled.on_device(table.cells), compiled.on_device(table.drugs), responses)
    inputs = [table.cells.matrix[responses.cell], table.drugs.matrix[responses.drug]]
    np.testing.assert_allclose(got, net.model.predict(inputs, verbose=0)[:, 0], atol=1e-6)
    assert np.ptp(got) > 0.01


def test_the_features_on_a_cpu_are_the_mapped_file(tmp_path):
    """A second worker of a node has no copy of them."""
    np.save(tmp_path / "cells.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    mapped = data.Features(None, np.load(tmp_path / "cells.npy", mmap_mode="c"))
    assert compiled.accelerators() or np.shares_memory(memoryview(compiled.on_device(mapped)), mapped.matrix)
