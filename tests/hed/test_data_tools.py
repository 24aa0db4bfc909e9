import errno
import json
import os
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from hed import gen_jsons, synthetic, tables

SPEC = synthetic.Spec(drugs=30, cells=60, genes=20, descriptors=15, responses=1500)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic") / "data"
    assert synthetic.generate(directory, SPEC)
    return directory


def test_layout(data):
    rsp, ge, md = (pd.read_parquet(data / name) for name in (tables.RSP, tables.GE, tables.MD))
    assert len(rsp) == 1500 and not rsp.duplicated(["improve_sample_id", "improve_chem_id"]).any()
    assert rsp["auc"].dtype == np.float32 and rsp["auc"].between(0, 1).all() and rsp["auc"].std() > 0.1
    assert set(rsp["improve_sample_id"]) == set(ge["improve_sample_id"]) and len(ge) == 60
    assert set(rsp["improve_chem_id"]) == set(md["improve_chem_id"]) and len(md) == 30
    assert [c.split(".")[0] for c in (ge.columns[1], md.columns[1])] == ["ge", "mordred"]
    assert (len(ge.columns), len(md.columns)) == (21, 16)


def test_a_left_out_drug_can_be_predicted(tmp_path):
    """Linear models of features and their products, fitted on 48 drugs, explain the responses to 12 others."""
    data = tmp_path / "data"
    synthetic.generate(data, synthetic.Spec(drugs=60, cells=60, genes=30, descriptors=30, responses=3600))
    rsp = pd.read_parquet(data / tables.RSP)
    cells = pd.read_parquet(data / tables.GE).set_index(tables.CELL)
    drugs = pd.read_parquet(data / tables.MD).set_index(tables.DRUG)
    ge, md = cells.loc[rsp[tables.CELL]].to_numpy(), drugs.loc[rsp[tables.DRUG]].to_numpy()
    known = rsp[tables.DRUG].isin(drugs.index[12:]).to_numpy()
    one = np.ones((len(rsp), 1))
    products = (ge[:, :, None] * md[:, None, :]).reshape(len(rsp), -1)

    def r2(*features):
        x, y = np.concatenate(features, axis=1), rsp["auc"].to_numpy(float)
        weights = np.linalg.solve(x[known].T @ x[known] + 30 * np.eye(x.shape[1]), x[known].T @ y[known])
        return 1 - ((y - x @ weights)[~known] ** 2).mean() / y[~known].var()

    assert 0.3 < r2(one, ge) < r2(one, ge, md) - 0.05 < r2(one, ge, md, products) - 0.1


def test_the_same_data_is_left_alone_and_other_data_is_not_touched(data, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in data.iterdir()}
    assert synthetic.generate(data, SPEC) is False
    assert {path.name: path.stat().st_mtime_ns for path in data.iterdir()} == before
    for directory, spec in ((data, synthetic.Spec()), (tmp_path, SPEC)):
        (tmp_path / "mine").write_text("")
        with pytest.raises(FileExistsError, match="holds something else"):
            synthetic.generate(directory, spec)


def test_equal_specs_give_equal_data_in_any_row_groups(data, tmp_path, monkeypatch):
    synthetic.generate(tmp_path / "again", SPEC)
    assert (tmp_path / "again" / tables.RSP).read_bytes() == (data / tables.RSP).read_bytes()
    monkeypatch.setattr(synthetic, "ROWS_AT_ONCE", 400)
    synthetic.generate(tmp_path / "streamed", SPEC)
    assert pd.read_parquet(tmp_path / "streamed" / tables.RSP).equals(pd.read_parquet(data / tables.RSP))


def test_a_failure_leaves_no_directory(tmp_path, monkeypatch):
    def disk_full(*args):
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "_write_features", disk_full)
    with pytest.raises(OSError, match="disk full"):
        synthetic.generate(tmp_path / "data", SPEC)
    assert list(tmp_path.iterdir()) == []


def test_more_responses_than_pairs(tmp_path):
    synthetic.generate(tmp_path / "data", synthetic.Spec(2, 3, 2, 2, 13, 5))
    rsp = pd.read_parquet(tmp_path / "data" / tables.RSP)
    assert sorted(rsp.groupby(["improve_sample_id", "improve_chem_id"]).size()) == [2, 2, 2, 2, 2, 3]


def test_synthetic_command_line(tmp_path, capsys):
    directory = tmp_path / "new" / "one" / "d"
    arguments = [str(directory), *"--responses 20 --genes 2 --drugs 1 --seed 0".split()]
    for state in ("written", "is there"):
        assert synthetic.main(arguments) == 0
        assert capsys.readouterr().out.startswith(f"{directory}: {state}: Spec(drugs=1, ")
    for option, value, message in (
        ("--drugs", "0", "drugs must be at least 1, not 0"),
        ("--seed", "-1", "seed must be at least 0, not -1"),
        ("--drugs", "2", f"{directory} holds something else: choose another directory or remove it"),
    ):
        assert synthetic.main([str(directory), option, value]) == 1
        assert capsys.readouterr().err == f"hed.synthetic: {message}\n"


def test_who_comes_second_finds_what_the_first_has_written(tmp_path, monkeypatch):
    """Which was not there when it looked; an empty directory was."""
    write, spec, directory = synthetic._write_tables, synthetic.Spec(2, 2, 1, 1, 4), tmp_path / "data"
    directory.mkdir()

    def write_late(temporary, spec):
        monkeypatch.setattr(synthetic, "_write_tables", write)
        assert synthetic.generate(directory, spec)
        write(temporary, spec)

    monkeypatch.setattr(synthetic, "_write_tables", write_late)
    assert synthetic.generate(directory, spec) and not synthetic.generate(directory, spec)
    assert list(tmp_path.iterdir()) == [directory]


def test_gen_jsons(tmp_path, capsys):
    text = gen_jsons.upf_text(1001, datetime(2025, 7, 17, 12))
    lines = text.splitlines()
    assert lines[:3] == ["# GEN JSONS", "# COUNT: 1001", "# TIMESTAMP: 2025-07-17 12:00:00"]
    assert lines[3] == '{"id": "RUN000", "index": 0}'
    assert json.loads(lines[-1]) == {"id": "RUN1000", "index": 1000}
    upf = str(tmp_path / "upf.json")
    assert (gen_jsons.main(["2", upf]), gen_jsons.main(["3", upf])) == (0, 1)
    assert "refusing to overwrite" in capsys.readouterr().err
    assert gen_jsons.main(["2", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == (tmp_path / "upf.json").read_text().splitlines()[3:]
    with pytest.raises(SystemExit):
        gen_jsons.main(["0", "-"])


def test_a_disk_that_is_full_leaves_no_half_of_a_upf(tmp_path, monkeypatch, capsys):
    """Half of the RUNs were a UPF, too, and the next gen-jsons refused to overwrite it."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert gen_jsons.main(["2", str(tmp_path / "upf.json")]) == 1
    assert capsys.readouterr().err == f"gen-jsons: {tmp_path}/upf.json: No space left on device\n"
    assert list(tmp_path.iterdir()) == []
