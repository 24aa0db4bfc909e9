"""Training: what it writes, that it learns, that it is reproducible, and that a killed RUN resumes exactly."""

import contextlib
import json
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

keras = pytest.importorskip("keras")

from analysis.convergence import converged  # noqa: E402
from analysis.exp import all_checkpoints, read_runs  # noqa: E402
from hed.uno import unorun  # noqa: E402
from model_runner import compare, run_model  # noqa: E402
from model_runner.errors import DivergedError  # noqa: E402

KERAS_3 = keras.__version__.startswith("3")

SMALL = {
    "hyperparam_space": "block",
    "canc_arch": [12],
    "drug_arch": [8],
    "interaction_arch": [12, 6],
    "canc_dropout": 0.2,
    "batch_size": 10,
    "learning_rate": 2e-3,
    "warmup_epochs": 2,
    "reduce_lr_patience": 1,
    "epochs": 6,
}


def make(folder, input_dir, **changes):
    folder.mkdir(exist_ok=True)
    return {
        **unorun.initialize_parameters(),
        **SMALL,
        "input_dir": str(input_dir),
        "output_dir": str(folder),
        **changes,
    }


def outputs(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_*.*")}


def weights(folder):
    model = keras.models.load_model(str(folder / "ckpts/last/model.h5"), compile=False)
    return model.get_weights()


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_what_a_run_leaves(tmp_path, input_dir, capsys):
    run = tmp_path / "run"
    history = unorun.run(make(run, input_dir, epochs=25))
    assert history.epoch == list(range(25))
    assert set(history.history) == {"loss", "r2", "val_loss", "val_r2", "learning_rate"}
    assert history.history["val_r2"][-1] > 0.5  # the planted signal is found
    rates = history.history["learning_rate"]
    assert rates[:3] == pytest.approx([2e-4, 0.0101, 0.02])
    printed = capsys.readouterr().out
    assert "Epoch 1/25\n15/15 - " in printed
    assert "val_loss: " in printed
    responses = pd.read_parquet(input_dir / "rsp_test_data.parquet")
    predicted = pd.read_csv(run / "test_y_data_predicted.csv")
    assert list(predicted) == ["auc_true", "auc_pred", "labels"]
    assert predicted["labels"].tolist() == responses["improve_sample_id"].tolist()
    np.testing.assert_allclose(predicted["auc_true"], responses["auc"], atol=5.1e-5)
    scores = json.loads((run / "test_scores.json").read_text())
    assert scores["mse"] == pytest.approx(((predicted["auc_true"] - predicted["auc_pred"]) ** 2).mean())
    assert scores["pcc"] == pytest.approx(predicted["auc_true"].corr(predicted["auc_pred"]))
    assert set(outputs(run)) == {f"{s}_{n}" for s in ("val", "test") for n in ("scores.json", "y_data_predicted.csv")}


def test_predictions_are_those_of_the_best_checkpoint(tmp_path, input_dir):
    """`best` loads as a plain network on features, and predicts what the file says."""
    run = tmp_path / "run"
    unorun.run(make(run, input_dir))
    model = keras.models.load_model(str(run / "ckpts/best/model.h5"), compile=False)
    rsp = pd.read_parquet(input_dir / "rsp_test_data.parquet")
    ge = pd.read_parquet(input_dir / "ge_merged_data.parquet").set_index("improve_sample_id")
    md = pd.read_parquet(input_dir / "md_merged_data.parquet").set_index("improve_chem_id")
    inputs = [ge.loc[rsp["improve_sample_id"]].to_numpy(), md.loc[rsp["improve_chem_id"]].to_numpy()]
    written = pd.read_csv(run / "test_y_data_predicted.csv")["auc_pred"]
    np.testing.assert_allclose(model.predict(inputs, verbose=0)[:, 0], written, atol=6e-5)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 does not expose the state of Dropout layers")
@pytest.mark.parametrize("stopping", [{}, {"early_stopping_patience": 2, "learning_rate": 0.2, "epochs": 30}])
def test_a_killed_run_resumes_exactly(tmp_path, input_dir, stopping):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    expected = unorun.run(make(straight, input_dir, **stopping))
    assert not stopping or len(expected.epoch) < 30
    params = make(killed, input_dir, **stopping)
    code = f"""
        import os
        from hed.uno import unorun
        from model_runner.ckpt.keras import KerasCheckpoint
        save = KerasCheckpoint.on_epoch_end
        def save_and_die(self, epoch, logs=None):
            save(self, epoch, logs)
            if epoch == 2:
                self.on_train_end()
                os._exit(9)
        KerasCheckpoint.on_epoch_end = save_and_die
        unorun.run({params!r})
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 9
    assert str((killed / "ckpts/last").readlink()) == "epochs/003"
    assert not outputs(killed)
    resumed = unorun.run(params)
    assert resumed == expected
    assert_same(weights(straight), weights(killed))
    assert outputs(killed) == outputs(straight)


def test_nothing_left_to_train(tmp_path, input_dir, capsys):
    """Killed after the last epoch: only scores and predictions are missing."""
    run = tmp_path / "run"
    params = make(run, input_dir, early_stopping_patience=1, learning_rate=0.2, epochs=30)
    expected = unorun.run(params)
    assert "early stopping" in capsys.readouterr().out
    before = outputs(run)
    for name in before:
        (run / name).unlink()
    assert unorun.run(params) == expected
    assert "Epoch 1/" not in capsys.readouterr().out
    assert outputs(run) == before


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 does not expose the state of Dropout layers")
def test_more_epochs_go_on_where_the_run_ended(tmp_path, input_dir):
    straight, longer = tmp_path / "straight", tmp_path / "longer"
    unorun.run(make(longer, input_dir, epochs=3))
    assert unorun.run(make(longer, input_dir)) == unorun.run(make(straight, input_dir))
    assert outputs(longer) == outputs(straight)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no fused optimizer")
@pytest.mark.parametrize("change", [{"jit_compile": True}, {"fused_optimizer": False}, {"mixed_precision": True}])
def test_other_execution_at_a_resume_goes_on_and_is_said(tmp_path, input_dir, caplog, change):
    params = make(tmp_path / "run", input_dir, epochs=1)
    first = unorun.run(params)
    both = unorun.run({**params, "epochs": 2, **change})
    assert both.history["loss"][0] == first.history["loss"][0]
    assert "restarting after epoch 1" in (tmp_path / "run/ckpts/ckpt.log").read_text()
    assert sum("the RUN began with" in message for message in caplog.messages) == 1
    assert compare(params, {**params, **change}, None)[0] == "resume", "and the job begins"


def test_other_threads_at_a_resume_are_said(tmp_path, input_dir, caplog, monkeypatch):
    params = make(tmp_path / "run", input_dir, epochs=1)
    unorun.run(params)
    monkeypatch.setattr("hed.uno.training.threads_in_use", lambda: 77)
    unorun.run({**params, "epochs": 2})
    [said] = [record.getMessage() for record in caplog.records if "the RUN began with" in record.getMessage()]
    assert "it goes on with threads: 77, xla: False" in said


def test_the_number_of_batches_in_a_call_changes_nothing(tmp_path, input_dir):
    left = []
    for steps in (0, 1, 4):
        unorun.run(make(tmp_path / str(steps), input_dir, epochs=2, steps_per_execution=steps))
        left.append(outputs(tmp_path / str(steps)))
    assert left[0] == left[1] == left[2]


def test_the_same_numbers_whatever_ran_before(tmp_path, input_dir):
    first, other, second = tmp_path / "first", tmp_path / "other", tmp_path / "second"
    unorun.run(make(first, input_dir, epochs=2))
    unorun.run(make(other, input_dir, epochs=2, seed=1))
    unorun.run(make(second, input_dir, epochs=2))
    assert outputs(first) == outputs(second)
    assert outputs(first) != outputs(other)


def test_custom_loss(tmp_path, input_dir):
    run = tmp_path / "run"
    history = unorun.run(make(run, input_dir, epochs=2, custom_loss_module="mae_poly", alpha=3))
    y = pd.read_parquet(input_dir / "rsp_val_data.parquet")["auc"].to_numpy()
    best = np.argmin(history.history["val_loss"])
    predicted = pd.read_csv(run / "val_y_data_predicted.csv")["auc_pred"].to_numpy()
    assert history.history["val_loss"][best] == pytest.approx(np.mean(abs(y - predicted) * (1 - y) ** 3), abs=1e-4)


def test_space_layer_and_other_optimizer(tmp_path, input_dir):
    sizes = {f"{part}_layer_{n}_size": 5 for part in ("canc", "drug", "interaction") for n in range(1, 6)}
    params = make(tmp_path / "run", input_dir, epochs=1, hyperparam_space="layer", optimizer="sgd", **sizes)
    assert unorun.run(params).epoch == [0]


def test_without_test_scores(tmp_path, input_dir):
    run = tmp_path / "run"
    unorun.run(make(run, input_dir, epochs=1, calc_infer_scores=False))
    assert set(outputs(run)) == {"val_scores.json", "val_y_data_predicted.csv"}


def test_divergence_is_said_plainly(tmp_path, input_dir):
    params = make(tmp_path / "run", input_dir, learning_rate=1e30, regression_activation="linear", warmup_epochs=0)
    with pytest.raises(DivergedError, match="training diverged") as raised:
        unorun.run(params)
    assert not outputs(tmp_path / "run")
    assert set(raised.value.history) == set(unorun.METRICS)


def test_a_run_that_diverged_is_not_told_by_its_checkpoints(tmp_path, input_dir):
    """They record the best so far, which NaN never is: it looked level, or short, and among the best."""
    exp = tmp_path / "EXP001"
    diverging = {"optimizer": "SGD", "regression_activation": "linear", "learning_rate": 1}
    runs = {"AT_ONCE": {**diverging, "warmup_epochs": 0}, "LATER": {**diverging, "warmup_epochs": 8}, "FINE": {}}
    for name, changes in runs.items():
        run = exp / "run" / name
        run.mkdir(parents=True)
        params = {**make(run, input_dir, epochs=9, **changes), "instance_directory": str(run)}
        with pytest.raises(DivergedError) if changes else contextlib.nullcontext():
            run_model({**params, "model_name": "unorun", "timeout": -1})
    checkpoints = all_checkpoints(exp)
    found = {run.run: run for run in converged(checkpoints)[0]}
    saved = {run.name: len(records) for run, records in checkpoints.items()}
    assert saved["AT_ONCE"] == 0 < saved["LATER"] < saved["FINE"] == 9
    for name in ("AT_ONCE", "LATER"):
        run = found[name]
        assert (run.tier, run.pattern, run.final_loss) == ("POOR", "DIVERGING", None)
        assert len(run.losses) == saved[name] + 1
    assert found["FINE"].tier != "POOR"
    assert {run.id: run.epochs or 0 for run in read_runs(exp)} == saved, "completed ones"


def test_wrong_hyperparameters_stop_before_training(tmp_path, input_dir):
    with pytest.raises(ValueError, match="batch_size must be"):
        unorun.run(make(tmp_path / "run", input_dir, batch_size=0))
