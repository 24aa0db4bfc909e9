import json
import logging
import multiprocessing
import os
import shutil
import signal
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hed import hed_setup, synthetic, tables
from model_runner import ModelResult, run_model

SPEC = synthetic.Spec(drugs=5, cells=8, genes=3, descriptors=3, responses=40)


@pytest.fixture
def original(tmp_path, monkeypatch):
    """TMP-ORIGINAL: what the staging hook leaves on the node's local disk."""
    synthetic.generate(tmp_path / "node" / "original", SPEC)
    monkeypatch.setenv("TMP_ORIGINAL", str(tmp_path / "node" / "original"))
    return tmp_path / "node" / "original"


@pytest.fixture
def new_run(tmp_path, original):
    """Parameters of a RUN as the engine gives them; the framework keeps TensorFlow out of these tests."""

    def make(run_id, exp="EXP001", **params):
        run = tmp_path / exp / "run" / run_id
        run.mkdir(parents=True, exist_ok=True)
        common = {
            "id": run_id,
            "instance_directory": str(run),
            "input_dir": str(original),
            "framework": "none",
        }
        return {**common, **params}

    return make


def finish(params, result="0.1"):
    (Path(params["instance_directory"]) / "result.txt").write_text(result + "\n")
    return hed_setup.post_run(params, {})


def rewrite(original, table, change):
    path = original / table
    change(pd.read_parquet(path)).to_parquet(path)


def test_a_run_finds_its_tables_and_leaves_a_marker(new_run, original, tmp_path):
    params = new_run("RUN002", index=2)
    assert hed_setup.pre_run(params) == ModelResult.SUCCESS
    local = Path(params["input_dir"])
    assert local.parent == original.parent and local.name.startswith("index-002-EXP001-RUN002-")
    assert params["output_dir"] == params["instance_directory"]
    assert (params["partition"], params["partition_seed"]) == ("by_drug", 1)
    sizes = {name: pq.read_metadata(local / f"rsp_{name}_data.parquet").num_rows for name in ("train", "val", "test")}
    for kind in ("ge", "md"):
        for name in ("merged", "train", "val", "test"):
            link = local / f"{kind}_{name}_data.parquet"
            assert link.read_bytes() == (original / f"{kind}_merged_data.parquet").read_bytes()
    record = json.loads((Path(params["instance_directory"]) / "partition.json").read_text())
    names = pd.read_parquet(original / tables.RSP)["improve_chem_id"].unique()
    assert record == {
        "partition": "by_drug",
        "index": 2,
        "partition_seed": 1,
        "name": names[2],
        "rows": sizes,
        "data_checksum": params["data_checksum"],
    }
    assert finish(params) == ModelResult.SUCCESS
    assert (tmp_path / "EXP001/markers/marker-002.txt").read_text() == "DONE\n"
    assert [path.name for path in original.parent.iterdir()] == ["original"]


def test_only_the_run_that_finished_is_skipped(new_run):
    """Two RUNs of one index share a marker; a failed one beside a finished one must train."""
    first, second = new_run("A", index=0), new_run("B", index=0)
    hed_setup.pre_run(first)
    finish(first)
    assert hed_setup.pre_run(new_run("A", index=0)) == ModelResult.SKIP
    assert hed_setup.pre_run(second) == ModelResult.SUCCESS
    (Path(second["instance_directory"]) / "result.txt").write_text("RUN_EXCEPTION\n")
    assert hed_setup.pre_run(new_run("B", index=0)) == ModelResult.SUCCESS


def test_a_run_whose_marker_is_missing_trains_although_it_has_a_result(new_run, tmp_path):
    """The user has removed it, or the job died between the two."""
    params = new_run("A", index=0)
    hed_setup.pre_run(params)
    finish(params)
    (tmp_path / "EXP001/markers/marker-000.txt").unlink()
    assert hed_setup.pre_run(new_run("A", index=0)) == ModelResult.SUCCESS


def test_no_two_runs_of_a_node_share_a_directory(new_run, tmp_path):
    sets = [new_run("A", index=0), new_run("B", index=0), new_run("A", exp="EXP002", index=0)]
    sets += [new_run("A", exp="other/EXP001", index=0), new_run("A" * 250, index=0)]
    for params in sets:
        hed_setup.pre_run(params)
    assert len({params["input_dir"] for params in sets}) == len(sets)


def test_a_crashed_attempt_is_in_nobodys_way(new_run):
    crashed = new_run("RUN000", index=0)
    hed_setup.pre_run(crashed)
    (Path(crashed["input_dir"]) / "rsp_test_data.parquet").write_text("torn")
    again = new_run("RUN000", index=0)
    hed_setup.pre_run(again)
    assert again["input_dir"] == crashed["input_dir"]
    assert pq.read_metadata(Path(again["input_dir"]) / "rsp_test_data.parquet").num_rows == 8


def _killed(params):
    hed_setup.pre_run(params)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_run_left_goes_with_the_next_and_nothing_else(new_run, original):
    killed, other, last = (new_run(name, index=n) for n, name in enumerate(("A", "B", "C")))
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(killed,))
    process.start()
    process.join()
    others = {"index-003", "index-004-EXP001-D-01234567-elsewhere"}  # the original workflow's; another node's
    for name in others:
        (original.parent / name).mkdir()
    hed_setup.pre_run(other)
    hed_setup.pre_run(last)  # both at work
    assert {path.name for path in original.parent.iterdir()} == {
        *("original", Path(other["input_dir"]).name, Path(last["input_dir"]).name, *others)
    }
    for params in (other, last):
        hed_setup.clean_up(params)
    assert {path.name for path in original.parent.iterdir()} == {"original", *others}


def test_a_failure_leaves_nothing_on_the_local_disk(new_run, original):
    (original / tables.MD).unlink()
    with pytest.raises(FileNotFoundError, match="md_merged_data"):
        hed_setup.pre_run(new_run("RUN000", index=0))
    assert [path.name for path in original.parent.iterdir()] == ["original"]
    hed_setup.clean_up({**new_run("RUN000", index=0), "input_dir": None})  # neither it nor DATA_SOURCE was there


def test_a_device_that_is_not_to_be_had_leaves_nothing_on_the_local_disk(new_run, original, tmp_path, monkeypatch):
    (tmp_path / "mine_train_improve.py").write_text("def run(params):\n    return 1.0\n")
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    monkeypatch.setattr(hed_setup, "cfg_xpu", lambda: 1 / 0)
    params = new_run("RUN000", index=0, framework="keras", model_name="mine", pre_module="hed.hed_setup", timeout=-1)
    with pytest.raises(ZeroDivisionError):
        run_model(params)
    assert [path.name for path in original.parent.iterdir()] == ["original"]


@pytest.mark.parametrize("input_dir", ["node/original", "not-staged"])
def test_data_read_in_place_is_not_written_beside(new_run, original, tmp_path, monkeypatch, input_dir):
    """Without a staged copy the data is on the shared file system, as input_dir or DATA_SOURCE: local is elsewhere."""
    monkeypatch.setenv("DATA_SOURCE", str(original))
    monkeypatch.delenv("TMP_ORIGINAL")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "local"))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    params = new_run("RUN000", index=0, input_dir=str(tmp_path / input_dir))
    hed_setup.pre_run(params)
    assert Path(params["input_dir"]).parents[1] == tmp_path / "local"
    finish(params)
    assert list((tmp_path / "local").rglob("index-*")) == []


@pytest.mark.parametrize("input_dir", [None, "/tmp/wozniak/original"])
def test_what_is_staged_is_read_wherever_input_dir_leads(new_run, original, tmp_path, monkeypatch, input_dir):
    """Without one, or with another user's, RUNs of a thousand nodes would read DATA_SOURCE beside their own copies."""
    synthetic.generate(tmp_path / "shared", SPEC)
    monkeypatch.setenv("DATA_SOURCE", str(tmp_path / "shared"))
    monkeypatch.setenv("TMP_ORIGINAL_LINK", "/tmp/me/original")
    params = new_run("RUN000", index=0, input_dir=input_dir)
    hed_setup.pre_run(params)
    assert (Path(params["input_dir"]) / tables.GE).readlink() == original / tables.GE


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (tables.RSP, lambda frame: frame.iloc[:-3]),
        (tables.RSP, lambda frame: frame.assign(auc=frame["auc"] / 2)),  # neither rows nor names tell
        (tables.GE, lambda frame: frame.assign(**{"ge.G0": 0.5})),
    ],
)
def test_checkpoints_are_not_resumed_on_other_data(new_run, original, table, change):
    params = new_run("RUN000", index=0)
    hed_setup.pre_run(params)
    rewrite(original, tables.RSP, lambda frame: frame.iloc[:-3])
    assert hed_setup.pre_run(new_run("RUN000", index=0)) == ModelResult.SUCCESS
    (Path(params["instance_directory"]) / "ckpts/epochs").mkdir(parents=True)
    assert hed_setup.pre_run(new_run("RUN000", index=0)) == ModelResult.SUCCESS
    rewrite(original, table, change)
    checkpoints = Path(params["instance_directory"]) / "ckpts"
    with pytest.raises(ValueError, match=f"RUN000 come from other data .* remove {checkpoints} and restart"):
        hed_setup.pre_run(new_run("RUN000", index=0))
    shutil.rmtree(checkpoints)
    assert hed_setup.pre_run(new_run("RUN000", index=0)) == ModelResult.SUCCESS


def test_a_record_that_names_no_checksum_is_of_any_data_with_these_rows(new_run):
    """Of an EXP from before it was recorded."""
    params = new_run("RUN000", index=0)
    hed_setup.pre_run(params)
    record = Path(params["instance_directory"]) / "partition.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "data_checksum"}))
    (Path(params["instance_directory"]) / "ckpts/epochs").mkdir(parents=True)
    assert hed_setup.pre_run(new_run("RUN000", index=0)) == ModelResult.SUCCESS


def test_a_restart_is_told_which_data_runs_would_find(new_run, original, tmp_path):
    """Of changed data of the same size it said nothing, of other data only RUNs did, which --fresh made no better."""
    params = new_run("RUN000", index=0)
    hed_setup.pre_run(params)
    found = {"data_checksum": params["data_checksum"]}
    assert hed_setup.derived([{"input_dir": str(original)}], None) == [found]
    source = tmp_path / "source"
    synthetic.generate(source, SPEC)
    rewrite(original, tables.RSP, lambda frame: frame.iloc[::-1])
    assert hed_setup.derived([{"input_dir": str(original)}, {}], str(source)) == [found, found], "it will be staged"
    assert hed_setup.derived([{"input_dir": str(source)}], None) == [found]
    rewrite(source, tables.RSP, lambda frame: frame.iloc[::-1])
    assert hed_setup.derived([{"input_dir": str(source)}], None) != [found]


def test_checkpoints_of_the_original_workflow_are_taken_up_for_it_records_no_partition(new_run):
    params = new_run("RUN000", index=0)
    (Path(params["instance_directory"]) / "ckpts/epochs/001").mkdir(parents=True)
    assert hed_setup.pre_run(params) == ModelResult.SUCCESS


def test_checkpoints_kept_elsewhere_are_of_other_data_in_the_next_exp_too(new_run, original, tmp_path):
    elsewhere = {"index": 0, "ckpt_directory": str(tmp_path / "scratch/ckpts")}
    hed_setup.pre_run(new_run("RUN000", **elsewhere))
    places = tmp_path / "EXP001/run/RUN000", tmp_path / "scratch/ckpts"
    assert len({(place / "partition.json").read_text() for place in places}) == 1, "each has the record"
    rewrite(original, tables.RSP, lambda frame: frame.iloc[:-3])
    assert hed_setup.pre_run(new_run("RUN000", "EXP002", **elsewhere)) == ModelResult.SUCCESS, "none was saved"
    (tmp_path / "scratch/ckpts/epochs").mkdir(parents=True, exist_ok=True)
    rewrite(original, tables.RSP, lambda frame: frame.iloc[:-3])
    with pytest.raises(ValueError, match="RUN000 come from other data"):
        hed_setup.pre_run(new_run("RUN000", "EXP003", **elsewhere))


def test_partition_files_null_is_as_not_given(new_run):
    params = new_run("RUN000", index=0, partition_files=None)
    assert hed_setup.pre_run(params) == ModelResult.SUCCESS
    assert params["partition_files"] is True, "the model is not this project's"


def test_a_random_partition_needs_no_index(new_run, tmp_path):
    params = new_run("RUN000", partition="random")
    assert hed_setup.pre_run(params) == ModelResult.SUCCESS
    finish(params)
    assert not (tmp_path / "EXP001/markers").exists()


def test_check_names_each_bad_set(original):
    sets = [
        {"index": 0},
        {"index": 5},
        {"index": 7, "partition": "by_cell"},
        {"index": 8, "partition": "by_cell"},
        {},
        {"index": "0"},
        {"index": 0, "partition": ["by_drug"]},
        {"partition": "random"},
        {"index": 0, "partition_seed": -1},
        {"index": 0, "y_col_name": "auc1"},
        {"index": 0, "drug_col_name": "drug"},
        {"index": 0, "partition_files": "yes"},
        {"index": 0, "y_col_name": "study"},
        {"index": 0, "partition_seed": 0},
        *({"index": 0, "y_col_name": name} for name in ("rank", "dose")),
    ]
    rewrite(original, tables.RSP, lambda frame: frame.assign(rank=1, dose=Decimal("0.5")))
    problems = hed_setup.check(sets, str(original))
    wanted = ["there are 5 drugs", "there are 8 cells", "needs an index", "integer", "partition must be one of"]
    wanted += ["partition_seed", "y_col_name auc1: rsp"]
    wanted += ["drug_col_name drug: rsp_merged.parquet has no such column; it has improve_sample_id", "partition_files"]
    wanted += ["y_col_name study: this column of rsp_merged.parquet holds no numbers"]
    assert [number for number, _ in problems] == [1, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    for (_, message), part in zip(problems, wanted, strict=True):
        assert part in message and "\n" not in message


def test_check_says_once_what_is_wrong_with_tables(original, tmp_path):
    sets = [{"index": index} for index in range(3)]
    [(number, message)] = hed_setup.check(sets, None)
    assert number == 0 and "DATA_SOURCE (not set)" in message
    rewrite(original, tables.GE, lambda frame: frame[["improve_sample_id"]])
    assert "ge_merged_data.parquet has no column ge.*" in hed_setup.check(sets, str(original))[0][1]
    (original / tables.GE).write_text("PAR1 torn")
    [(number, message)] = hed_setup.check(sets, str(original))
    assert number == 0 and f"{tables.GE}: cannot be read" in message
    (original / tables.GE).unlink()
    assert "ge_merged_data.parquet: no such table" in hed_setup.check(sets, str(original))[0][1]
    rewrite(original, tables.RSP, lambda frame: frame.drop(columns="improve_sample_id"))
    assert "no column improve_sample_id" in hed_setup.check(sets, str(original))[0][1]
    assert hed_setup.check([{"input_dir": "/nowhere"}, {"input_dir": str(tmp_path)}], None)[0] == (
        0,
        "no data: neither input_dir (/nowhere) nor DATA_SOURCE (not set) is a directory",
    )


def test_check_reads_the_tables_that_the_runs_will_read(original, tmp_path, monkeypatch):
    """DATA_SOURCE is staged to TMP-ORIGINAL and nowhere else: any other input_dir that is there is read itself."""
    larger = tmp_path / "larger"
    synthetic.generate(larger, synthetic.Spec(drugs=9, cells=8, genes=3, descriptors=3, responses=72))
    assert hed_setup.check([{"index": 7, "input_dir": str(original)}], str(larger)) == []
    monkeypatch.delenv("TMP_ORIGINAL")
    [(_, message)] = hed_setup.check([{"index": 7, "input_dir": str(original)}], str(larger))
    assert "there are 5 drugs" in message
    assert hed_setup.check([{"index": 7, "input_dir": "/tmp/wozniak/original"}], str(larger)) == []


def test_check_of_missing_features(original, caplog):
    """A drug without descriptors is refused only where it would be the whole test set."""
    first = pd.read_parquet(original / tables.RSP)["improve_chem_id"].iloc[0]
    rewrite(original, tables.MD, lambda frame: frame[frame["improve_chem_id"] != first])
    with caplog.at_level(logging.WARNING):
        problems = hed_setup.check([{"index": index} for index in range(5)], str(original))
    assert [number for number, _ in problems] == [0] and first in problems[0][1]
    assert f"1 of 5 drugs have no row in {original / tables.MD}" in caplog.text
    rewrite(original, tables.GE, lambda frame: frame.assign(improve_sample_id="x"))
    problems = hed_setup.check([{"index": index} for index in range(5)], str(original))
    assert len(problems) == 1 and "no response has features" in problems[0][1]


def test_check_of_features_that_are_there_twice(original, caplog):
    """Two tables put together: the same rows are no news, of others the first is taken."""
    rewrite(original, tables.MD, lambda frame: pd.concat([frame, frame]))
    nobody = {"improve_sample_id": None, "ge.G1": 7.0}
    rewrite(original, tables.GE, lambda frame: pd.concat([frame, frame.assign(**nobody)]))
    assert hed_setup.check([{"index": 0}], str(original)) == [] and caplog.text == ""
    rewrite(original, tables.MD, lambda frame: pd.concat([frame, frame[1:5].assign(**{"mordred.D1": 7.0})]))
    names = pd.read_parquet(original / tables.MD)["improve_chem_id"].tolist()
    assert hed_setup.check([{"index": 0}, {"index": 1}], str(original)) == []
    [said] = caplog.messages
    assert said.startswith(f"4 drugs have rows with different features in {original / tables.MD}: the first row")
    assert said.endswith(f"({', '.join(names[1:4])}, ...)")
    caplog.clear()
    rewrite(original, tables.GE, lambda frame: pd.concat([frame, frame[:3].assign(**{"ge.G1": 7.0})]))
    assert hed_setup.check([{"index": 0}], str(original)) == []
    assert f"3 cells have rows with different features in {original / tables.GE}" in caplog.text


def test_check_reads_each_table_once(original, monkeypatch):
    reads = []
    read_table = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda *args, **more: reads.append(args) or read_table(*args, **more))
    assert hed_setup.check([{"index": index % 5} for index in range(500)], str(original)) == []
    assert len(reads) == 4  # two columns of the responses, one of each feature table
