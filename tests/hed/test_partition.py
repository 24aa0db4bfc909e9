import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hed import tables
from hed.partition_uno_pq import Split, main, split_rows, write_split

GDSC = Path(__file__).parents[2] / "../shared/data/gdsc"
SETS = ("train", "val", "test")

names = st.sampled_from(["b", "a", "Drug_1", "c", "é"])
responses = st.lists(st.tuples(names, names, st.floats(0, 1, width=32)), min_size=1, max_size=60)


def frame(rows):
    return pd.DataFrame(rows, columns=["improve_sample_id", "improve_chem_id", "auc"]).assign(study="S")


@pytest.fixture
def rsp(tmp_path):
    rows = [(f"c{i % 7}", f"d{(i * 3) % 11}", i / 1000) for i in range(1000)]
    path = tmp_path / "rsp.parquet"
    frame(rows).to_parquet(path)
    return path


@settings(max_examples=100)
@given(responses, st.booleans(), st.sampled_from(["by_drug", "by_cell"]), st.integers(0, 2))
def test_the_split_is_what_pandas_would_hold_out(tmp_path_factory, rows, categorical, partition, seed):
    """Also from a categorical column, whose dictionary is sorted and may hold names that no row has."""
    path = tmp_path_factory.mktemp("rsp") / "rsp.parquet"
    table = frame(rows)
    column = {"by_drug": "improve_chem_id", "by_cell": "improve_sample_id"}[partition]
    unique = list(table[column].unique())
    if categorical:
        table[column] = pd.Categorical(table[column], categories=["unused", *sorted(unique)])
    table.to_parquet(path, row_group_size=7)
    for index, name in enumerate(unique):
        split = split_rows(path, partition, index, seed)
        assert split.name == name
        assert split.test.tolist() == np.flatnonzero(table[column] == name).tolist()
        rest = len(table) - len(split.test)
        assert (len(split.train), len(split.val)) == (int(rest * 0.8), rest - int(rest * 0.8))
        assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(len(table)))


def test_random_is_80_10_10_without_an_index(rsp):
    split = split_rows(rsp, "random")
    assert split.sizes() == {"train": 800, "val": 100, "test": 100}
    assert sorted(np.concatenate(split[1:])) == list(range(1000))


def test_the_split_of_a_seed_never_changes(rsp):
    """A resumed RUN must find its validation rows, whatever process, NumPy release or platform it resumes in.

    If these numbers change, every checkpoint in the world trains on its validation rows.
    """
    split = split_rows(rsp, "by_drug", 3, seed=1)
    assert split.train[:8].tolist() == [458, 323, 622, 93, 61, 813, 774, 800]
    assert split.val[:8].tolist() == [338, 655, 285, 104, 382, 363, 396, 635]
    assert split_rows(rsp, "by_drug", 3, seed=2).val.tolist() != split.val.tolist()


def test_another_held_out_drug_leaves_the_other_rows_in_their_order(rsp):
    one, two = split_rows(rsp, "by_drug", 0), split_rows(rsp, "by_drug", 1)
    order = [np.concatenate([s.train, s.val]) for s in (one, two)]
    both = np.intersect1d(*order)
    first, second = (rows[np.isin(rows, both)].tolist() for rows in order)
    assert first == second


@settings(max_examples=30)
@given(responses, st.booleans())
def test_the_files_are_the_rows_of_the_input(tmp_path_factory, rows, categorical):
    directory = tmp_path_factory.mktemp("rsp")
    table = frame(rows)
    if categorical:
        table["improve_chem_id"] = table["improve_chem_id"].astype("category")
    path = directory / "rsp.parquet"
    table.to_parquet(path)
    split = split_rows(path, "by_cell", 0)
    written = write_split(path, split, str(directory / "rsp_@@@_data.parquet"))
    assert [file.name for file in written] == [f"rsp_{name}_data.parquet" for name in SETS]
    whole = pq.read_table(path)
    for file, taken in zip(written, split[1:], strict=True):
        part = pq.read_table(file)
        assert part.schema.equals(whole.schema, check_metadata=True)
        assert part.to_pylist() == whole.take(pa.array(taken)).to_pylist()


def test_columns_are_chosen_by_name_and_of_any_type(tmp_path):
    path = tmp_path / "rsp.parquet"
    columns = {
        "auc": pa.array([0.1, 0.2, 0.3], pa.float32()),
        "improve_chem_id": pa.array([7, 5, None], pa.int64()),
        "when": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        "improve_sample_id": pa.array(["x", "y", "x"], pa.large_string()),
    }
    pq.write_table(pa.table(columns), path)
    split = split_rows(path, "by_drug", 1)
    assert (split.name, split.test.tolist(), len(split.train) + len(split.val)) == ("5", [1], 2)
    file = write_split(path, split, str(tmp_path / "@@@"))[2]
    assert pq.read_schema(file).equals(pq.read_schema(path), check_metadata=True)


def test_a_changed_file_is_read_again(rsp):
    assert split_rows(rsp, "by_drug", 0).name == "d0"
    frame([("c", "other", 0.5)] * 20).to_parquet(rsp)
    os.utime(rsp, ns=(1, 1))
    split = split_rows(rsp, "by_drug", 0)
    assert (split.name, len(split.test)) == ("other", 20)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("by_drug", 11), IndexError, "index 11 out of range: there are 11 drugs"),
        (("by_cell", -1), IndexError, "index -1 out of range: there are 7 cells"),
        (("by_drug", None), ValueError, "needs an index"),
        (("by_drug", True), ValueError, "must be an integer"),
        (("by_patient", 0), ValueError, "partition must be one of by_drug, by_cell, random, not 'by_patient'"),
    ],
)
def test_errors(rsp, arguments, error, message):
    with pytest.raises(error, match=message):
        split_rows(rsp, *arguments)


def test_nothing_is_overwritten_and_nothing_left_half(rsp, tmp_path, monkeypatch):
    split = split_rows(rsp, "by_drug", 0)
    out = str(tmp_path / "part_@@@")
    (tmp_path / "part_val").write_text("mine")
    with pytest.raises(FileExistsError, match="refusing to overwrite"):
        write_split(rsp, split, out)
    (tmp_path / "part_val").unlink()

    def fail_at_test(path, table, metadata):
        if table.num_rows == len(split.test):
            raise OSError("disk full")
        path.write_text("")

    monkeypatch.setattr("hed.partition_uno_pq._write", fail_at_test)
    with pytest.raises(OSError, match="disk full"):
        write_split(rsp, split, out)
    assert [path.name for path in tmp_path.iterdir()] == ["rsp.parquet"]
    with pytest.raises(ValueError, match="@@@"):
        write_split(rsp, split, str(tmp_path / "part"))


def test_command_line(rsp, tmp_path, capsys):
    out = str(tmp_path / "rsp_@@@_data.parquet")
    assert main(["by_drug", "--index", "2", str(rsp), out]) == 0
    assert capsys.readouterr().out.startswith("train=")
    assert {path.name for path in tmp_path.iterdir()} == {
        "rsp.parquet",
        *(f"rsp_{s}_data.parquet" for s in SETS),
    }
    for bad in (
        ["by_drug", str(rsp), "x@@@"],
        ["by_drug", "--index", "2", str(rsp), out],
        ["random", "no", "@@@"],
    ):
        assert main(bad) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["random", str(tmp_path / "rsp_test_data.parquet"), str(tmp_path / "r_@@@")]) == 0


@pytest.mark.skipif(not GDSC.exists(), reason="the real data is not here")
def test_real_drugs():
    rsp = GDSC / tables.RSP
    table = pd.read_parquet(rsp)
    for index, name in enumerate(table["improve_chem_id"].unique()[:12]):
        split = split_rows(rsp, "by_drug", index)
        assert isinstance(split, Split) and split.name == name
        assert (table["improve_chem_id"].iloc[split.test] == name).all()
        assert len(split.test) == (table["improve_chem_id"] == name).sum()
        assert len(split.train) == int((len(table) - len(split.test)) * 0.8)
