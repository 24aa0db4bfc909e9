"""Where the modules that scripts and tasks import may be."""

import os

import pytest

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
