"""Reading the tables: every response must meet the features of its own cell and drug."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_tables import tables, write_input

from hed.uno import data


def merged(parts, ge, md, stage):
    """The original's way: two merges. (pandas before 2.2 keeps the order of the responses only for `left`.)"""
    frame = parts[stage].merge(ge, "left", on="improve_sample_id").merge(md, "left", on="improve_chem_id")
    return frame.filter(like="ge.").to_numpy(), frame.filter(like="mordred.").to_numpy(), frame["auc"].to_numpy()


@pytest.mark.parametrize("layout", ["merged", "one per stage", "dictionary ids", "float64"])
def test_features_are_those_of_a_merge(tmp_path, layout, caplog):
    ge, md, rsp = tables()
    if layout == "float64":
        rsp["auc"] = rsp["auc"].astype("float64")
    ge, md = ge.sample(frac=1, random_state=3), md.sample(frac=1, random_state=4)
    parts = write_input(tmp_path, ge, md, rsp)
    if layout == "one per stage":
        for name, frame, key in (("ge", ge, "improve_sample_id"), ("md", md, "improve_chem_id")):
            (tmp_path / f"{name}_merged_data.parquet").unlink()
            for stage, part in parts.items():
                some = frame[frame[key].isin(part[key])]
                if stage == "val":  # as pandas writes a column whose values happen to need it
                    some = some.astype({some.columns[1]: "float64"})
                some.to_parquet(tmp_path / f"{name}_{stage}_data.parquet")
    if layout == "dictionary ids":
        for stage, part in parts.items():
            frame = part.assign(improve_sample_id=part["improve_sample_id"].astype("category"))
            frame.to_parquet(tmp_path / f"rsp_{stage}_data.parquet")
    read = data.load({"input_dir": str(tmp_path)})
    assert (len(read.cells.ids), len(read.drugs.ids)) == (20, 10)
    assert read.cells.matrix.dtype == np.float32
    for stage in data.STAGES:
        genes, descriptors, y = merged(parts, ge, md, stage)
        got = getattr(read, stage)
        np.testing.assert_array_equal(read.cells.matrix[got.cell], genes)
        np.testing.assert_array_equal(read.drugs.matrix[got.drug], descriptors)
        np.testing.assert_array_equal(got.y, y)
        assert got.y.dtype == np.float32
        assert got.labels.to_pylist() == parts[stage]["improve_sample_id"].tolist()
    assert not caplog.messages


def test_responses_without_features_are_counted_and_left_out(tmp_path, caplog):
    ge, md, rsp = tables()
    rsp.loc[::7, "auc"] = np.nan
    parts = write_input(tmp_path, ge[2:], md[:-1][::-1], rsp)
    train = parts["train"]
    cell, drug = train["improve_sample_id"].isin(["ACH-000", "ACH-001"]), train["improve_chem_id"] == "Drug_9"
    lost = cell | drug | train["auc"].isna()
    read = data.load({"input_dir": str(tmp_path)}).train
    assert read.labels.to_pylist() == train["improve_sample_id"][~lost].tolist()
    np.testing.assert_array_equal(read.y, train["auc"][~lost])
    causes = f"{cell.sum()} without features of the cell, {drug.sum()} of the drug, {train['auc'].isna().sum()} without"
    assert f"{lost.sum()} of {len(train)} train responses are left out: {causes} a value" in caplog.text


def test_other_column_names(tmp_path):
    ge, md, rsp = tables()
    names = {"improve_sample_id": "cell", "improve_chem_id": "drug", "auc": "ic50"}
    write_input(tmp_path, ge, md, rsp)
    for path in tmp_path.iterdir():
        frame = pd.read_parquet(path)
        frame.rename(columns=names).to_parquet(path)
    read = data.load(
        {"input_dir": str(tmp_path), "canc_col_name": "cell", "drug_col_name": "drug", "y_col_name": "ic50"}
    )
    assert len(read.test) == 20


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("rsp_test_data", lambda t: t[:0], "rsp_test_data.parquet: the test set is empty"),
        ("rsp_val_data", lambda t: t.drop_columns(["auc"]), "rsp_val_data.parquet has no column auc"),
        ("md_merged_data", lambda t: t[:1], "none of the 144 train responses"),
        ("ge_merged_data", lambda t: t.select([0]), r"has no column ge\.\*"),
        (
            "ge_merged_data",
            lambda t: t.set_column(1, t.schema.names[1], pa.array([None] * 20, pa.float32())),
            "20 values are missing or not finite",
        ),
    ],
)
def test_unusable_tables_are_named(input_dir, file, change, message):
    path = input_dir / f"{file}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(ValueError, match=message):
        data.load({"input_dir": str(input_dir)})


def test_missing_tables_are_named(input_dir):
    (input_dir / "rsp_val_data.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no rsp_val_data\.parquet"):
        data.load({"input_dir": str(input_dir)})
    (input_dir / "ge_merged_data.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no ge_merged_data\.parquet \(nor ge_train_data\.parquet\) in"):
        data.load({"input_dir": str(input_dir)})
