import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftpy.experiment.journal import Journal, read


def test_events_carry_the_time_and_any_value(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert read(path) == []
    with Journal(path, clock=iter([1.5, 2.0]).__next__) as journal:
        journal.write("run_done", id="é\n", value={"epochs": 3})
        journal.write("run_done", value=tmp_path)
    with Journal(path, clock=lambda: 3.0) as journal:
        journal.write("job_stopped")
    assert read(path) == [
        {"t": 1.5, "event": "run_done", "id": "é\n", "value": {"epochs": 3}},
        {"t": 2.0, "event": "run_done", "value": str(tmp_path)},
        {"t": 3.0, "event": "job_stopped"},
    ]
    assert path.read_bytes().count(b"\n") == 3


def test_flush_and_close_bring_to_disk_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.pread(file, 1000, 0).count(b"\n")))
    with Journal(path) as journal:
        journal.write("run_done", id="A")
        journal.write("run_done", id="B")
        assert synced == []
        journal.flush()
        assert synced == [2]
        journal.write("job_stopped")
    assert synced == [2, 3]


@settings(max_examples=150)
@given(st.lists(st.text(max_size=8), max_size=4), st.data())
def test_cut_anywhere_it_keeps_what_was_whole_and_goes_on(tmp_path_factory, ids, data):
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.unlink(missing_ok=True)
    ends = [0]
    with Journal(path, clock=lambda: 1.5) as journal:
        for run_id in ids:
            journal.write("run_done", id=run_id)
            ends.append(path.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(path, cut)
    # An event is whole as soon as its last brace is there; the newline may be missing.
    whole = sum(end - 1 <= cut for end in ends[1:])
    assert [event["id"] for event in read(path)] == ids[:whole]
    with Journal(path) as journal:
        journal.write("run_done", id="after")
    assert [event["id"] for event in read(path)] == [*ids[:whole], "after"]


def test_a_full_disk_is_told_and_costs_one_event(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    real = os.write
    room = 20

    def write(file, data):
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(file, data[:room])
        room -= done
        return done

    with Journal(path) as journal:
        journal.write("job_started")
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            journal.write("run_done", id="lost")
        monkeypatch.setattr(os, "write", real)
        journal.write("run_done", id="kept")
    assert [event.get("id") for event in read(path)] == [None, "kept"]


def test_garbage_is_no_event(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'\0\0\0\n[1]\n"event"\n{"t": 1}\n\xff\n' + json.dumps({"event": "x"}).encode())
    assert read(path) == [{"event": "x"}]
