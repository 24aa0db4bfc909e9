"""One RUN: third-party models of every kind, the files and lines that scripts read, the order of things."""

import json
import logging
import pickle
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from model_runner import check
from model_runner.errors import DivergedError, RunError
from model_runner.params import read_ini
from model_runner.results import Outcome, read_outcome


def text(directory, name):
    return (directory / name).read_text()


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_keras_style_leaves_the_files_and_lines_that_scripts_read(run, models, capsys, caplog):
    answer, directory = run("linreg", rng_seed=5, dense="100 50", note="it's")
    history = json.loads(text(directory, "history.txt"))
    assert answer == {
        "status": "ok",
        "reason": "",
        "epochs": 3,
        "result": repr(history["val_loss"][-1]),
        "stopped_early": False,
    }
    assert files(directory) == ["history.txt", "parameters.txt", "rank.txt", "result.txt"]
    assert text(directory, "result.txt") == answer["result"] + "\n"
    assert {name: len(values) for name, values in history.items()} == {"loss": 3, "val_loss": 3}
    assert text(directory, "rank.txt") == "17\n"
    lines = text(directory, "parameters.txt").splitlines()
    assert lines[0] == "[Global Params]" and lines[-3:] == ["[Monitor Params]", "timeout=-1", "solr_root=''"]
    expected = {"epochs=3", "dense=[100, 50]", "framework='keras'", f"save='{directory}/output'"}
    assert expected | {r"note='it\'s'", f"model_file='{models}/linreg_train_improve.py'"} <= set(lines)
    printed = capsys.readouterr().out.splitlines()
    assert f"IMPROVE_RESULT {answer['result']}" in printed
    stamped = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d RUNNER INFO  run_tensorflow\(\): pkg\.run\(\) "
    assert [bool(re.fullmatch(stamped + end, line)) for line in printed for end in (r"\.\.\.", "done.")].count(
        True
    ) == 2
    found = f"linreg_train_improve from {models}/linreg_train_improve.py (MODEL_PYTHON_DIR)"
    assert any(line.endswith(f"RUNNER INFO  model: {found}") for line in printed)
    assert not caplog.records, "a model that calls logging.basicConfig() would have each line twice"


@pytest.mark.parametrize("script", ["linreg_train_improve", "linreg_train_improve.py", "absolute"])
def test_model_python_script_is_a_module_or_a_file(run, models, monkeypatch, script):
    monkeypatch.setenv(
        "MODEL_PYTHON_SCRIPT", str(models / "linreg_train_improve.py") if script == "absolute" else script
    )
    if script == "absolute":
        monkeypatch.delenv("MODEL_PYTHON_DIR")
    _, directory = run("whatever")
    assert f"model_file='{models}/linreg_train_improve.py'" in text(directory, "parameters.txt")


def test_half_a_script_is_not_taken_for_a_whole_one_by_a_retry(run, monkeypatch, tmp_path):
    script = tmp_path / "later.py"
    script.write_text("import os\nos.environ['READY']\ndef run(params): return 0.5\n")
    monkeypatch.setenv("MODEL_PYTHON_SCRIPT", str(script))
    with pytest.raises(KeyError, match="READY"):
        run("whatever")
    monkeypatch.setenv("READY", "1")
    assert run("whatever")[0]["result"] == "0.5"


def test_the_working_directory_and_relative_entries_are_on_the_python_path(run, models, monkeypatch, tmp_path):
    monkeypatch.delenv("MODEL_PYTHON_DIR")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("relative")
    Path("relative").mkdir()
    shutil.copy(models / "torchy_baseline_pytorch.py", "homely_baseline_pytorch.py")
    shutil.copy(models / "visited.py", "relative/visited_too.py")
    assert run("homely", framework="pytorch", pre_module="visited_too")[0]["result"] == "0.375"


def test_pytorch_pair_of_model_and_scores(run, models, capsys):
    answer, directory = run("torchy", framework="pytorch", epochs=3)
    assert answer["result"] == text(directory, "result.txt").strip() == "0.25"
    assert text(directory, "history.txt") == '{"val_loss": [0.25]}\n'
    assert answer["epochs"] is None and not answer["stopped_early"]
    assert "run_pytorch(): pkg.run() done." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("returned", "metric", "result", "history"),
    [
        ({"val_loss": [3.0, 1.5], "r2": 0.5}, "val_loss", "1.5", {"val_loss": [3.0, 1.5], "r2": [0.5]}),
        ({"loss": 3.0, "val_corr": [0.1, 0.9]}, "val_corr", "0.9", {"loss": [3.0], "val_corr": [0.1, 0.9]}),
        ("EPOCHS_COMPLETED_ALREADY", "val_loss", "EPOCHS_COMPLETED_ALREADY", None),
        ("nan", "val_loss", "nan", {"val_loss": [None]}),
        ({"pcc": 0.5, "mse": 1.0}, "val_loss", "1.0", {"pcc": [0.5], "mse": [1.0]}),
        ({"auroc": 0.5, "acc": 0.75}, "val_loss", "0.5", {"auroc": [0.5], "acc": [0.75]}),
        (0.5, "val_loss", "0.5", {"val_loss": [0.5]}),
        (("val_loss", 0.25), "val_loss", "0.25", {"val_loss": [0.25]}),
    ],
)  # fmt: skip
def test_what_is_returned_decides_the_results(run, models, monkeypatch, returned, metric, result, history):
    monkeypatch.setenv("MODEL_RETURN", metric)
    answer, directory = run("returns", returns=returned, epochs=7)
    assert answer["result"] == text(directory, "result.txt").strip() == result
    assert json.loads(text(directory, "history.txt")) == history
    assert not (directory / "stop.marker").exists()
    assert answer["epochs"] == (7 if returned == "EPOCHS_COMPLETED_ALREADY" else None)


@pytest.mark.parametrize(
    ("returned", "metric", "message"),
    [
        (None, "val_loss", "the model returned no number"),
        (True, "val_loss", "the model returned no number"),
        ({"model": "a text"}, "val_loss", "the model returned no number"),
        ({"note": [], "model": "a text"}, "val_corr", "the model returned no number"),
        ([0.031, 0.87], "val_loss", "the model returned no number with a name: run.. must return a History"),
        ((0.031, 0.87), "val_loss", "the model returned no number with a name"),
        ("failed:\nno data", "val_loss", r"the model returned the text 'failed:\\nno data': run.. must return"),
        ("RUN_EXCEPTION", "val_loss", "the model returned the text 'RUN_EXCEPTION'"),
    ],
)
def test_a_model_that_returns_nothing_usable_has_failed(run, models, monkeypatch, tmp_path, returned, metric, message):
    monkeypatch.setenv("MODEL_RETURN", metric)
    with pytest.raises(RunError, match=message):
        run("returns", returns=returned)
    assert text(tmp_path / "RUN000", "result.txt") == "RUN_EXCEPTION\n"


@pytest.mark.parametrize("returned", [np.float32(0.5), np.array(0.5), np.array([0.5])])
def test_one_number_is_the_metric_and_several_are_not_its_epochs(returned):
    assert read_outcome(returned, "val_loss", 3).result == "0.5"
    with pytest.raises(RunError, match="the model returned no number with a name"):
        read_outcome(np.stack([returned, returned]), "val_loss", 3)


def test_the_word_nan_is_a_result():
    assert read_outcome("nan", "val_loss", 3) == Outcome("nan", None, None, 3)


def test_a_metric_that_the_model_does_not_return_leaves_the_history(run, models, monkeypatch, capsys):
    """Training was over: it was thrown away, tried again, and thrown away once more."""
    monkeypatch.setenv("MODEL_RETURN", "val_corr")
    answer, directory = run("returns", returns={"mse": [2.0, 1.0], "pcc": 0.5, "epochs_completed": 2}, epochs=2)
    assert (answer["status"], answer["epochs"], answer["result"]) == ("ok", 2, "nan")
    assert text(directory, "result.txt") == "nan\n"
    assert json.loads(text(directory, "history.txt")) == {"mse": [2.0, 1.0], "pcc": [0.5]}
    warning = "the model returned no number for MODEL_RETURN=val_corr; its metrics: mse, pcc"
    assert f"WARNING {warning}\n" in capsys.readouterr().out
    assert answer["reason"] == warning, "for the end of the job"


@pytest.mark.parametrize("end", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("metric", ["val_loss", "mse"])
def test_a_training_that_ends_in_nan_is_not_said_to_lack_the_metric(run, models, metric, end):
    answer, directory = run("returns", returns={metric: [0.5, float(end)]}, epochs=2)
    assert (answer["status"], answer["reason"]) == ("ok", f"its result is {end}: so its training ended")
    assert json.loads(text(directory, "history.txt")) == {metric: [0.5, None]}


@pytest.mark.parametrize(
    "stream", ["open(params['instance_directory'] + '/train.log', 'w')", "io.StringIO()"], ids=["file", "text"]
)
@pytest.mark.parametrize("end", ["pass", "sys.stdout.close()"], ids=["open", "closed"])
def test_a_model_that_points_stdout_elsewhere_leaves_the_runners_lines(run, tmp_path, monkeypatch, capsys, stream, end):
    """A RUN whose model had closed it was trained twice, and failed; else IMPROVE_RESULT went to the model's log."""
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "apart_train_improve.py").write_text(
        f"import io, sys\ndef run(params):\n    sys.stdout = sys.stderr = {stream}\n    print('mine')\n    {end}\n"
        "    return 0.25\n"
    )
    (tmp_path / "speaks.py").write_text("def post_run(params, output_map):\n    print('post_run speaks')\n")
    assert run("apart", post_module="speaks")[0]["result"] == "0.25"
    printed = capsys.readouterr().out.splitlines()
    assert "IMPROVE_RESULT 0.25" in printed and "post_run speaks" in printed and "mine" not in printed


@pytest.mark.parametrize("where", ["import", "run"])
def test_a_models_logging_config_leaves_the_runners_lines(run, tmp_path, monkeypatch, capsys, where):
    """By default it disables all loggers that it does not name."""
    monkeypatch.setattr(logging, "_handlerList", [])  # it closes what is there: pytest's, and absl's with stderr
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    config = "logging.config.dictConfig({'version': 1})\n"
    (tmp_path / "logs_train_improve.py").write_text(
        f"import logging.config\n{config if where == 'import' else ''}def run(params):\n    {config}    return 0.25\n"
    )
    (tmp_path / "below.py").write_text(
        "import logging\nlog = logging.getLogger('RUNNER.below')\n"
        "def pre_run(params): return 1\n"
        "def post_run(params, output_map): log.info('and after it')\n"
    )
    run("logs", pre_module="below", post_module="below")
    printed = capsys.readouterr().out
    assert "RUNNER INFO  run_tensorflow(): pkg.run() ...\n" in printed
    assert "RUNNER INFO  run_tensorflow(): pkg.run() done.\n" in printed
    assert "RUNNER.below INFO  and after it\n" in printed


def test_a_model_that_raises_costs_its_run_and_a_retry_is_not_taken_for_done(run, models):
    for returned, error, said in (
        ("raise", ValueError, "the model is wrong"),
        ("exit", RunError, r"exit\(0\)"),
    ):
        with pytest.raises(error, match=said):
            run("returns", returns=returned)
    directory = run("returns", "other", returns=1.5)[1].parent / "RUN000"
    assert text(directory, "result.txt") == "RUN_EXCEPTION\n" and text(directory, "history.txt") == "null\n"
    run("returns", returns=1.5, pre_module="visited")
    assert "result.txt" not in text(directory, "visits.txt")
    assert text(directory, "result.txt") == "1.5\n"


def test_what_an_attempt_that_was_killed_was_writing_is_gone_when_the_next_begins(run, models, tmp_path):
    """It stayed there, and each restart copied it."""
    (tmp_path / "RUN000").mkdir()
    for name in (".result.txt.0123abcd.tmp", ".mine.tmp"):
        (tmp_path / "RUN000" / name).touch()
    (tmp_path / "RUN000/.tune.0123abcd.tmp").mkdir()
    _, directory = run("returns", returns=1.5)
    (directory / ".tune.0123abcd.tmp").rmdir()  # the user's
    assert [name for name in files(directory) if name.startswith(".")] == [".mine.tmp"]


def test_a_training_that_diverged_leaves_its_history_until_the_next_attempt(run, models, tmp_path):
    with pytest.raises(DivergedError, match=r"^the loss became nan$") as raised:
        run("returns", returns="diverge")
    assert str(pickle.loads(pickle.dumps(raised.value))) == "the loss became nan"
    directory = tmp_path / "RUN000"
    assert text(directory, "result.txt") == "RUN_EXCEPTION\n"
    assert text(directory, "history.txt") == '{"val_loss": [0.5, null]}\n'
    run("returns", returns=1.5, pre_module="visited")
    assert "history.txt" not in text(directory, "visits.txt"), "it would be told of the RUN while it is at work"


def test_stop_marker_only_after_an_early_stop(run, models):
    resumed, directory = run("linreg", epochs=10, first_epoch=8)
    assert (resumed["epochs"], resumed["stopped_early"]) == (10, False)
    assert len(json.loads(text(directory, "history.txt"))["loss"]) == 2
    assert not (directory / "stop.marker").exists()

    nothing_left, _ = run("linreg", epochs=10, first_epoch=10)
    assert (nothing_left["result"], nothing_left["epochs"]) == ("EPOCHS_COMPLETED_ALREADY", 10)

    stopped, directory = run("linreg", "stopped", epochs=10, first_epoch=2, stop_at=7)
    assert (stopped["epochs"], stopped["stopped_early"]) == (7, True)
    assert text(directory, "stop.marker") == "early stopping: 7/10\n"

    before = files(directory)
    again, _ = run("linreg", "stopped", epochs=10, pre_module="visited", post_module="visited")
    assert again == {**stopped, "status": "skip", "reason": "STOP_MARKER"}
    assert files(directory) == before


def test_order_of_pre_model_and_post(run, models, tmp_path):
    _, directory = run("linreg", pre_module="visited", post_module="visited", stop_at=1)
    result = text(directory, "result.txt").strip()
    assert text(directory, "visits.txt").splitlines() == [
        "pre []",
        f"post ['history.txt', 'parameters.txt', 'rank.txt', 'result.txt', 'visits.txt'] {result}",
        "clean up",
    ]
    assert "learning_rate=0.2" in text(directory, "parameters.txt"), "pre_run may change params"
    assert run("returns", "cwd", pre_module="visited", returns="cwd")[0]["result"] == "1.0"
    assert (directory / "stop.marker").exists()


def test_a_pre_module_cleans_up_after_a_failure_too(run, models, tmp_path, capsys):
    with pytest.raises(RunError, match="post_run"):
        run("linreg", pre_module="visited", post_module="visited", post_answer="ERROR", clean_up_raises=True)
    assert text(tmp_path / "RUN000", "visits.txt").splitlines()[-1] == "clean up"
    printed = capsys.readouterr().out
    assert "clean_up() of visited failed" in printed and "OSError: its disk is gone" in printed
    with pytest.raises(ValueError, match="the model is wrong"):
        run("returns", "raises", pre_module="visited", returns="raise")
    assert text(tmp_path / "raises", "visits.txt").splitlines()[-1] == "clean up"
    with pytest.raises(OSError, match="no device"):
        run("linreg", "begun", pre_module="visited", pre_raises=True)
    assert text(tmp_path / "begun", "visits.txt").splitlines() == ["pre []", "clean up"]


def test_answers_of_pre_and_post(run, models):
    answer, directory = run("linreg", "skip", pre_module="visited", post_module="visited", pre_answer="SKIP")
    assert (answer["status"], answer["reason"]) == ("skip", "pre_run() of visited returned SKIP")
    assert files(directory) == ["visits.txt"] and text(directory, "visits.txt") == "pre []\nclean up\n"
    with pytest.raises(RunError, match=r"pre_run\(\) returned ERROR"):
        run("linreg", pre_module="visited", pre_answer="ERROR")
    with pytest.raises(RunError, match=r"post_run\(\) returned ERROR"):
        run("linreg", post_module="visited", post_answer="ERROR")


@pytest.mark.parametrize("source", ["model_runner", "runner_utils"])
def test_modules_import_modelresult_from_us_or_as_in_supervisor(run, models, monkeypatch, tmp_path, source):
    monkeypatch.chdir(tmp_path)
    Path("asks.py").write_text(
        f"from {source} import ModelResult\n"
        "def pre_run(params): return params['answer'] and ModelResult[params['answer']]\n"
        "def post_run(params, output_map): return ModelResult.SUCCESS\n"
    )
    assert check([{"model_name": "linreg", "pre_module": "asks", "post_module": "asks"}], None) == []
    assert run("linreg", pre_module="asks", post_module="asks", answer="SUCCESS")[0]["status"] == "ok"
    assert run("linreg", pre_module="asks", answer="SKIP")[0]["status"] == "skip"
    with pytest.raises(RunError, match=r"returned None; .* \(from model_runner import ModelResult\)"):
        run("linreg", pre_module="asks", answer=None)


def test_a_runner_utils_of_the_users_own_wins_also_after_ours(run, models, monkeypatch, tmp_path):
    (tmp_path / "asks.py").write_text(
        "import runner_utils\ndef pre_run(params): return runner_utils.ModelResult.SKIP\n"
    )
    monkeypatch.setenv("MODEL_PYTHON_SCRIPT", str(models / "linreg_train_improve.py"))
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    assert run("linreg", pre_module="asks")[0]["status"] == "skip"
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "asks.py", other)
    (other / "runner_utils.py").write_text("class ModelResult:\n    SKIP = 1\n")
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(other))
    assert run("linreg", pre_module="asks")[0]["status"] == "ok"


def test_defaults_file_below_parameters_for_models_with_and_without_initialize(run, models, monkeypatch, tmp_path):
    config = tmp_path / "defaults.txt"
    config.write_text("[Global_Params]\nflavour = plain\nepochs = 9\nreturns = 2.5\n\n[Later]\nalpha = 'a'\nepochs=4\n")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    _, directory = run("linreg", config_file="$FOLDER/defaults.txt")
    assert {"from_file='plain'", "epochs=3"} <= set(text(directory, "parameters.txt").splitlines())

    monkeypatch.setenv("CANDLE_DEFAULT_MODEL_FILE", str(config))
    answer, directory = run("returns", "INI", alpha="b")
    assert answer["result"] == "2.5"
    written = read_ini(directory / "parameters.txt")
    assert (written["alpha"], written["epochs"], written["flavour"]) == ("b", 4, "plain")
    assert written["config_checksum"] == f"crc32:{zlib.crc32(config.read_bytes()):08x}"
    with pytest.raises(RunError, match=r"config_file nowhere\.txt: there is no such file; looked in "):
        run("linreg", config_file="nowhere.txt")


def test_a_default_that_is_no_value_need_not_be_one_where_it_is_given(run, models, monkeypatch, tmp_path):
    """As a model says that users must give it; its path is expanded, and keeps its place in the file."""
    config = tmp_path / "defaults.txt"
    monkeypatch.setenv("PLACE", "/here")
    config.write_text("returns = 2.5\ndense = None\ninput_dir = '$PLACE/data'\nalpha = 1\n")
    _, directory = run("returns", config_file=str(config), alpha=2, dense="30 4")
    assert text(directory, "parameters.txt").splitlines()[2:5] == ["dense=[30, 4]", "input_dir='/here/data'", "alpha=2"]
    with pytest.raises(RunError, match="dense must be a list of integers, not None"):
        run("returns", config_file=str(config))


def test_unknown_names_say_what_was_tried(run, models):
    with pytest.raises(RunError, match="nix_train_improve, nix_baseline_keras2, nix_baseline_pytorch"):
        run("nix")
    with pytest.raises(RunError, match="no module 'nix'"):
        run("linreg", pre_module="nix")
