"""Scores against naive formulas, and the two files."""

import csv
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hed.uno import scores


def naive_ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def naive_correlation(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return cov / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


value = st.integers(0, 10_000).map(lambda n: n / 10_000)


@given(st.lists(st.tuples(value, value), min_size=2, max_size=30))
def test_scores(pairs):
    true, predicted = map(list, zip(*pairs, strict=True))
    got = scores.compute(np.array(true), np.array(predicted))
    squares = [(a - b) ** 2 for a, b in pairs]
    assert got["mse"] == pytest.approx(sum(squares) / len(pairs))
    assert got["rmse"] == pytest.approx(math.sqrt(sum(squares) / len(pairs)))
    if len(set(true)) > 1:
        mean = sum(true) / len(true)
        assert got["r2"] == pytest.approx(1 - sum(squares) / sum((a - mean) ** 2 for a in true))
    if len(set(true)) > 1 and len(set(predicted)) > 1:
        assert got["pcc"] == pytest.approx(naive_correlation(true, predicted), abs=1e-9)
        assert got["scc"] == pytest.approx(naive_correlation(naive_ranks(true), naive_ranks(predicted)), abs=1e-9)
        assert "reason" not in got
    else:
        assert got["pcc"] is None
        assert got["scc"] is None
        assert "constant" in got["reason"]
    json.dumps(got, allow_nan=False)


def test_files(tmp_path):
    true, predicted = np.array([0.91684, 0.5, 1.0], "float32"), np.array([0.31174, 0.25, 0.123456], "float32")
    scores.write(tmp_path, "test", "auc", true, predicted, pa.array(["P17_V", "ACH-000956", "ACH-000948"]))
    text = (tmp_path / "test_y_data_predicted.csv").read_text()
    assert text == "auc_true,auc_pred,labels\n0.9168,0.3117,P17_V\n0.5,0.25,ACH-000956\n1.0,0.1235,ACH-000948\n"
    written = json.loads((tmp_path / "test_scores.json").read_text())
    assert list(written) == ["mse", "rmse", "pcc", "scc", "r2"]
    rows = np.loadtxt(text.splitlines()[1:], delimiter=",", usecols=(0, 1))
    assert written == scores.compute(rows[:, 0], rows[:, 1])
    assert '\n    "rmse"' in (tmp_path / "test_scores.json").read_text()


def test_labels_with_a_comma_can_be_read_back(tmp_path):
    scores.write(tmp_path, "val", "auc", np.ones(2), np.zeros(2), pa.array(['a,"b"', "c"]))
    with (tmp_path / "val_y_data_predicted.csv").open(newline="") as file:
        assert [row["labels"] for row in csv.DictReader(file)] == ['a,"b"', "c"]


def test_predictions_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 of 2 predictions for the test set are NaN or infinite"):
        scores.write(tmp_path, "test", "auc", np.ones(2), np.array([0.5, np.nan]), pa.array(["a", "b"]))
    assert not list(tmp_path.iterdir())
