"""Hyperparameters: the public Uno's names, the three spaces, and messages for what is wrong."""

import subprocess
import sys

import pytest

from hed.uno import unorun
from hed.uno.hyper import Layer, read_hyper
from hed.uno.schedule import LearningRate

DATA = {"input_dir": "somewhere"}


def test_defaults_are_those_of_the_study():
    hyper = read_hyper({})
    relu = Layer(1000, "relu", 0.1)
    assert (hyper.canc, hyper.drug, hyper.interaction) == ((relu,) * 3, (relu,) * 3, (relu,) * 5)
    assert (hyper.epochs, hyper.batch_size, hyper.optimizer, hyper.loss) == (200, 32, "Adam", "mse")
    assert hyper.max_rate == pytest.approx(3.2e-4)
    assert (hyper.warmup_epochs, hyper.reduce_lr_patience, hyper.early_stopping_patience) == (5, 3, 20)
    assert read_hyper(unorun.initialize_parameters()) == hyper


def test_space_block():
    hyper = read_hyper(
        {
            "hyperparam_space": "block",
            "canc_arch": [64, 32],
            "canc_activation": "tanh",
            "canc_dropout": 0,
            "drug_arch": "16 8",
            "interaction_arch": [4],
        }
    )
    assert hyper.canc == (Layer(64, "tanh", 0.0), Layer(32, "tanh", 0.0))
    assert [layer.size for layer in hyper.drug] == [16, 8]
    assert hyper.interaction == (Layer(4, "relu", 0.1),)


def test_number_of_layers_in_space_block():
    """As the public model: the first so many of an arch. Its file of defaults names 3, 3 and 5 for everybody."""
    block = {"hyperparam_space": "block", "canc_arch": [64, 32, 16, 8], "drug_arch": [16], "drug_num_layers": 3}
    hyper = read_hyper({**block, "canc_num_layers": 2})
    assert [[layer.size for layer in part] for part in (hyper.canc, hyper.drug)] == [[64, 32], [16]]
    assert len(read_hyper(block).canc) == 4
    for number, said in ((5, "canc_num_layers is 5, but canc_arch has 4 sizes"), (0, "canc_num_layers must be")):
        [(_, problem)] = unorun.check([DATA | block | {"canc_num_layers": number}], None)
        assert problem.startswith(said)


def test_a_loss_module_that_is_none(tmp_path, monkeypatch):
    """Said of that RUN alone, and without importing it."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {
        "no_loss": "raise RuntimeError\n",
        "torn_loss": "def construct(\n",
        "own_loss": "raise RuntimeError\ndef construct(params): pass\n",
        "other_loss": "raise RuntimeError\nfrom elsewhere import make as construct\n",
    }.items():
        (tmp_path / f"{name}_of_a_test.py").write_text(text)
    names = (
        "network",
        "own_loss_of_a_test",
        "schedule",
        "no_loss_of_a_test",
        "other_loss_of_a_test",
        "torn_loss_of_a_test",
        "sys",
    )
    problems = unorun.check([DATA | {"custom_loss_module": name} for name in names], None)
    assert [index for index, _ in problems] == [0, 2, 3, 5, 6]
    assert problems[0][1].startswith("custom_loss_module: the module 'network' has no function construct(params)")


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("linear", [0.01, 0.505, 1.0]),
        ("quadratic", [0.01, 0.2575, 1.0]),
        ("exponential", [0.01, 0.1, 1.0]),
        *(("constant", [1.0] * 3), ("none", [1.0] * 3)),
    ],
)
def test_the_warm_ups_of_the_public_model(kind, rates):
    given = {"warmup_type": kind, "warmup_epochs": 2, "learning_rate": 1.0, "batch_size": 1}
    schedule = LearningRate(read_hyper(given))
    assert [schedule.begin_epoch(epoch) for epoch in range(4)] == pytest.approx([*rates, 1.0]), "and stays"


def test_space_layer():
    hyper = read_hyper(
        {"hyperparam_space": "layer", "canc_num_layers": 4, "canc_layer_2_size": 7, "drug_layer_1_dropout": 0.5}
    )
    assert [layer.size for layer in hyper.canc] == [1000, 7, 1000, 512]  # the fourth is the public default
    assert hyper.drug[0].dropout == 0.5
    assert len(hyper.interaction) == 5


def test_other_names_for_the_same_thing():
    assert read_hyper({"raw_max_lr": 1e-4}).learning_rate == 1e-4
    assert read_hyper({**unorun.initialize_parameters(), "raw_max_lr": 1e-4}).learning_rate == 1e-4
    assert read_hyper({"patience": 7}).early_stopping_patience == 7
    assert read_hyper({**unorun.initialize_parameters(), "rng_seed": 7}).seed == 7


def test_defaults_file_of_the_user(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("[A]\nepochs = 3\nloss = mae\n[B]\nepochs = 4\n")
    params = unorun.initialize_parameters(default_model=str(file))
    assert (params["epochs"], params["loss"], params["batch_size"]) == (4, "mae", 32)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hyperparam_space": "blocks"}, "hyperparam_space must be one of global, block, layer, not 'blocks'"),
        ({"epochs": 0}, "epochs must be an integer >= 1, not 0"),
        ({"epochs": True}, "epochs must be an integer >= 1, not True"),
        ({"batch_size": "32"}, "batch_size must be an integer >= 1, not '32'"),
        ({"learning_rate": 0}, "learning_rate must be a number > 0, not 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number > 0, not nan"),
        ({"dropout": 1.0}, "dropout must be a number >= 0 and < 1, not 1.0"),
        ({"optimizer": "adm"}, "optimizer must be one of "),
        ({"custom_loss_module": "no_such"}, "custom_loss_module: there is no module 'no_such'"),
        ({"custom_loss_module": "mae_poly"}, "custom_loss_module mae_poly needs the hyperparameter alpha"),
        ({"hyperparam_space": "block", "canc_arch": [10, -1]}, "canc_arch must be a list of layer sizes"),
        ({"hyperparam_space": "block", "canc_arch": "10 ²"}, "canc_arch must be a list of layer sizes"),
        ({"hyperparam_space": "layer", "drug_num_layers": 10}, "drug_layer_10_size must be an integer"),
        ({"raw_max_lr": 1e-4, "learning_rate": 1e-3}, "give learning_rate or raw_max_lr, not both"),
        ({"ckpt_keep_limit": 0}, "ckpt_keep_limit must be"),
        ({"ckpt_save_best_metric": "val_pcc"}, "ckpt_save_best_metric must be one of loss, r2, val_loss"),
        ({"jit_compile": "yes"}, "jit_compile must be true or false or 'auto', not 'yes'"),
        ({"calc_infer_scores": "no"}, "calc_infer_scores must be true or false, not 'no'"),
        ({"mixed_precision": "auto"}, "mixed_precision must be true or false, not 'auto'"),
    ],
)
def test_check_names_what_is_wrong(params, message):
    problems = unorun.check([DATA, DATA | params, DATA], None)
    assert {index for index, _ in problems} == {1}
    assert problems[0][1].startswith(message)
    assert "\n" not in problems[0][1]


def test_check_of_the_metric_for_the_result(monkeypatch):
    monkeypatch.setenv("MODEL_RETURN", "val_corr")
    assert unorun.check([DATA, DATA], None) == [
        (0, "MODEL_RETURN must be one of loss, r2, val_loss, val_r2, learning_rate, not 'val_corr'")
    ]


def test_the_number_of_weights():
    """By hand: two towers, the joint layer on both, the output; and the study's network."""
    hyper = read_hyper({"hyperparam_space": "block", "canc_arch": [5, 7], "drug_arch": [4], "interaction_arch": [6]})
    assert hyper.parameters(11, 13) == (11 * 5 + 5) + (5 * 7 + 7) + (13 * 4 + 4) + (11 * 6 + 6) + (6 + 1)
    assert read_hyper({}).parameters(958, 1613) == 12_583_001


def test_check_finds_all_of_them():
    problems = unorun.check([DATA | {"epochs": 0, "batch_size": 0}, DATA | {"loss": "?"}], None)
    assert [index for index, _ in problems] == [0, 0, 1]


def test_checking_loads_no_tensorflow():
    code = "import sys; from hed.uno import unorun; unorun.check([{}], None); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_check_wants_to_know_where_the_tables_are():
    assert [index for index, _ in unorun.check([DATA, {}, {"pre_module": "hed_setup"}], None)] == [1]


def test_what_a_run_would_not_read_is_warned_of_once(caplog):
    """A misspelt key trained 770 RUNs with its default."""
    block = {"hyperparam_space": "Block", "dropout": 0.5, "activation": "relu", "canc_layer_1_size": 8}
    odd = {"learning_rat": 1e-3, "Epochs": 3, "partiton": "by_cell", "custom_loss_modul": "mine", "ckpt_keep_limits": 3}
    odd |= {"alpha": 2}
    fine = {"patience": 3, "canc_num_layers": 2, "id": "A", "index": 0, "note": "mine", "canc_dropout": 0.2}
    assert unorun.check([DATA | block | odd | fine] * 2 + [DATA], None) == []
    assert [record.message for record in caplog.records] == [
        "dropout has no effect: it is of the hyperparam_space global, not block",
        "canc_layer_1_size has no effect: it is of the hyperparam_space layer, not block",
        "learning_rat is no parameter that Uno knows: is it learning_rate?",
        "Epochs is no parameter that Uno knows: is it epochs?",
        "partiton is no parameter that Uno knows: is it partition?",
        "custom_loss_modul is no parameter that Uno knows: is it custom_loss_module?",
        "ckpt_keep_limits is no parameter that Uno knows: is it ckpt_keep_limit?",
        "alpha has no effect: there is no custom_loss_module",
    ]
    caplog.clear()
    assert unorun.check([DATA | dict(unorun.initialize_parameters())], None) == [] and caplog.records == []
