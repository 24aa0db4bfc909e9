"""The arrays that a node's processes share: those of the tables, made once, and made anew when a table changes."""

import errno
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.cli import main
from hed import arrays, hed_setup, synthetic, tables
from hed.uno import data, unorun

SPEC = synthetic.Spec(drugs=5, cells=8, genes=3, descriptors=3, responses=40)
NAMES = arrays.columns({})
PARTITION = {"partition": "by_drug", "index": 1, "partition_seed": 1}


@pytest.fixture
def source(tmp_path, monkeypatch):
    arrays._open.cache_clear()
    monkeypatch.setenv("TMP_ORIGINAL", str(tmp_path / "node" / "original"))
    synthetic.generate(tmp_path / "node" / "original", SPEC)
    return tmp_path / "node" / "original"


def opened(source):
    arrays._open.cache_clear()  # as another process would
    return arrays.open_arrays(source, NAMES, source.parent)


def directories(source):
    return sorted(path.name for path in source.parent.iterdir() if path != source)


@pytest.mark.parametrize("partition", ["by_drug", "by_cell", "random"])
def test_a_run_from_arrays_is_the_run_from_files(source, tmp_path, partition):
    """Row by row, also where ids, features and values are missing, and values of twice the size."""
    rsp = pd.read_parquet(source / tables.RSP).astype({"auc": "float64"})
    rsp.loc[3, "improve_sample_id"] = None
    rsp.loc[5, "auc"] = None
    rsp.to_parquet(source / tables.RSP)
    ge = pd.read_parquet(source / tables.GE)
    ge.loc[0, "improve_sample_id"] = None  # nor are these the features of the response without an id
    ge.to_parquet(source / tables.GE)
    md = pd.read_parquet(source / tables.MD)
    md[:-1].sample(frac=1, random_state=1).to_parquet(source / tables.MD)
    runs = []
    for files in (True, False):
        run = tmp_path / "EXP000/run" / str(files)
        run.mkdir(parents=True)
        params = {"instance_directory": str(run), "input_dir": str(source), "framework": "none", "index": 1}
        params |= {"partition": partition, "partition_files": files}
        hed_setup.pre_run(params)
        assert (json.loads((run / "partition.json").read_text())["partition"]) == partition
        assert params["input_dir"].endswith("original") is not files
        runs.append(data.load(params))
    for stage in data.STAGES:
        one, two = (getattr(run, stage) for run in runs)
        np.testing.assert_array_equal(runs[0].cells.matrix[one.cell], runs[1].cells.matrix[two.cell])
        np.testing.assert_array_equal(runs[0].drugs.matrix[one.drug], runs[1].drugs.matrix[two.drug])
        np.testing.assert_array_equal(one.y, two.y)
        assert one.y.dtype == two.y.dtype == np.float32
        assert one.labels.to_pylist() == two.labels.to_pylist()


@pytest.mark.parametrize(("rsp_type", "md_type"), [("float64", "float64"), ("float64", "int64"), ("int64", "float64")])
def test_ids_that_are_numbers_have_one_name_in_all_tables(source, tmp_path, capsys, rsp_type, md_type):
    """pandas makes integers floats as soon as one is missing: 152 in one table is 152.0 in the other."""
    for table, kind in ((tables.RSP, rsp_type), (tables.MD, md_type)):
        frame = pd.read_parquet(source / table)
        numbers = frame["improve_chem_id"].str.removeprefix("Drug_").astype(int) + 152
        frame["improve_chem_id"] = numbers.astype(kind)
        if table == tables.RSP and kind == "float64":
            frame.loc[3, "improve_chem_id"] = None
        frame.to_parquet(source / table)
    assert hed_setup.check([{"index": 1}], str(source)) == []
    main(["list_drugs", "--index", "1", str(source / tables.RSP)])
    listed = capsys.readouterr().out.split()[1]
    assert listed.isdecimal()
    sizes = []
    for files in (True, False):
        run = tmp_path / "EXP000/run" / str(files)
        run.mkdir(parents=True)
        params = {"instance_directory": str(run), "input_dir": str(source), "framework": "none", "index": 1}
        params |= {"partition_files": files}
        hed_setup.pre_run(params)
        assert json.loads((run / "partition.json").read_text())["name"] == listed
        sizes.append([len(getattr(data.load(params), stage)) for stage in data.STAGES])
    assert sizes[0] == sizes[1] and all(sizes[0])


@pytest.mark.parametrize("ids", [[True, False], [b"x", b"y"], [152.0, 1.5]])
def test_ids_of_any_type_are_those_of_the_features(tmp_path, ids):
    pq.write_table(pa.table({"id": pa.array(ids)}), tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert tables.read_ids(tmp_path / "t.parquet", "id").names == arrays.strings(table["id"]).to_pylist()


def test_a_model_that_is_not_ours_gets_files(source, tmp_path):
    for file, files in (("/elsewhere/unorun_train_improve.py", True), (unorun.__file__, False)):
        run = tmp_path / "EXP000/run" / str(files)
        run.mkdir(parents=True)
        params = {"instance_directory": str(run), "input_dir": str(source), "framework": "none", "index": 1}
        params |= {"model_file": file}
        hed_setup.pre_run(params)
        assert params["partition_files"] is files
        assert Path(params["input_dir"], "rsp_val_data.parquet").exists() is files


def test_the_partition_is_by_the_usual_columns_whatever_the_model_reads(source):
    expected = arrays.split(opened(source), source, PARTITION)
    rsp, md = (pd.read_parquet(source / table) for table in (tables.RSP, tables.MD))
    rsp.assign(family="one").to_parquet(source / tables.RSP)
    md[:1].assign(improve_chem_id="one").rename(columns={"improve_chem_id": "family"}).to_parquet(source / tables.MD)
    params = PARTITION | {"drug_col_name": "family"}
    found = arrays.split(arrays.open_arrays(source, arrays.columns(params), source.parent), source, params)
    assert found.name == expected.name and found.test.tolist() == expected.test.tolist()


@pytest.mark.parametrize("error", [KeyError, OSError])  # of Python before 3.13, and since
def test_a_user_without_a_name_has_a_place_too(tmp_path, monkeypatch, error):
    """In a container that was started with a number that is not in its passwd."""

    def getuser():
        raise error

    monkeypatch.setattr("getpass.getuser", getuser)
    assert arrays.local_directory(tmp_path).name == f"uid{os.getuid()}"


def test_made_once_and_mapped(source, monkeypatch):
    first = opened(source)
    monkeypatch.setattr(arrays, "_make", None)
    again = opened(source)
    assert isinstance(again.cells.matrix, np.memmap) and again.cells.matrix.ctypes.data % 64 == 0
    np.testing.assert_array_equal(first.drugs.matrix, again.drugs.matrix)
    assert (
        again.drug.names == first.drug.names == list(pd.read_parquet(source / tables.RSP)["improve_chem_id"].unique())
    )
    assert len(directories(source)) == 1


def test_a_changed_table_is_noticed_and_the_old_arrays_go(source):
    before, [old] = opened(source), directories(source)
    frame = pd.read_parquet(source / tables.GE)
    frame["ge.G0"] += 1
    frame.to_parquet(source / tables.GE)
    # Without clearing the cache: the same process sees it too.
    after, [new] = arrays.open_arrays(source, NAMES, source.parent), directories(source)
    assert old != new
    np.testing.assert_allclose(after.cells.matrix[:, 0], before.cells.matrix[:, 0] + 1)  # mapped, although removed


def test_what_is_left_of_other_tables_goes(source, tmp_path):
    """Of data that is gone, of a format that is, and of a process that was killed; not of other data that is there."""
    for name in ("gone", "there"):
        synthetic.generate(tmp_path / name, SPEC)
        arrays.open_arrays(tmp_path / name, NAMES, source.parent)
    [gone, there] = sorted(directories(source), key=lambda name: "gone" not in made_from(source.parent / name))
    (tmp_path / "gone" / tables.MD).unlink()
    for number, text in enumerate(("", '{"cells": []}')):  # torn, and of a format that did not name its tables
        old = source.parent / f"arrays-00000000-0000000{number}"
        old.mkdir()
        (old / arrays.NAMES).write_text(text)
    (source.parent / f".arrays-00000000-00000000.0123abcd.{os.uname().nodename}").mkdir()
    opened(source)
    assert len(directories(source)) == 2 and there in directories(source) and gone not in directories(source)


def test_what_the_user_keeps_beside_it_stays(source):
    """Without staging, arrays lie in $TMPDIR/$USER, where people have things of their own."""
    kept = ["arrays-2024-backup", "arrays-00000000-00000000", f".arrays-old.{os.uname().nodename}"]
    for name in kept:
        (source.parent / name).mkdir()
        (source.parent / name / "results.csv").write_text("precious")
    opened(source)
    assert all((source.parent / name / "results.csv").exists() for name in kept)


def made_from(path):
    return (path / arrays.NAMES).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.unlink(),
    ],
)
def test_damage_is_repaired(source, caplog, damage):
    opened(source)
    [name] = directories(source)
    damage(source.parent / name / "cells.npy")
    assert opened(source).cells.matrix.shape == (8, 3) and "is damaged, and made again" in caplog.text
    assert (source.parent / name / "cells.npy").stat().st_size
    assert opened(source).cells.matrix.shape == (8, 3)
    assert directories(source) == [name]


def test_without_a_place_to_write_they_are_the_process_own(source, monkeypatch, caplog):
    (source.parent / "full").write_text("a file is no directory")
    arrays._open.cache_clear()
    table = arrays.open_arrays(source, NAMES, source.parent / "full")
    assert table.cells.matrix.shape == (8, 3) and "no arrays in" in caplog.text


def test_a_place_in_tmp_that_another_user_has_made_is_not_used(source, tmp_path, monkeypatch):
    """It is whoever's comes first to /tmp/alice. One that the owner of /tmp has made is the site's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMP_ORIGINAL")
    place = arrays.local_directory(source)
    assert place.parent == tmp_path and place.stat().st_mode & 0o777 == 0o700
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's")
    os.chown(place, 12345, 12345)
    with pytest.raises(PermissionError, match=f"^{place} belongs to another user: set TMPDIR"):
        arrays.local_directory(source)
    monkeypatch.setenv("TMP_ORIGINAL", str(source))
    assert arrays.local_directory(source) == source.parent, "the user's own choice, perhaps a project's"
    monkeypatch.delenv("TMP_ORIGINAL")
    os.chown(tmp_path, 12345, 12345)
    assert arrays.local_directory(source) == place
    place.rmdir()
    place.symlink_to(source)
    os.chown(place, 54321, 54321, follow_symlinks=False)
    with pytest.raises(PermissionError, match="another user"):
        arrays.local_directory(source)


def test_a_full_disk_costs_the_sharing_only(source, monkeypatch, caplog):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert opened(source).cells.matrix.shape == (8, 3)
    assert "for this node's processes to share: [Errno 28] No space left" in caplog.text
    assert directories(source) == []


def test_who_comes_second_takes_what_the_first_has_made(source, monkeypatch, caplog):
    """Which was not there when it looked."""
    opened(source)
    load, looks = arrays._load, []

    def too_early(target):
        looks.append(target)
        if len(looks) == 1:
            raise FileNotFoundError
        return load(target)

    monkeypatch.setattr(arrays, "_load", too_early)
    assert isinstance(opened(source).cells.matrix, np.memmap)
    assert len(directories(source)) == 1 and not caplog.messages


def _open_in_child(source, barrier, answers):
    barrier.wait()
    answers.put(float(arrays.open_arrays(source, NAMES, source.parent).cells.matrix.sum()))


def test_processes_that_come_at_once_share_one(source):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_open_in_child, args=(source, barrier, answers)) for _ in range(6)]
    for process in processes:
        process.start()
    assert len({answers.get(timeout=300) for _ in processes}) == 1
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(directories(source)) == 1


def test_what_is_wrong_with_the_tables_is_said(source):
    frame = pd.read_parquet(source / tables.MD)
    frame.loc[0, "mordred.D0"] = np.nan
    frame.to_parquet(source / tables.MD)
    with pytest.raises(ValueError, match=r"md_merged_data.parquet: 1 values are missing"):
        opened(source)
    with pytest.raises(ValueError, match=r"rsp_merged.parquet has no column ic50"):
        arrays.open_arrays(source, NAMES._replace(y="ic50"), source.parent)
