"""The HED workflow as its users run it: Uno, hed_setup, and the partition, in real jobs."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from job import Workplace, journal

ROOT = Path(__file__).parents[2]
GDSC = ROOT.parent / "shared" / "data" / "gdsc"
# Keras 2 does not expose the state of Dropout layers: what goes on there is not as one never killed.
KERAS_3 = importlib.metadata.version("keras") >= "3"
SMALL = {
    "hyperparam_space": "block",
    "canc_arch": [32],
    "drug_arch": [32],
    "interaction_arch": [32],
    "warmup_epochs": 1,
    "learning_rate": 1e-4,
    "pre_module": "hed_setup",
    "post_module": "hed_setup",
}


def prepare(root, data, drugs, **dflts):
    root.mkdir(exist_ok=True)
    workplace = Workplace(root)
    workplace.output = root / "out" / "unorun" / "Output"
    workplace.env |= {"MODEL_NAME": "unorun", "DATA_SOURCE": str(data), "TMPDIR": str(root)}
    del workplace.env["MODEL_PYTHON_DIR"]
    runs = [{"id": f"RUN{i:03d}", "index": i} for i in range(drugs)]
    workplace.write(runs, {**SMALL, "input_dir": str(data), **dflts})
    return workplace


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "improve"
    options = ["--drugs", "6", "--cells", "60", "--responses", "600"]
    subprocess.run([sys.executable, "-m", "hed.synthetic", str(data), *options], check=True)
    return data


def check_run(run, rows, drug):
    """The test set is that drug's rows and nothing else; the scores are those of the predictions file."""
    assert json.loads((run / "partition.json").read_text())["name"] == drug
    mine = rows.filter(pc.equal(rows["improve_chem_id"], drug))
    table = pyarrow.csv.read_csv(run / "test_y_data_predicted.csv")
    assert table.column_names == ["auc_true", "auc_pred", "labels"]
    assert sorted(table["labels"].to_pylist()) == sorted(mine["improve_sample_id"].to_pylist())
    np.testing.assert_allclose(np.sort(table["auc_true"]), np.sort(np.round(mine["auc"], 4)), atol=1e-4)
    for stage in ("val", "test"):
        table = pyarrow.csv.read_csv(run / f"{stage}_y_data_predicted.csv")
        true, predicted = (table[name].to_numpy() for name in ("auc_true", "auc_pred"))
        scores = json.loads((run / f"{stage}_scores.json").read_text())
        mse = np.mean((true - predicted) ** 2)
        assert scores["mse"] == pytest.approx(mse, rel=1e-3)
        assert scores["rmse"] == pytest.approx(mse**0.5, rel=1e-3)
        assert scores["r2"] == pytest.approx(1 - mse / np.var(true), rel=1e-3, abs=1e-3)
        assert scores["pcc"] == pytest.approx(np.corrcoef(true, predicted)[0, 1], rel=1e-3, abs=1e-4)


def first_drugs(data, count):
    rows = pq.read_table(data / "rsp_merged.parquet")
    return rows, pc.unique(rows["improve_chem_id"]).to_pylist()[:count]


def predictions(exp, runs):
    return {path.relative_to(exp): path.read_bytes() for path in exp.glob(f"run/{runs}/*_predicted.csv")}


def test_train_repeat_and_train_on(made_up, tmp_path):
    workplace = prepare(tmp_path, made_up, 3, epochs=2)
    result = workplace.run(procs=3)
    assert result.returncode == 0, result.stdout + result.stderr
    rows, drugs = first_drugs(made_up, 3)
    for i, drug in enumerate(drugs):
        check_run(workplace.exp(0) / "run" / f"RUN{i:03d}", rows, drug)
        assert (workplace.exp(0) / "markers" / f"marker-{i:03d}.txt").read_text().strip() == "DONE"

    # The same again, all in one worker process, and after them the first for longer.
    runs = [{"id": f"RUN{i:03d}", "index": i} for i in range(3)]
    dflts = {**SMALL, "input_dir": str(made_up), "epochs": 2}
    workplace.write([*runs, {"id": "LONG", "index": 0, "epochs": 3}], dflts)
    assert workplace.run(procs=2).returncode == 0
    assert predictions(workplace.exp(0), "RUN*") == predictions(workplace.exp(1), "RUN*") != {}

    # A job that died after hed_setup's marker and before the server's record: the RUN is finished all the same.
    (workplace.exp(1) / "markers" / "RUN001.json").unlink()
    result = workplace.run("--restart", "EXP001", procs=2)
    assert "0 done, 4 skipped" in result.stdout and (workplace.exp(2) / "markers" / "RUN001.json").exists()

    workplace.write(runs[:1], {**dflts, "epochs": 3})
    assert workplace.run("--restart", "EXP000", procs=2).returncode == 0
    run = workplace.exp(3) / "run" / "RUN000"
    assert "Epoch 3/3" in (out := (workplace.exp(3) / "out" / "out-001.txt").read_text()) and "Epoch 2/3" not in out
    assert len(json.loads((run / "history.txt").read_text())["val_loss"]) == 3
    for name in ("history.txt", "test_y_data_predicted.csv", "val_scores.json") if KERAS_3 else ():
        assert (run / name).read_bytes() == (workplace.exp(1) / "run" / "LONG" / name).read_bytes()

    other = shutil.copytree(made_up, tmp_path / "other")
    rows = rows.take(np.arange(len(rows))[::-1])
    pq.write_table(rows, other / "rsp_merged.parquet")
    workplace.write(runs[:1], {**dflts, "epochs": 4, "input_dir": str(other)})
    result = workplace.run("--restart", "EXP003", procs=2)
    assert result.returncode == 2 and len(workplace.exps()) == 4
    assert result.stderr.startswith("upf.json:1: RUN RUN000 cannot go on from EXP003: ")
    assert "data_checksum 'crc32:" in result.stderr
    assert workplace.run("--restart", "EXP003", "--fresh", procs=2).returncode == 0
    check_run(workplace.exp(4) / "run" / "RUN000", rows, first_drugs(other, 1)[1][0])


def test_what_the_data_do_not_allow_is_said_before_anything_starts(made_up, tmp_path):
    workplace = prepare(tmp_path, made_up, 8, epochs=1)
    result = workplace.run()
    assert result.returncode == 2 and workplace.exps() == []
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["upf.json:7", "upf.json:8"]
    assert "6 drugs" in lines[0]
    workplace = prepare(tmp_path / "other", tmp_path / "nothing here", 1, epochs=1)
    result = workplace.run()
    assert result.returncode == 2 and "nothing here" in result.stderr and "Traceback" not in result.stderr


def test_staged_by_the_leader(made_up, tmp_path):
    workplace = prepare(tmp_path, made_up, 1, epochs=1, input_dir="$TMP_ORIGINAL")
    staged = tmp_path / "node" / "original"
    options = ["--hook", "hooks.leader:stage_data", "--summary", "analysis.runs:print_table"]
    result = workplace.run(*options, procs=2, TMP_ORIGINAL=str(staged), STAGE_KEEP="1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "hook time" in (workplace.exp(0) / "out" / "out-000.txt").read_text()
    assert sorted(p.name for p in staged.glob("*.parquet")) == sorted(p.name for p in made_up.glob("*.parquet"))
    kept = {p.name for p in staged.parent.iterdir() if not p.name.startswith("arrays-")}
    assert kept == {"original", staged.readlink().name}, "the RUN's local directory is gone"
    assert "RUN000" in result.stdout and "val r2" in result.stdout

    result = workplace.run(*options, procs=2, TMP_ORIGINAL="/proc/nowhere")
    assert result.returncode == 2 and "/proc/nowhere" in result.stdout
    assert [e["event"] for e in journal(workplace.exp(1))][-1] == "job_stopped"


@pytest.mark.skipif(not GDSC.exists(), reason="the real data are not beside the project")
def test_real_responses(tmp_path):
    workplace = prepare(tmp_path, GDSC, 3, epochs=3, batch_size=64)
    result = workplace.run(procs=4, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    rows, drugs = first_drugs(GDSC, 3)
    for i, drug in enumerate(drugs):
        run = workplace.exp(0) / "run" / f"RUN{i:03d}"
        check_run(run, rows, drug)
        assert json.loads((run / "val_scores.json").read_text())["r2"] > 0.5


@pytest.mark.skipif(not (ROOT / ".venv/.swiftpy-local,dev").exists(), reason="not set up by ./run-tests")
def test_the_main_script(tmp_path):
    here = tmp_path / "a place with blanks"
    here.mkdir()
    names = ("PATH", "HOME", "LANG")  # no USER, as in a container
    env = {name: os.environ[name] for name in names if name in os.environ} | {"PROCS": "3"}

    def script(*arguments):
        command = [str(ROOT / "upf-uno-heds.sh"), *arguments]
        return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=900)

    result = script("local")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 done, 0 skipped, 0 failed" in result.stdout
    exp = here / "out/unorun/Output/EXP000"
    assert str(exp) in result.stdout.splitlines()[-1]
    scores = [json.loads(path.read_text())["r2"] for path in exp.glob("run/*/val_scores.json")]
    assert len(scores) == 8 and min(scores) > 0.5, "training on the planted signal visibly learns"
    again = script("local", "demo/upf-8.json", "demo/dflts.json", "EXP000")
    assert again.returncode == 0 and "0 done, 8 skipped" in again.stdout, again.stdout + again.stderr
    assert script("nowhere", "x").returncode == 2
    assert "UPF" in script("--help").stdout
