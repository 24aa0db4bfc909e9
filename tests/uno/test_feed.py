"""The feed against the original's two merges, the order of the samples, and that an epoch meets each of them once."""

import numpy as np
import pytest
from made_up_tables import tables, write_input

keras = pytest.importorskip("keras")

from hed.uno import compiled, data  # noqa: E402
from hed.uno.feed import batches, order  # noqa: E402
from hed.uno.hyper import read_hyper  # noqa: E402


def test_order_depends_on_seed_and_epoch():
    first = order(100, seed=3, epoch=0)
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(first, order(100, seed=3, epoch=0))
    for other in (order(100, seed=3, epoch=1), order(100, seed=4, epoch=0), order(100, seed=0, epoch=3)):
        assert (first != other).any()


@pytest.mark.parametrize("size", [10, 32, 144, 1000])
def test_batches_are_those_of_two_merges(tmp_path, size):
    """As the original makes them: the rows of a batch, merged with both tables of features."""
    ge, md, rsp = tables()
    parts = write_input(tmp_path, ge.sample(frac=1, random_state=5), md.sample(frac=1, random_state=6), rsp)
    table = data.load({"input_dir": str(tmp_path)})
    rows = order(len(table.train), seed=1, epoch=2)
    met = 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        merged = parts["train"].iloc[batch].merge(ge, "left", on="improve_sample_id")
        merged = merged.merge(md, "left", on="improve_chem_id")
        ours = batches(table.train, batch, len(batch))
        np.testing.assert_array_equal(table.cells.matrix[ours.cell[0]], merged.filter(like="ge."))
        np.testing.assert_array_equal(table.drugs.matrix[ours.drug[0]], merged.filter(like="mordred."))
        np.testing.assert_array_equal(ours.y[0], merged["auc"])
        met += len(batch)
    assert met == len(table.train) == 144


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("batch_size", [10, 144, 1000])
def test_an_epoch_meets_every_sample_once(input_dir, batch_size, xla):
    """With a learning rate of next to nothing, the sums over an epoch are those over the whole table."""
    sizes = {"canc_arch": [4], "drug_arch": [4], "interaction_arch": [4]}
    nothing_dropped = {f"{part}_dropout": 0 for part in ("canc", "drug", "interaction")}
    given = {"hyperparam_space": "block", "batch_size": batch_size, "jit_compile": xla, **sizes, **nothing_dropped}
    hyper = read_hyper({**given, "loss": "mae", "optimizer": "SGD", "learning_rate": 1e-30})
    table = data.load({"input_dir": str(input_dir)})
    network = compiled.compiled_for(given, hyper, 6, 4)
    tensors = compiled.on_device(table.cells), compiled.on_device(table.drugs)
    results = network.learn(*tensors, table.train, order(len(table.train), seed=0, epoch=0)).astype(float)
    inputs = [table.cells.matrix[table.train.cell], table.drugs.matrix[table.train.drug]]
    error = network.model.predict(inputs, verbose=0)[:, 0] - table.train.y
    samples = np.minimum(batch_size, 144 - batch_size * np.arange(len(results)))
    assert results[:, 0] @ samples == pytest.approx(np.abs(error).sum(), rel=1e-5)
    assert results[:, 1].sum() == pytest.approx((error**2).sum(), rel=1e-5)
