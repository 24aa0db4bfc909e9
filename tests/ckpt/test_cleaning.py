"""Which models of earlier epochs stay."""

import errno
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import make, models, read, save_all, writer

from model_runner.ckpt.files import replace_link
from model_runner.ckpt.store import Store


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, float("nan"), None]), min_size=1, max_size=12),
    restart_after=st.integers(0, 12),
    limit=st.integers(1, 3),
    interval=st.integers(0, 3),
    skip=st.integers(0, 3),
    metric=st.sampled_from(["val_loss", "val_r2"]),
)
def test_what_is_kept(tmp_path_factory, values, restart_after, limit, interval, skip, metric):
    """Against the naive rule, computed anew from all epochs so far; with a restart on the way."""
    root = tmp_path_factory.mktemp("kept")
    keys = {"keep_limit": limit, "save_interval": interval, "skip_epochs": skip, "save_best_metric": metric}
    store = make(root, epochs=len(values), **keys)
    sign = -1 if metric == "val_r2" else 1
    saved, best = [], None
    for epoch, value in enumerate(values, 1):
        if epoch == restart_after + 1:
            store = make(root, epochs=len(values), **keys)
            found = store.restore(read)
            assert found == (f"model {saved[-1]}" if saved else None)
            if (saved[-1] if saved else 0) != epoch - 1:
                return  # a real training would go back to the last one saved
        store.save(epoch, value, writer(f"model {epoch}"))
        better = value is not None and value == value and (best is None or sign * value < sign * best[1])
        if epoch > skip and better:
            best = (epoch, value)
        if (best and best[0] == epoch) or epoch == len(values) or (epoch > skip and interval and epoch % interval == 0):
            saved.append(epoch)
        expected = set(saved[-limit:]) | ({best[0]} if best else set())
        assert models(root) == expected
        assert (root / "ckpts/best/model.h5").exists() == (best is not None)
        if best:
            assert (root / "ckpts/best/model.h5").read_text() == f"model {best[0]}"
    assert {int(p.parent.name) for p in root.glob("ckpts/epochs/*/ckpt-info.json")} == set(saved)


def test_cleaning_leaves_only_the_information(tmp_path):
    save_all(tmp_path, [0.4, 0.3, 0.2], keep_limit=1)
    assert [p.name for p in (tmp_path / "ckpts/epochs/001").iterdir()] == ["ckpt-info.json"]
    assert (tmp_path / "ckpts/ckpt.log").read_text().count("removed the model of epoch 1\n") == 1


def test_cleaning_looks_for_models_once(tmp_path, monkeypatch):
    """Else each of all workers looked, after its epoch 200, into 200 directories of one file system."""
    looks, saved = [], Store._saved
    monkeypatch.setattr(Store, "_saved", lambda store: looks.append(store) or saved(store))
    store = save_all(tmp_path, [0.4, 0.3, 0.2], keep_limit=2)
    shutil.rmtree(tmp_path / "ckpts/epochs/002")  # by hand, or by clean-ckpts.sh, while the RUN goes on
    for epoch in (4, 5):
        assert store.save(epoch, 0.1 / epoch, writer(f"model {epoch}"))
    assert (models(tmp_path), len(looks)) == ({4, 5}, 1)


def test_after_a_roll_back_what_came_later_is_not_kept_in_the_place_of_what_comes(tmp_path):
    save_all(tmp_path, [None] * 5, keep_limit=5)
    replace_link(tmp_path / "ckpts/last", Path("epochs/002"))
    store = make(tmp_path, keep_limit=1)
    assert store.restore(read) == "model 2" and store.save(3, None, writer("another 3"))
    assert models(tmp_path) == {3, 4, 5} and make(tmp_path).restore(read) == "another 3"


@pytest.mark.parametrize(("removed", "usable"), [(0, True), (1, False)])
def test_a_clean_up_that_is_killed_leaves_no_half_checkpoint_and_is_taken_up_again(
    tmp_path, monkeypatch, removed, usable
):
    store, unlink, gone = save_all(tmp_path, [None], keep_limit=1), Path.unlink, []

    def killed(path, **options):
        if path.parent.name == "001":
            gone.append(path.name)
            if len(gone) > removed:
                raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        store.save(2, None, writer("model 2"))
    shutil.copytree(tmp_path, tmp_path.with_suffix(".copy"), symlinks=True)
    shutil.rmtree(tmp_path.with_suffix(".copy") / "ckpts/epochs/002")
    assert make(tmp_path.with_suffix(".copy")).restore(read) == ("model 1" if usable else None)
    store = make(tmp_path, keep_limit=1)
    assert store.restore(read) == "model 2" and store.save(3, None, writer("model 3"))
    assert [path.name for path in (tmp_path / "ckpts/epochs/001").iterdir()] == ["ckpt-info.json"]


def test_a_model_that_could_not_be_linked_goes_when_there_is_room(tmp_path, monkeypatch):
    """Of epochs 2 to 4 it is in its place, and the clean-up was not reached."""
    store = save_all(tmp_path, [0.9], keep_limit=1)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model_runner.ckpt.store.replace_link", full)
        assert not any(store.save(epoch, 0.5, writer(f"model {epoch}")) for epoch in (2, 3, 4))
    assert store.save(5, 0.1, writer("model 5")) and models(tmp_path) == {5}
