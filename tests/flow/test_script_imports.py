"""Where the modules that scripts and tasks import may be."""

import os
import subprocess
import sys

import pytest

from job import MPIEXEC
from test_programs import passes

pytestmark = pytest.mark.mpi_job


@pytest.mark.parametrize("safe", ["", "1"])
def test_beside_the_script_and_on_the_users_own_path(tmp_path, monkeypatch, safe):
    """With PYTHONSAFEPATH the first of PYTHONPATH was lost: ModuleNotFoundError, on rank 0 and on workers."""
    for name in ("beside", "own/on_the_path"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").touch()
    path = [str(tmp_path / "own"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    passes(
        tmp_path,
        """
        import beside, on_the_path

        @swiftpy.task
        def imports(): import beside, on_the_path
        @swiftpy.task(isolated=True)
        def imports_there(): import beside, on_the_path

        swiftpy.gather([imports(), imports_there()])
        """,
    )


def test_not_what_has_the_same_name_in_the_current_directory(tmp_path):
    """Isolated tasks called the function of that."""
    (tmp_path / "scripts").mkdir()
    for directory in (tmp_path, tmp_path / "scripts"):
        (directory / "helpers.py").write_text(f"def where():\n    return {str(directory)!r}\n")
    (tmp_path / "scripts" / "program.py").write_text(
        "import swiftpy, helpers\n"
        "tasks = [swiftpy.task(helpers.where, isolated=isolated)() for isolated in (False, True)]\n"
        "assert swiftpy.gather(tasks) == [helpers.where()] * 2, swiftpy.gather(tasks)\n"
    )
    command = [MPIEXEC, "-n", "2", sys.executable, "-m", "swiftpy", "scripts/program.py"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stderr
