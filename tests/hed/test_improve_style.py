"""A model as IMPROVE's users have it: no initialize_parameters, tables read from files by stage, scores returned.

A stand-in for the public `uno_train_improve.py` with improvelib, in its file names, parameters and results.
"""

import json

import pandas as pd

from hed import synthetic
from model_runner import run_model

MODEL = """
from pathlib import Path
import numpy as np
import pandas as pd

def read(params, kind, stage):
    return pd.read_parquet(Path(params["input_dir"]) / f"{kind}_{stage}_data{params['data_format']}")

def run(params):
    sets = {}
    for stage in ("train", "val"):
        rsp, ge, md = (read(params, kind, stage) for kind in ("rsp", "ge", "md"))
        merged = rsp.merge(ge, on=params["canc_col_name"]).merge(md, on=params["drug_col_name"])
        assert len(merged) == len(rsp)
        x = merged.filter(regex=r"^(ge|mordred)\\.").to_numpy()
        sets[stage] = np.column_stack([x, np.ones(len(x))]), merged[params["y_col_name"]].to_numpy()
    weights = np.linalg.lstsq(*sets["train"], rcond=None)[0]
    x, y = sets["val"]
    frame = pd.DataFrame({"auc_true": y, "auc_pred": x @ weights})
    frame.to_csv(Path(params["output_dir"]) / "val_y_data_predicted.csv", index=False)
    return {"mse": float(np.mean((y - x @ weights) ** 2)), "pcc": float(np.corrcoef(y, x @ weights)[0, 1])}
"""
CONFIG = """[Train]
data_format = .parquet
y_col_name = auc
canc_col_name = improve_sample_id
drug_col_name = improve_chem_id
"""


def test_it_runs_unmodified_through_files(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/linear_train_improve.py").write_text(MODEL)
    (tmp_path / "model/linear_default_model.txt").write_text(CONFIG)
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("TMP_ORIGINAL", str(tmp_path / "node/original"))
    synthetic.generate(tmp_path / "node/original", synthetic.Spec(drugs=8, cells=40, responses=300))
    results = {}
    for index in (0, 3):
        run = tmp_path / f"EXP000/run/RUN{index:03}"
        run.mkdir(parents=True)
        params = {"model_name": "linear", "index": index, "instance_directory": str(run), "timeout": -1}
        params |= {"pre_module": "hed_setup", "post_module": "hed_setup", "framework": "pytorch"}
        params |= {"config_file": "linear_default_model.txt", "input_dir": str(tmp_path / "node/original")}
        answer = run_model(params)
        frame = pd.read_csv(run / "val_y_data_predicted.csv")
        results[index] = float(answer["result"])
        assert abs(results[index] - ((frame["auc_true"] - frame["auc_pred"]) ** 2).mean()) < 1e-6, "its mse"
        assert set(json.loads((run / "history.txt").read_text())) == {"mse", "pcc"}
        assert "partition_files=True" in (run / "parameters.txt").read_text()
    assert results[0] != results[3]
    assert [path.name for path in (tmp_path / "node").iterdir()] == ["original"], "its files are gone"
