"""Two pretended nodes: who works where, with which device, and what a rank that is broken says before any RUN."""

import json
import os
import re
import subprocess
import sys

import pytest

from job import journal


@pytest.fixture
def two_nodes(workplace):
    """Starts a job on 3 ranks a node: one more than PPN, as a site with a server slot does."""

    def start(text="", **env):
        launch = ["mpiexec", "-launcher", "fork", "-hosts", "n1,n2", "-ppn", "{RANKS_PER_NODE}", "-n", "{RANKS}"]
        site = workplace.root / "two.toml"
        site.write_text(
            f"launch = {launch}\nserver_slot = true\n{text}\n"
            "[devices]\nvariable = 'TOY_DEVICE'\nmasks = ['x', 'y']\n[settings]\nPROCS = '5'\nPPN = '2'\n"
        )
        command = [sys.executable, "-m", "swiftpy.sites", str(site), "upf.json", "dflts.json"]
        return subprocess.run(
            command, cwd=workplace.root, env={**workplace.env, **env}, capture_output=True, text=True, timeout=300
        )

    return start


def test_the_server_costs_no_device(workplace, two_nodes, tmp_path):
    model = tmp_path / "device_baseline_keras2.py"
    model.write_text(
        "import os\nfrom toy_baseline_keras2 import *\nimport toy_baseline_keras2 as toy\n"
        "def run(params):\n    Path('device').write_text(os.environ['TOY_DEVICE'])\n"
        "    while len(list(Path('..').glob('*/device'))) < 4: time.sleep(0.02)\n"  # each worker has one
        "    return toy.run(params)\n"
    )
    workplace.write([{"id": f"R{n}"} for n in range(4)], {"model_name": "device"})
    env = {"MODEL_PYTHON_SCRIPT": str(model), "PYTHONPATH": workplace.env["MODEL_PYTHON_DIR"]}
    result = two_nodes(**env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 RUNs on 4 workers" in result.stdout
    exp = workplace.exp(0)
    places = {
        e["rank"]: (exp / "run" / e["id"] / "device").read_text() for e in journal(exp) if e["event"] == "run_done"
    }
    assert places == {1: "x", 2: "y", 4: "x", 5: "y"}


def test_a_broken_rank_is_found_before_any_run(workplace, two_nodes, tmp_path):
    """Rank 2 of each node lacks a library; rank 1 has another NumPy."""
    (tmp_path / "needed.py").write_text(
        "import os\nif os.environ['MPI_LOCALRANKID'] == '2':\n    raise ImportError('libze_loader.so.1: cannot open')\n"
    )
    (tmp_path / "sitecustomize.py").write_text(
        "import os, importlib.metadata as m\nversion = m.version\n"
        "old = os.environ.get('MPI_LOCALRANKID') == '1'\n"
        "m.version = lambda name: '1.0' if old and name == 'numpy' else version(name)\n"
    )
    workplace.write([{"id": "A"}])
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    result = two_nodes('modules = ["needed"]', **env)
    assert result.returncode == 2
    lines = [line.split(" (", 1)[1] for line in result.stdout.splitlines() if " (rank " in line]
    assert lines[0] == "rank 2, 5): needed cannot be imported: ImportError: libze_loader.so.1: cannot open"
    assert lines[1].startswith("rank 1, 4): numpy is 1.0, but ") and len(lines) == 2
    assert "run_started" not in json.dumps(journal(workplace.exp(0)))


def test_a_rank_that_hangs_while_it_looks(workplace, two_nodes, tmp_path):
    """It cost the whole walltime; now not more than half of it. Rank 0 of each node looks in a child of its own."""
    (tmp_path / "hangs.py").write_text("import os, time\ntime.sleep(600 * (os.environ['MPI_LOCALRANKID'] != '1'))\n")
    workplace.write([{"id": "A"}])
    env = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "WALLTIME": "0:00:24"}
    result = two_nodes('modules = ["hangs"]', **env)
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line.split(" (", 1)[1] for line in result.stdout.splitlines() if " (rank " in line]
    what = r"swiftpy\.upf\.preflight:look did not answer within \d+ s: an import or a file system may hang"
    assert len(lines) == 1 and re.fullmatch(rf"rank 0, 2-3, 5\): {what}", lines[0])
