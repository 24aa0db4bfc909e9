"""Two RUNs in one process: the second sees nothing of the first."""

import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest


def handlers():
    names = ("", "RUNNER", "messy")
    loggers = [logging.getLogger(name) for name in names]
    return [(list(one.handlers), one.level, one.propagate) for one in loggers]


def process_state():
    mask = os.umask(0o22)
    os.umask(mask)
    return {
        "cwd": Path.cwd(),
        "environ": dict(os.environ),
        "argv": (id(sys.argv), list(sys.argv)),
        "path": (id(sys.path), list(sys.path)),
        "logging": (handlers(), logging.root.manager.disable),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "random": (random.getstate(), str(np.random.get_state()), np.geterr()),
        "umask": mask,
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "tempdir": tempfile.gettempdir(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "descriptors": [(os.fstat(fd).st_dev, os.fstat(fd).st_ino) for fd in (1, 2)],
        "modules": {name for name in sys.modules if "train_improve" in name},
    }


def test_a_messy_run_leaves_nothing(run, models, capfd):
    before = process_state()
    answer, directory = run("messy", "messy")
    after = process_state()
    for aspect, value in before.items():
        assert after[aspect] == value, aspect
    assert answer["result"] == "0.25"
    assert any(thread.name == "straggler" for thread in threading.enumerate())  # which nobody can end

    size = (directory / "messy.log").stat().st_size
    run("linreg", "clean")
    assert (directory / "messy.log").stat().st_size == size, "one RUN's lines went to another's file"
    printed = capfd.readouterr().out
    assert printed.count("pkg.run() done.") == 1, "once: handlers do not pile up (messy points its own elsewhere)"


def test_threads_left_behind_are_reported(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "lazy_train_improve.py").write_text(
        "import threading\n"
        "def run(params):\n"
        "    threading.Thread(target=threading.Event().wait, name='straggler', daemon=True).start()\n    return 1.0\n"
    )
    run("lazy")
    printed = capsys.readouterr().out
    assert "RUNNER WARNING the RUN left a thread behind: straggler" in printed and printed.count("a thread behind") == 1


def test_processes_left_behind_are_reported(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "parting_train_improve.py").write_text(
        "import multiprocessing, time\n"
        "def run(params):\n"
        "    multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,), name='straggler').start()\n"
        "    return 1.0\n"
    )
    try:
        run("parting")
        (straggler,) = multiprocessing.active_children()
        run("parting", "again")
    finally:
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
    printed = capsys.readouterr().out
    assert f"RUNNER WARNING the RUN left a process behind: straggler (pid {straggler.pid})" in printed
    assert printed.count("a process behind") == 2, "each once"


def test_seeds_are_those_of_the_run_alone(run, models):
    def result(name, **params):
        return run("linreg", name, **params)[0]["result"]

    first = result("1", rng_seed=7)
    run("messy", "2")
    assert result("3", rng_seed=7) == first
    assert result("4", seed=8) != first
    random.seed(3)
    np.random.seed(3)
    unseeded = result("5")
    random.seed(3)
    np.random.seed(3)
    assert result("6") != unseeded, "without a seed each RUN has its own, as in a process of its own"


def test_own_modules_are_imported_once_by_file(run, third_party, monkeypatch, tmp_path):
    log = tmp_path / "imports.txt"
    monkeypatch.setenv("IMPORT_LOG", str(log))
    losses = []
    for i, version in enumerate(["models", "other", "models", "other"]):
        monkeypatch.setenv("MODEL_PYTHON_DIR", str(third_party / version))
        _, directory = run("linreg", f"RUN{i}", rng_seed=1)
        losses.append(json.loads((directory / "history.txt").read_text())["loss"])
    assert losses[0] == losses[2] != losses[1] == losses[3]
    imported = [line.split("/")[-2] for line in log.read_text().splitlines()]
    assert imported == ["models", "other"]
    assert "shared_helper" not in sys.modules


def test_a_module_of_the_process_gives_way_to_the_model_and_comes_back(run, models, monkeypatch):
    namesake = types.ModuleType("linreg_train_improve")
    monkeypatch.setitem(sys.modules, "linreg_train_improve", namesake)
    assert run("linreg")[0]["epochs"] == 3
    assert sys.modules["linreg_train_improve"] is namesake


def test_keras_starts_each_run_with_its_defaults(run, monkeypatch, tmp_path):
    pytest.importorskip("keras")
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "real_train_improve.py").write_text(
        "import keras, numpy as np, tensorflow as tf\n"
        "def run(params):\n"
        "    x = np.linspace(0, 1, 8).reshape(8, 1)\n"
        "    layers = keras.layers\n"
        "    model = keras.Sequential([layers.Dense(4), layers.Dropout(0.5), layers.Dense(1)])\n"
        "    model.compile('sgd', 'mse')\n"
        "    history = model.fit(x, x, validation_split=0.5, epochs=2, shuffle=False, verbose=0)\n"
        "    assert model.layers[0].name == 'dense', model.layers[0].name\n"
        "    assert keras.backend.floatx() == 'float32' and model.dtype_policy.name == 'float32'\n"
        "    assert not tf.config.functions_run_eagerly()\n"
        "    if params['mess']:\n"
        "        keras.backend.set_floatx('float64')\n"
        "        keras.backend.set_epsilon(0.1)\n"
        "        keras.mixed_precision.set_global_policy('mixed_bfloat16')\n"
        "        tf.random.set_seed(5)\n"
        "        tf.config.run_functions_eagerly(True)\n"
        "    return history\n"
    )
    answers = [run("real", f"RUN{mess}", mess=mess, rng_seed=3)[0] for mess in (1, 0, 0)]
    import keras
    from tensorflow.python.eager import context

    assert answers[0]["epochs"] == 2
    if keras.__version__.startswith("3"):  # Keras 2 draws dropout from operations that remember earlier RUNs
        assert answers[0] == answers[1] == answers[2]
    assert (keras.backend.epsilon(), context.global_seed()) == (1e-7, None)
