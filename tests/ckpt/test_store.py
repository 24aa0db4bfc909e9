"""The checkpoint directory, with a text file in the place of a model."""

import errno
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from model_runner.ckpt.config import read_config
from model_runner.ckpt.files import replace_link
from model_runner.ckpt.state import read_state, write_state
from model_runner.ckpt.store import CkptError, Store


def make(root: Path, **keys) -> Store:
    return Store(
        read_config({"output_dir": str(root), **{f"ckpt_{k}" if k != "epochs" else k: v for k, v in keys.items()}})
    )


def writer(text):
    def write(directory):
        (directory / "model.h5").write_text(text)
        (directory / "state.npz").write_text(text)

    return write


def read(directory, info):
    text = (directory / "model.h5").read_text()
    if text == "damaged":
        raise ValueError("not a model")
    return text


def models(root):
    return {int(p.parent.name) for p in root.glob("ckpts/epochs/*/model.h5")}


def save_all(root, values, **keys):
    store = make(root, **keys)
    for epoch, value in enumerate(values, 1):
        store.save(epoch, value, writer(f"model {epoch}"))
    return store


def test_layout(tmp_path):
    save_all(tmp_path, [0.3, 0.1, 0.2], checksum=True, metadata={"note": "x"})
    ckpts = tmp_path / "ckpts"
    assert str((ckpts / "last").readlink()) == "epochs/003"
    assert str((ckpts / "best").readlink()) == "epochs/002"
    info = json.loads((ckpts / "last/ckpt-info.json").read_text())
    assert list(info) == [
        *("epoch", "save_best_metric", "best_metric_last", "model_file", "checksum", "timestamp"),
        *("time_elapsed", "metadata"),
    ]
    assert (info["epoch"], info["best_metric_last"], info["model_file"]) == (3, 0.1, "model.h5")
    assert info["checksum"] == str(zlib.crc32(b"model 3"))
    assert info["metadata"] == {"note": "x"}
    first = json.loads((ckpts / "epochs/001/ckpt-info.json").read_text())
    assert first["time_elapsed"] == "__FIRST__"
    assert 0 <= info["time_elapsed"] < 60
    assert "saved epoch 3" in (ckpts / "ckpt.log").read_text()
    # The EXP moves: nothing in it may lead back to where it was.
    ckpts.rename(tmp_path / "moved")
    assert (tmp_path / "moved/best/model.h5").read_text() == "model 2"


def test_the_directory_that_candle_tools_expect(tmp_path):
    for epoch, save in ((1, "new/output"), (2, "new/output"), (3, "new"), (4, ".")):  # a restart finds the link
        store = Store(read_config({"output_dir": str(tmp_path), "save": str(tmp_path / save)}))
        assert store.save(epoch, 0.5, writer(f"model {epoch}"))
    links = [tmp_path / save / "ckpts" for save in ("new/output", "new", ".")]
    assert [str(link.readlink()) for link in links[:2]] == ["../../ckpts", "../ckpts"] and not links[2].is_symlink()
    info = json.loads((links[0] / "last/ckpt-info.json").read_text())
    assert info["checksum"] == "__DISABLED__"


def test_one_of_candle_itself_is_taken(tmp_path):
    """It has neither checksums of all files nor a state."""
    save_all(tmp_path, [0.3, 0.2])
    for name in ("checksums.json", "state.npz"):
        (tmp_path / "ckpts/epochs/002" / name).unlink()
    assert make(tmp_path).restore(read) == "model 2"


@pytest.mark.parametrize(
    "damage", ["torn model", "no model", "no state", "torn json", "bit flip", "bit flip in one of CANDLE's"]
)
def test_a_damaged_newest_checkpoint_falls_back(tmp_path, damage, caplog):
    save_all(tmp_path, [0.3, 0.2, 0.1], checksum=damage.startswith("bit flip"))
    newest = tmp_path / "ckpts/epochs/003"
    if damage == "bit flip in one of CANDLE's":
        (newest / "checksums.json").unlink()
    if damage == "torn json":
        (newest / "ckpt-info.json").write_text('{"epoch": 3, ')
    elif damage in ("no model", "no state"):
        (newest / {"no model": "model.h5", "no state": "state.npz"}[damage]).unlink()
    else:
        (newest / "model.h5").write_text("damaged" if damage == "torn model" else "nodel 3")
    store = make(tmp_path)
    assert store.restore(read) == "model 2"
    assert caplog.messages
    # The best so far is epoch 2 again, and the damaged epoch is saved anew.
    assert str((tmp_path / "ckpts/best").readlink()) == "epochs/002"
    assert store.save(3, 0.15, writer("again"))
    assert (tmp_path / "ckpts/last/model.h5").read_text() == "again"
    assert str((tmp_path / "ckpts/best").readlink()) == "epochs/003"


def test_a_state_comes_back_with_the_keys_that_it_had(tmp_path):
    """JSON has texts for keys: the milestones {30: 1} of a schedule would never be met again."""
    state = {
        "milestones": {30: 1, 60: 2},
        "nested": [{0: {"step": 3}, None: {True: 0.5}}, {(1, "a"): {}}],
        "names": {"__array__": 1, "__pairs__": []},
        "weights": {0: np.arange(3.0)},
    }
    write_state(tmp_path / "state.npz", state)
    found = read_state(tmp_path / "state.npz")
    assert found.pop("weights")[0].tolist() == state.pop("weights")[0].tolist()
    assert found == state


def test_a_state_that_no_restart_could_read_is_not_written(tmp_path):
    with pytest.raises(TypeError, match=r"holds a set, which no checkpoint can: \{30\}"):
        write_state(tmp_path / "state.npz", {"milestones": {30}})


def test_roll_back_by_relinking_last(tmp_path):
    """`best` goes back, too: to the epoch that was the best then, of those that say so the first."""
    save_all(tmp_path, [0.5, 0.3, 0.4, 0.1], keep_limit=4)
    ckpts = tmp_path / "ckpts"
    replace_link(ckpts / "last", Path("epochs/003"))
    (ckpts / "epochs/001/ckpt-info.json").write_text("torn")
    store = make(tmp_path)
    assert store.restore(read) == "model 3"
    assert str((ckpts / "best").readlink()) == "epochs/002"
    store.save(4, 0.2, writer("another 4"))
    assert make(tmp_path).restore(read) == "another 4" and not list((ckpts / "work").iterdir())


def test_within_an_epoch(tmp_path, caplog):
    """Newer than the last epoch: taken; damaged: the last epoch instead; superseded by the next epoch: gone."""
    store = save_all(tmp_path, [0.5, 0.4])
    partial = tmp_path / "ckpts/partial"
    assert store.save_partial(2, 10, writer("model 2.10"))
    assert store.save_partial(2, 20, writer("model 2.20"))
    assert [path.name for path in partial.iterdir()] == ["002-000000020"]
    assert "saved epoch 3, batch 20 in" in (tmp_path / "ckpts/ckpt.log").read_text()
    assert make(tmp_path).restore(read) == "model 2.20"
    log = (tmp_path / "ckpts/ckpt.log").read_text()
    assert log.endswith("restarting after epoch 2, within the next, after batch 20\n")
    # CANDLE's tools see epoch 2.
    assert str((tmp_path / "ckpts/last").readlink()) == "epochs/002"
    assert models(tmp_path) == {1, 2}
    (partial / "002-000000020/model.h5").write_text("damaged")
    assert make(tmp_path).restore(read) == "model 2"
    assert "002-000000020 cannot be used" in caplog.text
    (partial / "002-000000020/ckpt-info.json").write_text("torn")
    store = make(tmp_path)
    assert store.restore(read) == "model 2"
    store.save(3, 0.6, writer("model 3"))
    assert not list(partial.iterdir())


def test_within_an_epoch_when_not_all_epochs_are_saved(tmp_path):
    store = make(tmp_path, save_interval=5, save_best=False)
    assert store.save_partial(0, 7, writer("model 0.7"))
    assert make(tmp_path).restore(read) == "model 0.7"
    store.save(5, 0.4, writer("model 5"))
    assert store.save_partial(8, 3, writer("model 8.3"))
    assert make(tmp_path).restore(read) == "model 8.3"
    assert str((tmp_path / "ckpts/last").readlink()) == "epochs/005"
    (tmp_path / "ckpts/last").unlink()
    assert make(tmp_path).restore(read) == "model 8.3"


def test_a_roll_back_disregards_what_came_after(tmp_path):
    store = save_all(tmp_path, [0.5, 0.4])
    store.save_partial(2, 10, writer("model 2.10"))
    last = tmp_path / "ckpts/last"
    last.unlink()
    last.symlink_to("epochs/001")
    store = make(tmp_path)
    assert store.restore(read) == "model 1"
    store.save_partial(1, 5, writer("model 1.5"))
    assert make(tmp_path).restore(read) == "model 1.5"


def test_a_roll_back_to_before_there_was_a_best(tmp_path):
    save_all(tmp_path, [None, 0.4])
    replace_link(tmp_path / "ckpts/last", Path("epochs/001"))
    assert make(tmp_path).restore(read) == "model 1"
    assert not os.path.lexists(tmp_path / "ckpts/best")


def test_a_state_that_no_checkpoint_can_hold_costs_the_checkpoint(tmp_path, caplog):
    store = save_all(tmp_path, [0.9])
    assert not store.save(2, 0.5, lambda directory: write_state(directory / "state.npz", {"milestones": {30}}))
    assert "epoch 2 (best) is not saved, training goes on: a state_dict() holds a set" in caplog.text
    assert models(tmp_path) == {1} and not (tmp_path / "ckpts/work").exists()


def test_what_the_first_best_epoch_must_be_better_than(tmp_path):
    store = save_all(tmp_path, [0.3], best_metric_last=0.25)
    assert not os.path.lexists(tmp_path / "ckpts/best")
    store = make(tmp_path, best_metric_last=0.25)
    assert store.restore(read) == "model 1"
    for epoch, value in ((2, 0.26), (3, 0.24)):
        store.save(epoch, value, writer(f"model {epoch}"))
        assert os.path.lexists(tmp_path / "ckpts/best") is (epoch == 3)


def test_the_best_by_one_metric_is_nothing_to_another(tmp_path):
    save_all(tmp_path, [0.5, 0.4])
    store = make(tmp_path, save_best_metric="val_r2")
    assert store.restore(read) == "model 2"
    store.save(3, 0.1, writer("model 3"))
    assert str((tmp_path / "ckpts/best").readlink()) == "epochs/003"


def test_what_people_do_to_last_loses_nothing(tmp_path, caplog):
    """Deleted, or leading to an epoch that is not there; and what they have copied is no epoch."""
    save_all(tmp_path, [0.5, 0.4, 0.6])
    last, best = tmp_path / "ckpts/last", tmp_path / "ckpts/best"
    shutil.copytree(tmp_path / "ckpts/epochs/003", tmp_path / "ckpts/epochs/004-mine")
    assert make(tmp_path).restore(read) == "model 3"
    last.unlink()
    assert make(tmp_path).restore(read) == "model 3"
    assert [str(link.readlink()) for link in (last, best)] == ["epochs/003", "epochs/002"]
    assert not caplog.messages
    replace_link(last, Path("epochs/009"))
    assert make(tmp_path).restore(read) == "model 3" and str(last.readlink()) == "epochs/003"
    assert "the link `last` leads nowhere" in caplog.text


@pytest.mark.parametrize("error", [MemoryError, CkptError])
def test_what_is_no_damage(tmp_path, error):
    """An older checkpoint would need as much memory, and training from scratch would overwrite them; and what could not
    be undone would be trained on."""

    def fail(directory, info):
        raise error

    save_all(tmp_path, [0.5, 0.4])
    with pytest.raises(error):
        make(tmp_path).restore(fail)


def test_restart_modes(tmp_path, caplog):
    assert make(tmp_path).restore(read) is None
    assert not caplog.messages
    with pytest.raises(CkptError, match=r"no usable checkpoint in .*: auto starts from scratch"):
        make(tmp_path, restart_mode="required").restore(read)
    save_all(tmp_path, [0.5])
    assert make(tmp_path, restart_mode="off").restore(read) is None
    assert make(tmp_path, restart_mode="required").restore(read) == "model 1"
    (tmp_path / "ckpts/epochs/001/model.h5").write_text("damaged")
    assert make(tmp_path).restore(read) is None
    assert caplog.messages[-1] == "no usable checkpoint: training starts from scratch"
    with pytest.raises(CkptError):
        make(tmp_path, restart_mode="required").restore(read)


def test_a_checkpoint_is_on_disk_before_it_has_its_name_and_then_its_names(tmp_path, monkeypatch):
    named, last = tmp_path / "ckpts/epochs/001", tmp_path / "ckpts/last"
    flushed = {"unnamed": set(), "named": set(), "linked": set()}

    def fsync(descriptor):
        when = "linked" if last.is_symlink() else "named" if named.exists() else "unnamed"
        flushed[when].add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    save_all(tmp_path, [0.5])
    paths = [named, named / "model.h5", named / "ckpt-info.json", named / "checksums.json"]
    assert [path.name for path in paths if path.stat().st_ino not in flushed["unnamed"]] == []
    assert named.parent.stat().st_ino in flushed["named"] and last.parent.stat().st_ino in flushed["linked"]


def test_a_full_disk_costs_the_checkpoint_only(tmp_path, caplog):
    store = save_all(tmp_path, [0.5, 0.4])

    def full(directory):
        (directory / "model.h5").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert not store.save(3, 0.1, full)
    assert "No space left" in caplog.text
    assert make(tmp_path).restore(read) == "model 2"
    assert not list((tmp_path / "ckpts").glob("work/*"))
    # 0.1 was never saved, so 0.2 is the best that there is a model of.
    assert store.save(4, 0.2, writer("model 4"))
    assert str((tmp_path / "ckpts/best").readlink()) == "epochs/004"


def test_a_best_epoch_that_could_not_be_linked_leaves_the_place_to_a_later_one(tmp_path, monkeypatch):
    """No later epoch was as good, so `best` led to epoch 1 for ever, and the better model was cleaned away."""
    store = save_all(tmp_path, [0.5], keep_limit=1)

    def full(link, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("model_runner.ckpt.store.replace_link", full)
        assert not store.save(2, 0.1, writer("model 2"))
    assert store.save(3, 0.2, writer("model 3")) and store.save(4, 0.3, writer("model 4"))
    assert str((tmp_path / "ckpts/best").readlink()) == "epochs/003"


def test_a_kill_while_saving_leaves_the_earlier_ones(tmp_path):
    store = save_all(tmp_path, [0.5, 0.4])

    def killed(directory):
        (directory / "model.h5").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save(3, 0.1, killed)
    (tmp_path / "ckpts/.last.tmp").symlink_to("epochs/002")  # as a kill between making the link and renaming it leaves
    store = make(tmp_path)
    assert store.restore(read) == "model 2"
    assert store.save(3, 0.1, writer("model 3"))
    assert make(tmp_path).restore(read) == "model 3"


def test_final_epoch_is_saved_whatever_the_interval(tmp_path):
    store = make(tmp_path, save_interval=0, save_best=False, epochs=9)
    assert not store.save(1, 0.5, writer("1"))
    assert store.save(2, 0.5, writer("2"), because="final")  # stopped early
    assert store.save(9, 0.5, writer("9"))
    assert not (tmp_path / "ckpts/best").exists()
