import json
import subprocess
import sys

import pytest

_RUN = "import json, sys; from model_runner import run_model; print(json.dumps(run_model(json.loads(sys.argv[1]))))"
_MODEL = """import os, sys

def run(params):
    fork = os.fork()
    if fork == 0:
        {end}
    status = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    with open("data") as file:
        return {{"val_loss": float(file.read()), "status": status}}
"""
_PRE = """import os

def pre_run(params):
    with open("data", "w") as file:
        file.write("0.5")
    return 1

def clean_up(params):
    os.remove("data")
"""


@pytest.mark.parametrize(
    "end, code",
    [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("raise ValueError", 1), ("return 9.0", 0)],
)
def test_a_fork_that_comes_back_out_of_the_model_does_nothing_of_the_runs(tmp_path, end, code):
    """It called clean_up(), which removed the data before the RUN had read them."""
    (tmp_path / "forking_train_improve.py").write_text(_MODEL.format(end=end))
    (tmp_path / "prepare.py").write_text(_PRE)
    directory = tmp_path / "RUN000"
    directory.mkdir()
    params = {"instance_directory": str(directory), "model_name": "forking", "pre_module": "prepare"}
    command = [sys.executable, "-c", _RUN, json.dumps(params)]  # a fork that gets past the end would run these tests
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["result"] == "0.5"
    assert json.loads((directory / "history.txt").read_text()) == {"val_loss": [0.5], "status": [code]}
    assert done.stdout.count("IMPROVE_RESULT") == 1
