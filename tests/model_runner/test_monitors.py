import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from model_runner.errors import RunError


@pytest.fixture
def fake_programs(monkeypatch, tmp_path):
    """Monitors that write their own command line and process id, and never end."""
    for name in ("top", "nvidia-smi", "xpu-smi"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\necho "$$ $(basename "$0") $*"\nexec sleep 1000\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path))
    (tmp_path / "waits_train_improve.py").write_text(
        textwrap.dedent("""
        import pathlib, time
        def run(params):
            here = pathlib.Path(params["instance_directory"])
            while not all(len(log.read_text().splitlines()) > 2 for log in here.glob("perf-*.log")):
                time.sleep(0.01)
            if params.get("hang"):
                print("hanging", flush=True)
                time.sleep(1000)
            return 1.0
        """)
    )


def monitor_line(log):
    """(process id, command line) that the fake monitor wrote after the header."""
    line = log.read_text().splitlines()[2]
    return int(line.split()[0]), line.split(maxsplit=1)[1]


def wait_until_gone(pid):
    for _ in range(6000):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"monitor {pid} lives on")


def test_monitors_run_beside_the_model_and_end_with_it(run, fake_programs):
    _, directory = run("waits", perf_top=5, perf_nvidia="2", perf_xpu=1.5)
    logs = sorted(directory.glob("perf-*.log"))
    assert [log.name for log in logs] == ["perf-nvidia.log", "perf-top.log", "perf-xpu.log"]
    assert all(log.read_text().startswith("model_runner: start: 20") for log in logs)
    pids, commands = zip(*map(monitor_line, logs), strict=True)
    assert commands == ("nvidia-smi --loop=2", "top -b -d 5", "xpu-smi dump -d -1 -m 0,1,2,5,18 -i 2")
    for pid in pids:
        wait_until_gone(pid)
    first = logs[1].read_text()
    run("waits", perf_top=5)
    assert logs[1].read_text().startswith(first) and len(logs[1].read_text()) > len(first), "appended"


def test_off_missing_or_wrong(run, fake_programs, monkeypatch, capsys):
    _, directory = run("waits", perf_top=0, perf_nvidia="0")
    assert not list(directory.glob("perf-*.log"))
    monkeypatch.setenv("PATH", "/nowhere")
    run("waits", perf_xpu=1)
    assert "there is no program xpu-smi here" in capsys.readouterr().out
    with pytest.raises(RunError, match="perf_top must be a number of seconds"):
        run("waits", perf_top="often")


def test_a_monitor_dies_with_its_killed_process(fake_programs, tmp_path):
    directory = tmp_path / "RUN000"
    directory.mkdir()
    code = "import sys; from model_runner import run_model; run_model(eval(sys.argv[1]))"
    params = {"instance_directory": str(directory), "model_name": "waits", "hang": True, "perf_top": 1}
    with subprocess.Popen([sys.executable, "-c", code, repr(params)], stdout=subprocess.PIPE, text=True) as child:
        while "hanging" not in child.stdout.readline():
            pass
        pid, _ = monitor_line(directory / "perf-top.log")
        os.kill(pid, 0)
        child.send_signal(signal.SIGKILL)
    wait_until_gone(pid)
