"""A RUN that is killed, or asked to end, again and again: as if it had never been."""

import functools
import random
import signal

import pytest
from made_up_tables import tables, write_input

keras = pytest.importorskip("keras")

import killed  # noqa: E402

pytestmark = pytest.mark.skipif(
    not keras.__version__.startswith("3"), reason="Keras 2 does not expose the state of Dropout layers"
)

HARD = {
    "model_name": "unorun",
    "timeout": -1,
    "hyperparam_space": "block",
    "canc_arch": [12],
    "drug_arch": [8],
    "interaction_arch": [12, 6],
    "canc_dropout": 0.2,
    "batch_size": 10,
    "learning_rate": 1e-3,
    "warmup_epochs": 2,
    "reduce_lr_patience": 1,
    "early_stopping_patience": 3,
    "epochs": 60,
    "custom_loss_module": "mae_poly",
    "alpha": 2,
    "steps_per_execution": 15,  # an epoch at once; without it a slow machine makes more calls, and a kill comes earlier
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(name, **changes) -> parameters of a RUN in a new directory, and the directory."""
    work = tmp_path_factory.mktemp("kills")
    write_input(work / "input", *tables())

    def make(name, **changes):
        directory = work / str(len(list(work.iterdir()))) / name
        directory.mkdir(parents=True)
        given = {**HARD, "input_dir": str(work / "input"), "instance_directory": str(directory), **changes}
        return {**given, "output_dir": str(directory)}, directory

    return make


@pytest.fixture(scope="module")
def never_killed(make):
    """never_killed(epochs) -> answer and directory of the RUN that nothing happens to; each is trained once."""

    @functools.cache
    def run(epochs):
        params, directory = make("straight", epochs=epochs)
        return killed.run(params), directory

    return run


def test_ten_kills_change_nothing(make, never_killed):
    expected, straight = never_killed(HARD["epochs"])
    assert expected["stopped_early"] and expected["epochs"] > 14, expected
    params, directory = make("killed", ckpt_save_batches=3)
    chance = random.Random(1)
    for _ in range(10):
        # At once, or a little later: while a checkpoint is being written.
        assert killed.run(params, chance.randint(2, 7), chance.choice([0, 0.001, 0.01])) is None
    assert killed.run(params) == expected
    killed.assert_same(killed.outcome(directory), killed.outcome(straight))
    log = (directory / "ckpts/ckpt.log").read_text()
    assert "within the next, after batch" in log and "cannot be used" not in log
    assert not list(directory.glob("ckpts/partial/*"))


def test_the_best_weights_survive_a_kill_in_the_epoch_after_them(make, never_killed):
    """They are in no other checkpoint that a resume reads, and the network's own have changed since."""
    expected, straight = never_killed(HARD["epochs"])
    best = expected["epochs"] - HARD["early_stopping_patience"]
    params, directory = make("killed", ckpt_save_batches=3)
    assert killed.run(params, calls=5 * best + 3) is None  # 15 batches, 5 calls an epoch
    partial, *_ = directory.glob("ckpts/partial/*")  # two, if the kill came before the older one was removed
    assert partial.name.startswith(f"{best:03d}-")
    assert killed.run(params) == expected
    killed.assert_same(killed.outcome(directory), killed.outcome(straight))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_end_a_run_goes_on_from_the_same_batch(make, never_killed, number):
    expected, straight = never_killed(3)
    params, directory = make("interrupted", epochs=3)
    answer = killed.run({**params, "ckpt_save_batches": 4}, 6, number=number)
    expected_answer = {
        "status": "interrupted",
        "reason": number.name,
        "epochs": 1,
        "result": "",
        "stopped_early": False,
    }
    assert answer == expected_answer
    assert sorted(path.name for path in directory.iterdir()) == ["ckpts", "output", "parameters.txt", "rank.txt"]
    assert [path.name for path in directory.glob("ckpts/partial/*")] == ["001-000000008"]
    assert not list(directory.glob("ckpts/work/*"))
    assert killed.run(params) == expected
    killed.assert_same(killed.outcome(directory), killed.outcome(straight))
    assert "restarting after epoch 1, within the next, after batch 8" in (directory / "ckpts/ckpt.log").read_text()
