"""Runs tests/mpi under mpiexec."""

import os
import re
import subprocess
import sys
from pathlib import Path

from job import MPIEXEC


def test_tests_that_run_in_every_rank(tmp_path):
    """In a directory of their own: at its end, pytest removes what earlier sessions left in the common one."""
    folder = Path(__file__).parents[1] / "mpi"
    command = [MPIEXEC, "-n", "3", sys.executable, "-m", "pytest", "--with-mpi", "-p", "no:cacheprovider", folder]
    env = os.environ | {"PYTEST_DEBUG_TEMPROOT": str(tmp_path)}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"\d+ passed", result.stdout)) == 3 and "failed" not in result.stdout, result.stdout
