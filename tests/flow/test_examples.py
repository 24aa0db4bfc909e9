"""The programs in examples/ do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from job import MPIEXEC

pytestmark = pytest.mark.mpi_job

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "async_main.py": ([], r"depth 8\.0: minimum -4\.\d+ at 3\.\d+"),
    "executor.py": (["40000"], r"2 of 2 blocks: 324 steps from 35655"),
    "foreach_files.py": (["*.txt"], r"most frequent: (?=.*tasks \(3\))"),
    "mandelbrot.py": (["picture.pgm", "128"], r"128 x 128 points, 1\d\.\d% of them in the set"),
    "merge_sort.py": (["20000"], r"20000 numbers from 0\.000\d+ to 0\.999\d+"),
    "parallel_task.py": (["3"], r"length 48: (0\.\d+) on 3 ranks, \1 on one"),
    "reduce_tree.py": (["16", "20000"], r"pi is about 3\.1[34]"),
    "sweep.py": (["sweep", "20", "60"], r"at 80 m/s, \d0 degrees are best: \d+\.\d m"),
}


def test_each_is_here():
    assert set(SAID) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SAID)
def test_example(name, tmp_path):
    arguments, said = SAID[name]
    (tmp_path / "a.txt").write_text("Tasks and tasks.")
    (tmp_path / "b.txt").write_text("More tasks")
    command = [MPIEXEC, "-n", "4", sys.executable, "-m", "swiftpy", str(EXAMPLES / name), *arguments]
    for _ in range(2 if name == "sweep.py" else 1):  # which goes on with what is there
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(said, result.stdout), result.stdout
    if name == "mandelbrot.py":
        assert (tmp_path / "picture.pgm").read_bytes().startswith(b"P5 128 128 255\n")
