"""The order of the samples, and that an epoch meets each of them once, the last smaller batch included."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from hed.uno import data, network, training  # noqa: E402
from hed.uno.feed import Feed, Tables, order  # noqa: E402
from hed.uno.hyper import read_hyper  # noqa: E402


def test_order_depends_on_seed_and_epoch():
    first = order(100, seed=3, epoch=0)
    assert sorted(first) == list(range(100))
    np.testing.assert_array_equal(first, order(100, seed=3, epoch=0))
    for other in (order(100, seed=3, epoch=1), order(100, seed=4, epoch=0), order(100, seed=0, epoch=3)):
        assert (first != other).any()


@pytest.mark.parametrize("batch_size", [10, 144, 1000])
def test_an_epoch_meets_every_sample_once(input_dir, batch_size):
    """With a learning rate of 0, the sums over an epoch are those over the whole table."""
    sizes = {"canc_arch": [4], "drug_arch": [4], "interaction_arch": [4]}
    nothing_dropped = {f"{part}_dropout": 0 for part in ("canc", "drug", "interaction")}
    hyper = read_hyper({"hyperparam_space": "block", **sizes, **nothing_dropped})
    table = data.load({"input_dir": str(input_dir)})
    model = network.build(hyper, 6, 4)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    feed = Feed(Tables(table), table.train)
    steps = training.train_steps(model, keras.losses.get("mae"), feed, batch_size)
    loss, squares = steps(order(feed.size, seed=0, epoch=0), 0.0, 0.0)
    inputs = [table.cells.matrix[table.train.cell], table.drugs.matrix[table.train.drug]]
    error = model.predict(inputs, verbose=0)[:, 0] - table.train.y
    assert feed.size == 144
    assert float(loss) == pytest.approx(np.abs(error).sum(), rel=1e-5)
    assert float(squares) == pytest.approx((error**2).sum(), rel=1e-5)
