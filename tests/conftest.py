"""Makes the helpers that lie beside the tests (simulator, job, reference) importable."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from swiftpy.sites.site import NAMES

for folder in ("", "core", "jobs", "sites"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

# Who runs the tests may have set up an EXP in this shell, or be in an allocation: tests say themselves what is set.
THEIRS = ("SWIFTPY", "TMP_ORIGINAL", "SOFTWARE_", "SLURM_", "PBS_", "FLUX_")
for name in [name for name in os.environ if name in (*NAMES, "COLUMNS") or name.startswith(THEIRS)]:
    del os.environ[name]
os.umask(0o022)  # with 077, say, the user in whose name some tests run programs may not read the tests' files

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in the background of a shell script, and in all that tests start there, some of which they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The host of a virtual machine takes it away for seconds; hypothesis would say of what it hit that it is too slow.
settings.register_profile("no hurry", deadline=None)
settings.load_profile("no hurry")


def pytest_collection_modifyitems(items):
    """`./run-tests` has two processes: a file's tests share one, and so do all jobs in tests/jobs."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("jobs" if item.path.parent.name == "jobs" else item.path.name))


def pytest_collection_finish():
    """What was imported by now, TensorFlow and torch, is no garbage: to walk over it takes half a second each time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_shared_memory_left():
    """Jobs that tests kill leave MPICH's shared memory behind; only the launcher removes it."""
    yield
    from swiftpy.sites.launch import remove_segments

    remove_segments(older_than=5.0)
