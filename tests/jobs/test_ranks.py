"""Runs tests/mpi under mpiexec."""

import re
import subprocess
import sys
from pathlib import Path

from job import MPIEXEC


def test_tests_that_run_in_every_rank():
    folder = Path(__file__).parents[1] / "mpi"
    command = [MPIEXEC, "-n", "3", sys.executable, "-m", "pytest", "--with-mpi", "-p", "no:cacheprovider", folder]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"\d+ passed", result.stdout)) == 3 and "failed" not in result.stdout, result.stdout
