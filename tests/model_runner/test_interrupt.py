"""Signals to a process that runs a RUN."""

import multiprocessing
import os
import signal
import time

import pytest

from model_runner import interrupt


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_run_that_follows_the_request_leaves_no_results(run, models, name, monkeypatch, tmp_path):
    before = signal.getsignal(getattr(signal, name))
    (tmp_path / "post_mark.py").write_text("def post_run(params, output_map):\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    answer, directory = run("asked", signals=name, follows=True, post_module="post_mark")
    assert answer == {"status": "interrupted", "reason": name, "epochs": 2, "result": "", "stopped_early": False}
    assert sorted(path.name for path in directory.iterdir()) == ["parameters.txt", "rank.txt"]
    assert signal.getsignal(getattr(signal, name)) == before


def test_a_model_that_never_looks_is_not_interrupted_nor_the_next_run(run, models):
    answer, _ = run("asked", signals="SIGTERM SIGUSR1", follows=False)
    assert answer["status"] == "ok"
    answer, _ = run("asked", run_id="RUN001", signals="", follows=True)
    assert answer["status"] == "ok"


def test_what_a_model_forks_can_be_terminated():
    """Such as a pool that loads data."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    interrupt.watch()
    try:
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
        assert process.exitcode == -signal.SIGTERM and interrupt.requested() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested() == "SIGTERM", "after a fork, too"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_model_need_not_say_after_how_many_epochs_it_was_interrupted(monkeypatch):
    monkeypatch.setattr(interrupt, "_reason", "SIGTERM")
    assert str(interrupt.Interrupted()) == "interrupted by SIGTERM"
    assert str(interrupt.Interrupted(0)) == "interrupted by SIGTERM after 0 epochs"
