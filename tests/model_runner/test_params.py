import re
import tempfile
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runner.errors import RunError
from model_runner.params import apply_rules, apply_rules_again, complete, model_defaults, read_ini, with_paths
from model_runner.results import write_parameters


@pytest.mark.parametrize(
    ("key", "value", "ruled"),
    [
        ("dense", "1000 500", [1000, 500]),
        ("dense", ["7", 8], [7, 8]),
        ("dense_feature_layers", 3, [3]),
        ("cell_features", "rnaseq", ["rnaseq"]),
        ("cell_features", ["rnaseq", "snps"], ["rnaseq", "snps"]),
        ("sizes", "1 2  3", [1, 2, 3]),
        ("rates", "1.0 2", [1.0, 2.0]),
        ("rates", "1e-3 2e-3", [0.001, 0.002]),
        ("activation", "relu", "relu"),
        ("title", "2 layers", "2 layers"),
        ("epochs", "10", "10"),
        ("id", "001 002", "001 002"),
        ("input_dir", "$WHERE/x", "/there/x"),
        ("ckpt_directory", "~/ckpts", str(Path.home() / "ckpts")),
        ("ckpt_directory", "~nobody-of-this-name/ckpts", "~nobody-of-this-name/ckpts"),
        ("title", "$WHERE", "$WHERE"),
        ("train_file", "https://host/a", "https://host/a"),
    ],
)
def test_rules(monkeypatch, key, value, ruled):
    monkeypatch.setenv("WHERE", "/there")
    once = apply_rules({key: value})[key]
    assert once == ruled and type(once) is type(ruled)
    assert apply_rules_again({key: once})[key] == ruled


@pytest.mark.parametrize("value", ["a b", None, [1, None], [{"units": 1}]])
def test_rules_name_the_wrong_value(value):
    with pytest.raises(RunError, match=re.escape(f"dense must be a list of integers, not {value!r}")):
        apply_rules({"dense": value})


def test_complete_fills_in_and_makes_input_dir_absolute():
    given = {"instance_directory": "/exp/run/R1", "input_dir": "data", "framework": "pytorch"}
    full = complete(given, Path("/home/me"))
    own = {"output_dir": "/exp/run/R1", "save": "/exp/run/R1/output"}
    assert full == {**given, **own, "input_dir": "/home/me/data"}
    assert complete({**given, "output_dir": "out"}, Path("/home/me"))["output_dir"] == "out"


def test_variables_are_filled_in_once_and_not_in_the_name_of_a_directory(monkeypatch):
    """Every RUN failed: with a `$` in the path of the EXP, or of the directory of the submission, it had another."""
    monkeypatch.setenv("USER", "me")
    given = {"instance_directory": "/a $USER/run/R1", "input_dir": "data", "config_file": "$USER.txt"}
    full = complete(given, Path("/a $USER"))
    assert full["output_dir"] == full["instance_directory"] == "/a $USER/run/R1"
    assert full["input_dir"] == "/a $USER/data" and full["config_file"] == "me.txt"
    assert apply_rules_again({**full, "dense": "3 4"}) == {**full, "dense": [3, 4]}


def test_a_place_whose_variable_is_not_set_is_refused(monkeypatch):
    monkeypatch.setenv("HERE", "/scratch/$me")
    given = {"instance_directory": "/exp/run/R1", "output_dir": "$HERE/R1"}
    assert complete(given, Path("/w"))["output_dir"] == "/scratch/$me/R1"
    with pytest.raises(
        RunError, match=r"ckpt_directory is \$GONE/R1, and that variable is not set where the RUN works"
    ):
        complete({**given, "ckpt_directory": "$GONE/R1"}, Path("/w"))


@pytest.mark.parametrize(("given", "used"), [("/data/own", "/data/own"), ("/tmp/me/original", "/tmp/me/original.123")])
def test_input_dir_is_the_staged_copy_only_where_it_names_tmp_original(monkeypatch, given, used):
    monkeypatch.setenv("TMP_ORIGINAL_LINK", "/tmp/me/original")
    monkeypatch.setenv("TMP_ORIGINAL", "/tmp/me/original.123")
    assert with_paths({"input_dir": given}, Path("/w"))["input_dir"] == used


def test_a_model_that_takes_any_keyword_gets_the_defaults_file(tmp_path):
    file = tmp_path / "defaults.txt"
    file.write_text("epochs = 3\n")
    module = ModuleType("lenient")
    module.initialize_parameters = lambda **kw: {"got": kw.get("default_model")}
    assert model_defaults(module, {"config_file": file.name}, tmp_path) == {"got": str(file)}


def test_a_model_without_parameters_is_named(tmp_path):
    module = ModuleType("forgetful")
    module.initialize_parameters = lambda: None
    with pytest.raises(RunError, match=r"initialize_parameters\(\) of forgetful returned None"):
        model_defaults(module, {}, tmp_path)


def test_a_model_that_needs_a_file_of_defaults_says_how_to_name_it(tmp_path):
    module = ModuleType("strict")
    module.initialize_parameters = lambda default_model: {"got": default_model}
    wanted = r"^initialize_parameters\(\) of strict needs a file of model defaults: set config_file or CANDLE_DEFAULT"
    with pytest.raises(RunError, match=wanted):
        model_defaults(module, {}, tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert model_defaults(module, {"config_file": "mine.txt"}, tmp_path) == {"got": f"{tmp_path}/mine.txt"}


def test_the_defaults_are_a_copy_where_there_can_be_one(tmp_path):
    """Modules are imported once: a model that changed a list changed it for the next RUN."""
    module, lock = ModuleType("shares"), threading.Lock()
    of_the_module = {"layers": [1], "lock": lock}
    module.initialize_parameters = lambda: of_the_module
    defaults = model_defaults(module, {}, tmp_path)
    defaults["layers"].append(2)
    assert of_the_module == {"layers": [1], "lock": lock} and defaults["lock"] is lock


def test_defaults_file_without_heading_with_bom_and_odd_values(tmp_path):
    file = tmp_path / "defaults.txt"
    file.write_text(
        "\ufeffEpochs = 3\npath = 'a:b=c%(x)s'\nlist = [1,\n  2]\n# note\nbare = no quotes\noff = false\n"
        "code = __import__('os').getcwd()\n[A]\nx=1\n[DEFAULT]\nx=None\n"
    )
    assert read_ini(file) == {
        "Epochs": 3,
        "path": "a:b=c%(x)s",
        "list": [1, 2],
        "bare": "no quotes",
        "off": False,
        "code": "__import__('os').getcwd()",
        "x": None,
    }
    file.write_text("not a setting\n")
    with pytest.raises(RunError, match="not an INI file"):
        read_ini(file)


def test_a_class_is_written_by_its_name(tmp_path):
    """CANDLE's finalize_parameters() makes one of the word in `data_type`: each RUN of its models failed."""
    write_parameters(tmp_path, {"data_type": np.float32, "rate": np.float32(0.5), "kind": float})
    written = read_ini(tmp_path / "parameters.txt")
    assert written == {"data_type": "float32", "rate": 0.5, "kind": "float", "solr_root": ""}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(params=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]*", fullmatch=True), json_values, max_size=5))
def test_parameters_txt_reads_back_without_eval(params):
    with tempfile.TemporaryDirectory() as directory:
        write_parameters(Path(directory), {**params, "timeout": 5})
        written = Path(directory, "parameters.txt")
        assert read_ini(written) == {"solr_root": "", **params, "timeout": 5}
        quoted = [line.partition("=")[2] for line in written.read_text().splitlines()[1:-3]]
    assert [text[0] for text, value in zip(quoted, params.values(), strict=True) if isinstance(value, str)] == [
        "'" for value in params.values() if isinstance(value, str)
    ]
