"""Checkpoints outside of the RUN directory: never another RUN's, whatever finds them there."""

import shutil

import pytest

from model_runner import check, isolation, run_model
from model_runner.ckpt.config import read_config
from model_runner.ckpt.owner import Owner, running
from model_runner.ckpt.store import CkptError, Store

MODEL = """
import numpy as np
from model_runner.ckpt.config import read_config
from model_runner.ckpt.store import Store

def check(sets, data_dir):
    return []

def initialize_parameters():
    return {"alpha": 6, "epochs": 2, "layers": [3], "data_type": np.float32}

def run(params):
    params["scratch"] = object()          # what a model does with its parameters is its own business
    for key in ("layers", "sizes"):
        params.setdefault(key, []).append(4)
    store = Store(read_config(params))
    done = store.restore(lambda directory, info: info["epoch"]) or 0
    for epoch in range(done + 1, params["epochs"] + 1):
        store.save(epoch, 0.5, lambda directory: (directory / "model.h5").write_text("m"))
    return {"val_loss": [0.5], "epochs_completed": done}
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(RUN, EXP, **parameters) -> epochs that its checkpoints spared it; params(...) are what it is given."""
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saves_train_improve.py").write_text(MODEL)

    def start(run_id="RUN000", exp="EXP000", **params):
        directory = tmp_path / exp / "run" / run_id
        directory.mkdir(parents=True, exist_ok=True)
        given = {"model_name": "saves", "id": run_id, "timeout": -1, **params}
        return run_model({**given, "instance_directory": str(directory)})["epochs"]

    return start


def sets(*lines):
    return [{"model_name": "saves", "id": f"RUN{number:03}", **line} for number, line in enumerate(lines)]


def test_the_same_run_goes_on_also_in_another_exp(start, tmp_path):
    place = str(tmp_path / "scratch")
    assert start(ckpt_directory=place, sizes=[1]) == 0
    assert start(ckpt_directory=place, exp="EXP001", epochs=3, timeout=60, alpha=6, sizes=[1]) == 2
    assert not list(tmp_path.glob("EXP*/run/RUN000/ckpts"))
    assert check(sets({"ckpt_directory": place, "epochs": 5, "sizes": [1]}), None) == []


def test_a_run_that_is_not_given_what_the_other_was_does_not_go_on_from_it(start, tmp_path):
    """The model has no default for it, so nobody knows what it is now."""
    place = str(tmp_path / "scratch")
    start(ckpt_directory=place, loss="mae")
    with pytest.raises(CkptError, match=r"loss 'mae' -> \(not set\)"):
        start(ckpt_directory=place, exp="EXP001")


@pytest.mark.parametrize(
    ("run_id", "change", "reason"),
    [
        ("RUN001", {}, "id 'RUN000' -> 'RUN001'"),
        ("RUN000", {"alpha": 2}, "alpha 6 -> 2"),
        ("RUN000", {"epochs": 1}, "epochs 2 -> 1"),
        ("RUN000", {"loss": "mae"}, r"loss \(not set\) -> 'mae'"),
    ],
)
@pytest.mark.parametrize("key", ["ckpt_directory", "output_dir"])
def test_another_run_does_not(start, tmp_path, key, run_id, change, reason):
    """Said before a job; and in the RUN, for it may be the pre module that names the directory."""
    place = {key: str(tmp_path / "scratch")}
    start(**place)
    with pytest.raises(CkptError, match=f"are another RUN's .parameters differ: {reason}"):
        start(run_id, "EXP001", **place, **change)
    [(index, problem)] = check([{**sets({})[0], "id": run_id, **place, **change}], None)
    assert index == 0 and f"checkpoints in {tmp_path}/scratch" in problem and "\n" not in problem
    # The user wants none of what is there.
    anew = {**place, **change, "ckpt_restart_mode": "off"}
    assert check([{**sets({})[0], "id": run_id, **anew}], None) == []
    assert start(run_id, "EXP001", **anew) == 0
    assert start(run_id, "EXP002", **place, **change) == change.get("epochs", 2)


def test_a_default_that_only_one_version_of_the_model_names_may_have_been_the_same(start, tmp_path, monkeypatch):
    place = str(tmp_path / "scratch")
    start(ckpt_directory=place)
    monkeypatch.setattr(isolation, "_loaded", {})  # as in another process
    newer = MODEL.replace('"alpha": 6', '"alpha": 6, "clipped": False')
    (tmp_path / "saves_train_improve.py").write_text(newer)
    assert start(ckpt_directory=place, exp="EXP001") == 2


def test_in_the_run_directory_the_restart_has_decided(start, tmp_path):
    start()
    (tmp_path / "EXP001/run/RUN000").mkdir(parents=True)
    shutil.copytree(tmp_path / "EXP000/run/RUN000/ckpts", tmp_path / "EXP001/run/RUN000/ckpts", symlinks=True)
    assert not list(tmp_path.rglob("run.json"))
    assert start(exp="EXP001", alpha=2) == 2


def test_one_directory_for_several_runs_is_refused(start, tmp_path):
    place = str(tmp_path / "scratch")
    shared = check(sets({}, {"ckpt_directory": place}, {"ckpt_directory": place + "/"}, {"output_dir": place}), None)
    assert [index for index, _ in shared] == [1]
    assert f"ckpt_directory {place} is shared by 2 RUNs" in shared[0][1]
    assert [index for index, _ in check(sets(*[{"output_dir": place}] * 3), None)] == [0]
    own = [{"ckpt_directory": "mine", "output_dir": "out"}] * 2  # in each RUN directory
    assert check(sets(*own), None) == []


def test_what_the_model_would_have_for_all_runs_is_not_used(start, tmp_path):
    """CANDLE's library has one output_dir, .../Output/EXP000/RUN000, for each RUN of each job."""
    default = f'"output_dir": "{tmp_path}/EXP000/RUN000", "alpha"'
    (tmp_path / "shares_train_improve.py").write_text(MODEL.replace('"alpha"', default))
    shares = {"model_name": "shares"}
    assert check(sets(shares, shares), None) == []
    for name in ("RUN000", "RUN001"):
        assert start(name, "EXP007", **shares) == 0
        assert (tmp_path / "EXP007/run" / name / "ckpts/last").exists()
    assert not (tmp_path / "EXP000").exists()


def test_of_a_pre_module_it_may_be_the_business(start, tmp_path):
    (tmp_path / "sets_output.py").write_text("def pre_run(params): pass\n")
    assert check(sets(*[{"output_dir": str(tmp_path), "pre_module": "sets_output"}] * 2), None) == []


def test_the_directory_may_be_named_by_the_file_of_defaults(start, tmp_path, monkeypatch):
    monkeypatch.delenv("MODEL_PYTHON_DIR")
    (tmp_path / "mine.txt").write_text(f"ckpt_directory = {tmp_path}/scratch\n")
    uno = {"model_name": "unorun", "config_file": "mine.txt", "input_dir": "in"}
    [(index, problem)] = check([uno, {**uno, "id": "RUN001"}], None)
    assert index == 0 and f"ckpt_directory {tmp_path}/scratch is shared by 2 RUNs" in problem


def test_a_save_in_flight_when_the_model_raises_is_the_runs_all_the_same(tmp_path):
    """Else the thread left checkpoints that are nobody's, and that any RUN would take up; or no checkpoint at all."""
    with running(Owner({"alpha": 6}, {"alpha": 6}), tmp_path / "run"):
        store = Store(read_config({"ckpt_directory": str(tmp_path / "scratch")}))
    assert store.save(1, 0.5, lambda directory: (directory / "model.h5").write_text("m"))
    assert (tmp_path / "scratch/run.json").exists()
