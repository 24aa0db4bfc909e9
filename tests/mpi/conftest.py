"""Tests that run in every rank of `mpiexec -n 3 python -m pytest --with-mpi tests/mpi`, see jobs/test_ranks.py."""

import sys
from pathlib import Path

import pytest

collect_ignore_glob = [] if "--with-mpi" in sys.argv else ["test_*.py"]


@pytest.fixture(scope="session")
def world():
    from swiftpy.runtime.mpi import World

    return World()


@pytest.fixture
def shared(world, tmp_path_factory):
    """One directory for all ranks, and in it one for each that stands for its node's own disk."""
    root = Path(world.broadcast(str(tmp_path_factory.mktemp("job")) if world.rank == 0 else None))
    (root / f"node{world.rank}").mkdir()
    world.gather(None)
    return root
