"""Learning rate, early stopping and progress, epoch by epoch: as Keras' callbacks do it."""

import json

import numpy as np
import pytest

from hed.uno.hyper import read_hyper
from hed.uno.schedule import EarlyStopping, Execution, LearningRate, Progress

HYPER = read_hyper(
    {"learning_rate": 1.0, "batch_size": 1, "warmup_epochs": 0, "reduce_lr_patience": 2, "reduce_lr_factor": 0.1}
    | {"early_stopping_patience": 2}
)


def rates(losses):
    """The rate of each epoch; each resumed from the state that the one before it left."""
    schedule, used = LearningRate(HYPER), []
    for epoch, loss in enumerate(losses):
        used.append(schedule.begin_epoch(epoch))
        schedule.end_epoch(loss)
        state = json.loads(json.dumps(schedule.state_dict()))
        schedule = LearningRate(HYPER)
        schedule.load_state_dict(state)
    return used


def test_the_rate_falls_on_each_plateau_down_to_a_limit():
    assert rates([0.5] * 13) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, *[1e-4] * 4])
    assert rates([0.5, 0.5, 0.4, 0.4, 0.3, 0.3]) == [1] * 6, "each improvement begins the count again"
    assert rates([0.5, 0.49995, 0.49991, 0.5])[-1] == 0.1, "by less than 0.0001 is no improvement"
    assert rates([0.5, 0.5, 0.49985, 0.5])[-1] == 1, "by more it is"
    assert rates([float("nan")] * 3)[-1] == 0.1


def stopped(losses):
    """(the epoch after which training stops, the epoch whose weights are the best, whether these were copied).

    Resumed within each epoch, when the network has learned, and after it.
    """
    epoch = None

    def resumed(state):
        stopping = EarlyStopping(HYPER, lambda: [np.array(epoch)])
        stopping.load_state_dict(state)
        return stopping

    stopping = EarlyStopping(HYPER, lambda: [np.array(epoch)])
    for number, loss in enumerate(losses):
        stopping.begin_epoch()
        epoch = number
        stopping = resumed(stopping.state_dict())
        stopping.begin_epoch()
        stopping.end_epoch(epoch, loss)
        stopping = resumed(stopping.state_dict())
        if stopping.stopped:
            break
    copied = stopping.best_weights is not None
    assert copied is not stopping.improved
    return epoch, int(stopping.best_weights[0]) if copied else epoch, copied


def test_training_stops_when_nothing_gets_better_and_keeps_the_best_weights():
    assert stopped([0.5, 0.4, 0.4, 0.6, 0.1]) == (3, 1, True), "as good is not better"
    assert stopped([0.5, 0.6, 0.4, 0.6, 0.3]) == (4, 4, False), "each improvement begins the count again"


def test_the_first_epoch_alone_never_stops_training():
    stopping = EarlyStopping(read_hyper({"early_stopping_patience": 1}), list)
    stopping.end_epoch(0, float("nan"))
    assert not stopping.stopped
    stopping.end_epoch(1, float("nan"))
    assert stopping.stopped


@pytest.mark.parametrize(("wait", "weights", "best"), [(0, None, 7), (1, [np.array(3)], 3)])
def test_a_state_of_the_first_checkpoints_is_taken_up(wait, weights, best):
    """None could be used, and RUNs began from scratch. Best weights that the network had were left out."""
    stopping = EarlyStopping(HYPER, lambda: [np.array(7)])
    stopping.load_state_dict({"best": 0.5, "wait": wait, "stopped": False, "best_weights": weights})
    stopping.begin_epoch()
    stopping.end_epoch(4, 0.6)
    assert (stopping.best_weights, stopping.improved, stopping.stopped) == ([best], False, wait == 1)


def test_progress_counts_the_last_batch_by_what_is_in_it():
    """However an epoch is cut into calls, and resumed between them."""
    results = np.array([[0.5, 3], [0.25, 2], [1, 1]], np.float32)
    whole, cut, resumed = Progress(), Progress(), Progress()
    whole.add(results, 4, 9)
    cut.add(results[:2], 4, 9)
    resumed.load_state_dict(cut.state_dict())
    resumed.add(results[2:], 4, 1)
    assert whole == resumed == Progress(batch=3, loss=0.5 * 4 + 0.25 * 4 + 1 * 1, squares=6)


def test_only_another_execution_is_said(caplog):
    before = Execution(threads=2, xla=False, fused_optimizer=True, policy="float32")
    before.load_state_dict(before.state_dict())
    assert not caplog.messages
    Execution(threads=4, xla=False, fused_optimizer=True, policy="float32").load_state_dict(before.state_dict())
    [said] = caplog.messages
    assert said.startswith("the RUN began with threads: 2, xla: False") and "goes on with threads: 4, xla" in said
