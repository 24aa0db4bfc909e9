"""The programs in examples/, each in a real job."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from job import MPIEXEC

pytestmark = pytest.mark.mpi_job

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(tmp_path, name, *args, procs=4):
    command = [MPIEXEC, "-n", str(procs), sys.executable, "-m", "swiftpy", str(EXAMPLES / name), *map(str, args)]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert not result.stderr
    return result.stdout


def test_every_example_is_here():
    tested = {name for name in globals() if name.startswith("test_")}
    assert {f"test_{path.stem}" for path in EXAMPLES.glob("*.py")} <= tested


def test_foreach_files(tmp_path):
    for name, text in {"a": "one two", "b": "two Two. three", "c": ""}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    lines = run(tmp_path, "foreach_files.py", "*.txt").splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["2", "3", "0"]
    assert lines[3].startswith("most frequent: two (3), ")


def test_reduce_tree(tmp_path):
    estimate = float(run(tmp_path, "reduce_tree.py", 37, 2000).split()[-1])
    assert estimate == pytest.approx(math.pi, abs=0.03)


def test_merge_sort(tmp_path):
    assert run(tmp_path, "merge_sort.py", 60_000).startswith("60000 numbers")


def test_mandelbrot(tmp_path):
    said = run(tmp_path, "mandelbrot.py", "m.pgm", 192)
    data = (tmp_path / "m.pgm").read_bytes()
    header, pixels = data[:15], data[15:]
    assert header == b"P5 192 192 255\n" and len(pixels) == 192 * 192
    assert pixels[96 * 192 + 112] == 0 and pixels[0] > 200  # -0.5 is in the set, the corner is not
    assert " 16." in said or " 17." in said  # its area is 1.507 of 9


def test_sweep(tmp_path):
    first = run(tmp_path, "sweep.py", "sweep", 30, 50)
    assert first.splitlines()[0].startswith("at 20 m/s, 40 degrees are best: 31.2")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*.txt")}
    assert run(tmp_path, "sweep.py", "sweep", 30, 50) == first
    assert len(run(tmp_path, "sweep.py", "sweep", 20, 50).splitlines()) == 3
    assert made.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*.txt")}.items()
    assert len(list((tmp_path / "sweep").glob("*.txt"))) == 12


def test_parallel_task(tmp_path):
    for line in run(tmp_path, "parallel_task.py", 2).splitlines():
        together, alone = (float(word) for word in line.replace(":", " ").split() if word.count(".") == 1)
        assert together == pytest.approx(alone, abs=0.2)


def test_executor(tmp_path):
    lines = run(tmp_path, "executor.py", 100_000, procs=3).splitlines()
    assert len(lines) == 5 and lines[-1] == "5 of 5 blocks: 351 steps from 77031"


def test_async_main(tmp_path):
    lines = run(tmp_path, "async_main.py").splitlines()
    assert lines[0] == "depth 0.0: minimum 0.0000 at 2.0000" and len(lines) == 4
