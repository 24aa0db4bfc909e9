"""Tests that run in every rank of `mpiexec -n 3 python -m pytest --with-mpi tests/mpi`, see jobs/test_ranks.py."""

import sys

collect_ignore_glob = [] if "--with-mpi" in sys.argv else ["test_*.py"]
