"""Losses that are NaN for a while, or for good: which epochs they belong to, and what is said of the RUN."""

import json

import pytest
from test_original import command

from analysis import convergence, figures
from analysis.exp import Saved
from analysis.summary import summarize

DIVERGED = [0.5, 0.2, 0.05, 0.01, 0.004, *[None] * 5]
FINE = [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


def make(exp, **histories):
    """An EXP with a RUN for each list of losses, of which None is NaN."""
    for name, losses in histories.items():
        run = exp / "run" / name
        run.mkdir(parents=True)
        (run / "history.txt").write_text(json.dumps({"val_loss": losses}) + "\n")
        (run / "result.txt").write_text(f"{'nan' if losses[-1] is None else losses[-1]}\n")
    return exp


def rows_of(exp):
    return {row["run"]: row for row in json.loads("\n".join(command("analyze_convergence", "--json", exp)))}


def test_a_loss_that_became_nan_has_diverged(tmp_path):
    exp = make(tmp_path / "EXP001", A=DIVERGED, B=FINE, C=[x * 2 for x in FINE], D=[None] * 3, E=[0.1, None])
    rows = rows_of(exp)
    keys = ("tier", "pattern", "epochs", "final_loss", "best_loss", "improvement")
    assert [rows["A"][key] for key in keys] == ["POOR", "DIVERGING", 10, None, 0.004, None]
    assert [rows["D"][key] for key in keys] == ["POOR", "DIVERGING", 3, None, None, None]
    assert [rows["E"][key] for key in keys] == ["POOR", "DIVERGING", 2, None, 0.1, None]
    assert (rows["B"]["tier"], rows["C"]["tier"]) == ("EXCELLENT", "POOR"), "among those that have a final loss"
    text = "\n".join(command("analyze_convergence", exp))
    assert "Final loss: mean 0.150000, std 0.050000, 0.100000 to 0.200000\nImprovement: mean 80.0 %" in text
    assert "3 RUNs with a loss that ends in NaN (A, D, E): a lower learning rate, not more epochs" in text
    assert "still improving" not in text and "getting worse" not in text
    assert [line.split()[0] for line in text.splitlines() if " POOR " in line and "%," not in line] == list("CADE")


def test_nothing_but_nan(tmp_path):
    exp = make(tmp_path / "EXP001", A=[None] * 6)
    assert "Epochs: mean 6.0, min 6, max 6" in command("analyze_convergence", exp)
    assert "Final loss" not in "\n".join(command("analyze_convergence", exp))
    assert figures.learning_curves(summarize(exp, {}, None, [])) is None


def test_nan_in_between_keeps_the_epochs(tmp_path):
    gap = [0.5, None, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    exp = make(tmp_path / "EXP001", A=[None, None, *FINE], B=gap, C=[None, 9, 7, 5, 3])
    rows = rows_of(exp)
    assert [(row["epochs"], row["pattern"], row["final_loss"]) for row in rows.values()] == [
        (12, "NATURAL_CONVERGENCE", 0.1),
        (10, "NATURAL_CONVERGENCE", 0.1),
        (5, "STILL_IMPROVING", 3),
    ]
    assert rows["A"]["improvement"] == pytest.approx(0.8)
    axes = figures.learning_curves(summarize(exp, {}, None, [])).axes[0]
    paths = [path.vertices.tolist() for curves in axes.collections for path in curves.get_paths()]
    assert [epoch for epoch, _ in min(paths, key=len)] == [2, 3, 4, 5]
    assert [1, 3, 4, 5, 6, 7, 8, 9, 10] in [[epoch for epoch, _ in path] for path in paths]


def test_nan_after_a_resume_of_the_original_system(tmp_path):
    """Its history has the epochs since the resume only, its checkpoints the best so far, which NaN never is."""
    saved = [Saved(epoch, loss, None, False) for epoch, loss in ((2, 0.5), (4, 0.2), (6, 0.2), (8, 0.2))]
    for losses, pattern, final in (([0.2, None], "DIVERGING", None), ([0.4, 0.3], "NATURAL_CONVERGENCE", 0.2)):
        exp = make(tmp_path / pattern, A=losses)
        [run], _ = convergence.converged({exp / "run" / "A": saved})
        assert (run.pattern, run.first, run.epochs, run.final_loss, run.best_loss) == (pattern, 2, 8, final, 0.2)
        assert run.points()[:2] == [(2, 0.5), (4, 0.2)]


def test_another_metric_of_the_checkpoints_is_no_loss(tmp_path):
    """RUNs at work, or killed; a record that does not say which metric it is of counts as before."""
    exp = tmp_path / "EXP001"
    for name, metric in {"R": {"save_best_metric": "val_r2"}, "L": {"save_best_metric": "val_loss"}, "O": {}}.items():
        for epoch, best in enumerate((-0.5, 0.3, 0.9) if name == "R" else (0.9, 0.5, 0.4), 1):
            directory = exp / "run" / name / "ckpts/epochs" / f"{epoch:03}"
            directory.mkdir(parents=True)
            (directory / "ckpt-info.json").write_text(json.dumps({**metric, "best_metric_last": best}))
    assert {name: row["final_loss"] for name, row in rows_of(exp).items()} == {"L": 0.4, "O": 0.4}
    assert "RUNs: 2 with losses, 1 without" in command("analyze_convergence", exp)
    (exp / "run/R/history.txt").write_text('{"val_loss": [0.3, 0.2, 0.1], "val_r2": [-0.5, 0.3, 0.9]}')
    assert rows_of(exp)["R"]["final_loss"] == 0.1
