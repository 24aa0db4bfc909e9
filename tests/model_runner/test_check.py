import sys
from pathlib import Path

import pytest

from model_runner import check, compare, find, with_defaults
from model_runner.check import RULES
from model_runner.params import config_checksum


def test_all_problems_with_their_index(models):
    sets = [
        {"model_name": "linreg", "timeout": -1, "perf_top": "5", "pre_module": "visited", "index": 0, "batch_size": 1},
        {"model_name": "linreg", "epochs": "10", "batch_size": 0, "framework": "jax", "perf_nvidia": "often"},
        {"model_name": "nix", "pre_module": "hed_steup", "dense": "wide", "epochs": True},
        {"model_name": "linreg", "pre_module": "visited", "post_module": "shared_helper", "index": 5},
        {"pre_module": 5, "timeout": "1h"},
        {"model_name": "linreg", "config_file": "nowhere.txt"},
        {"model_name": 7},
    ]  # fmt: skip
    problems = check(sets, "/data")
    assert [i for i, _ in problems] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 5, 6]
    texts = "\n".join(f"{i} {line}" for i, line in problems)
    assert len(texts.splitlines()) == len(problems)
    for line in (
        "1 epochs must be a positive integer, not '10'",
        "1 batch_size must be a positive integer, not 0",
        "1 framework must be keras or pytorch, not 'jax'",
        "1 perf_nvidia must be a number of seconds (0 is off), not 'often'",
        "2 model_name 'nix': no such module",
        "2 pre_module: no module 'hed_steup'",
        "2 dense must be a list of integers, not 'wide'",
        "3 index 5 is too large in /data",
        f"3 post_module 'shared_helper' ({models}/shared_helper.py) has no function post_run()",
        "4 timeout must be a number of seconds (-1 for none), not '1h'",
        "4 pre_module must be the name of a module, not 5",
        "4 model_name is missing",
        "5 config_file nowhere.txt: there is no such file; looked in ",
        "6 model_name must be the name of a model, not 7",
    ):
        assert line in texts
    assert "linreg_train_improve" not in sys.modules


def test_a_node_is_asked_for_names_alone(models):
    """Tables may not be there yet, and what is wrong with values was said before the job."""
    good = {"model_name": "linreg", "pre_module": "visited", "index": 5, "epochs": "ten"}
    [(one, module), (two, model)] = find([good, {**good, "post_module": "nix"}, {"model_name": "nix"}])
    assert (one, two) == (1, 2) and module.startswith("post_module: no module 'nix'")
    assert model.startswith("model_name 'nix': no such module: looked for nix_train_improve, nix_baseline_keras2")


def test_checkpoints_keys_are_checked_for_every_model(models):
    """They were refused in the RUN alone, hours later."""
    wrong = {"ckpt_keep_limit": "3", "ckpt_restart_mode": "sometimes"}
    assert check([{"model_name": "linreg", "ckpt_save_seconds": 60, "epochs": "ten", **wrong}], None) == [
        (0, "ckpt_keep_limit must be an integer >= 1, not '3'"),
        (0, "ckpt_restart_mode must be one of off, auto, required, not 'sometimes'"),
        (0, "epochs must be a positive integer, not 'ten'"),
    ]


def test_a_check_that_fails_is_a_problem_of_its_sets(models):
    sets = [{"model_name": "linreg"}, {"model_name": "linreg", "pre_module": "visited", "index": 0}]
    assert check(sets, "broken") == [(1, "check() of visited failed: OSError('cannot read the tables')")]


RUN = "def run(params): pass\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import os\ndef run(params:\n    pass\n", ":2: "),
        ("def run(params): pass\nx = '\0'\n", "null bytes"),
        ("def train(params): pass\nclass Model:\n    def run(self): pass\n", " has no function run()"),
        ("import running.run\nrun(5)\n", " has no function run()"),
        ("", " has no function run()"),
    ],
)
def test_the_text_of_a_model_is_looked_at_and_not_run(monkeypatch, tmp_path, source, problem):
    """It was found when each RUN had failed twice."""
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    file = tmp_path / "mine_train_improve.py"
    file.write_text(source)
    [(index, text), (other, _)] = check([{"model_name": "mine"}] * 2, None)
    assert (index, other) == (0, 1)
    assert text.startswith(f"model_name 'mine': {file}") and problem in text


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import fast\n    run = fast.run\nexcept ImportError:\n    def run(params): pass\n",
        "if True:\n    from no_such_thing import train as run\n",
        "from no_such_thing import *\n",
        "import run.fast\n",
        "train, run = None, None\n",
        "def make():\n    global run\n    run = print\nmake()\n",
        "globals()['r' + 'un'] = print\n",
        "import sys\nsetattr(sys.modules[__name__], 'run', print)\n",
        "def __getattr__(name): return print\n",
        "pattern = '\\d'\nasync def run(params): pass\n",
    ],
)
def test_run_may_come_about_in_any_way(monkeypatch, tmp_path, recwarn, source):
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "mine_train_improve.py").write_text(source)
    assert check([{"model_name": "mine"}], None) == []
    assert not recwarn.list


def test_model_with_a_check_of_its_own_and_module_that_cannot_be_imported(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "picky_train_improve.py").write_text(f"{RUN}def check(sets, data_dir):\n    return [(0, 'no')]\n")
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    sets = [{"model_name": "picky"}, {"model_name": "picky", "pre_module": "broken"}]
    problems = check(sets, None)
    assert problems[0] == (0, "no") and len(problems) == 2
    assert problems[1][0] == 1 and "'broken' cannot be imported: ModuleNotFoundError" in problems[1][1]


def test_a_model_in_another_encoding(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    text = f"# -*- coding: latin-1 -*-\n# caf\xe9\n{RUN}def check(sets, data_dir):\n    return [(0, 'no')]\n"
    (tmp_path / "latin_train_improve.py").write_text(text, encoding="latin-1")
    assert check([{"model_name": "latin"}], None) == [(0, "no")]


OLD = {"id": "R1", "epochs": 10, "alpha": 6, "dense": "100 50", "input_dir": "/a", "pre_module": "hed_setup"}


def test_defaults_are_those_of_models_that_offer_a_check_and_of_the_users_file(models, monkeypatch, tmp_path):
    (tmp_path / "quick_train_improve.py").write_text(
        "import numpy as np\n"
        "def check(sets, data): return []\n"
        "def initialize_parameters(): return {'epochs': 20, 'loss': 'mse', 'data_type': np.float32}\n"
    )  # fmt: skip
    (tmp_path / "mine.txt").write_text("[Train]\nepochs = 4\nseed = 7\n")
    (tmp_path / "other.txt").write_text("seed = 8\n")
    (tmp_path / "latin.txt").write_bytes(b"# caf\xe9\nseed = 8\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLE_DEFAULT_MODEL_FILE", "mine.txt")
    sets = [{"epochs": 9}, *({"config_file": f"{name}.txt"} for name in ("other", "nowhere", "latin"))]
    sets = [{"model_name": "quick", **params} for params in sets] + [{"model_name": "linreg"}]
    whole = with_defaults(sets, None)
    assert whole[0] == {"loss": "mse", "seed": 7, **sets[0], "config_file": None}
    assert whole[1] == {"epochs": 20, "loss": "mse", "seed": 8, **sets[1], "config_file": None}
    assert whole[2:] == [*sets[2:4], {**sets[4], **config_checksum(sets[4], tmp_path, tmp_path)}]


def test_what_pre_modules_derive_is_compared_too(models, monkeypatch, tmp_path):
    (tmp_path / "tables.py").write_text(
        "def pre_run(params): return 1\n"
        "def derived(sets, data): return [{'sum': f'{data} {params[\"index\"]}'} for params in sets]\n"
    )
    monkeypatch.chdir(tmp_path)
    names = ("tables", "visited", "tables")
    sets = [{"model_name": "linreg", "index": index, "pre_module": name} for index, name in enumerate(names)]
    whole = with_defaults(sets, "/data")
    assert whole == [{**sets[0], "sum": "/data 0"}, sets[1], {**sets[2], "sum": "/data 2"}]
    assert compare({**sets[0], "sum": "/data 1"}, whole[0], None)[0] == "refuse"


def test_compare_skips_resumes_or_refuses():
    done = {"status": "ok", "epochs": 10, "stopped_early": False}
    elsewhere = {"input_dir": "/b", "timeout": 60, "perf_top": 5, "ckpt_keep_limit": 9, "run_id": "R1"}
    elsewhere |= {"metadata": {"note": "x"}, "generator_batch_size": 64}
    elsewhere |= {"jit_compile": False, "fused_optimizer": False, "mixed_precision": True}  # a resume says so itself
    same = {**OLD, **elsewhere, "dense": [100, 50], "pre_module": "hed.hed_setup"}
    assert compare(OLD, same, done)[0] == "skip"
    assert compare(OLD, same, None)[0] == "resume"
    assert compare(OLD, {**OLD, "epochs": 20}, done) == ("resume", "epochs 10 -> 20")
    assert compare(OLD, {**OLD, "epochs": 20}, None)[0] == "resume"
    assert compare(OLD, {**OLD, "ckpt_directory": "/b"}, None)[1].endswith(
        "ckpt_directory None -> '/b': from the checkpoints there, if any"
    )
    assert compare(OLD, {**OLD, "epochs": 20}, {**done, "stopped_early": True})[0] == "skip"
    assert compare(OLD, {**OLD, "epochs": 5}, done) == ("refuse", "parameters differ: epochs 10 -> 5")
    verdict, reason = compare(OLD, {**OLD, "epochs": 20, "alpha": 2, "rng_seed": 1, "pre_module": "mine"}, None)
    assert verdict == "refuse"
    for change in (
        "alpha 6 -> 2",
        "epochs 10 -> 20",
        "rng_seed (not set) -> 1",
        "pre_module 'hed_setup' -> 'mine'",
    ):
        assert change in reason


def test_a_config_file_counts_by_what_is_in_it_where_that_is_known(models, monkeypatch, tmp_path):
    (tmp_path / "known_train_improve.py").write_text("def check(sets, data): return []\n")
    for name, seed in (("a.txt", 7), ("b.txt", 7), ("c.txt", 8)):
        (tmp_path / name).write_text(f"seed = {seed}\n")
    monkeypatch.chdir(tmp_path)
    known = {"model_name": "known", "config_file": "a.txt"}
    [moved, changed] = with_defaults([{**known, "config_file": name} for name in ("b.txt", "c.txt")], None)
    old = {**known, "seed": 7}
    assert compare(old, moved, None)[0] == "resume"
    assert compare(old, changed, None) == ("refuse", "parameters differ: seed 7 -> 8")
    assert compare({"model_name": "known", "seed": 7}, moved, None)[0] == "resume", (
        "it was the environment that named it"
    )
    # Of a model without a check nobody knows what is in it.
    [other] = with_defaults([{"model_name": "linreg", "config_file": "b.txt"}], None)
    assert compare({**other, "config_file": "a.txt"}, other, None)[0] == "refuse"
    (tmp_path / "b.txt").write_text("seed = 9\n")
    [edited] = with_defaults([{"model_name": "linreg", "config_file": "b.txt"}], None)
    verdict, reason = compare(other, edited, None)
    assert verdict == "refuse" and reason.startswith("parameters differ: config_checksum 'crc32:")


def test_every_key_that_is_checked_is_documented():
    text = (Path(__file__).parents[2] / "docs/runs.md").read_text()
    assert [key for key in RULES if f"`{key}`" not in text] == []
