import os
import subprocess
import sys

import pytest

from hed.devices import cfg_xpu, choose_device, cores, local_rank


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"PALS_LOCAL_RANKID": "7"}, 7),
        ({"MPI_LOCALRANKID": "3", "SLURM_LOCALID": "0"}, 3),
        ({"SLURM_LOCALID": "2"}, 2),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "x", "SLURM_LOCALID": "4"}, 4),
    ],
)
def test_local_rank(environment, rank):
    assert local_rank(environment) == rank


def test_device_of_a_rank():
    ranks = [{"PALS_LOCAL_RANKID": str(rank)} for rank in range(12)]
    assert [choose_device(12, rank) for rank in ranks] == list(range(12))
    assert [choose_device(6, rank) for rank in ranks] == [*range(6), *range(6)]
    assert {choose_device(1, rank) for rank in ranks} == {0}  # an affinity mask has left one
    assert choose_device(0, ranks[3]) is None


def test_cores_of_a_worker():
    assert cores({"SWIFTPY_CORES": "3"}) == 3
    assert cores({"SWIFTPY_CORES": "0"}) == 1
    assert cores({}) == len(os.sched_getaffinity(0))


THREADS = """
import os, sys
os.environ.update(eval(sys.argv[1]))
from hed.devices import cfg_threads, threads_in_use
print(cfg_threads())
import tensorflow as tf
tf.constant(1.0) + 1
os.environ["SWIFTPY_CORES"] = "7"
print(cfg_threads(), threads_in_use())
"""


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({"SWIFTPY_CORES": "3"}, 3), ({"SWIFTPY_CORES": "3", "TF_NUM_INTRAOP_THREADS": "5"}, 5)],
)
def test_threads_are_the_workers_cores_unless_the_user_says_so(environment, threads):
    """And stay as they are once TensorFlow computes."""
    pytest.importorskip("tensorflow")
    command = [sys.executable, "-c", THREADS, repr(environment)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(threads)] * 3


class FakeTensorFlow:
    """`tf.config` with two XPUs, which cannot be changed once they are in use."""

    def __init__(self):
        self.config = self.experimental = self
        self.calls = []
        self.initialized = False

    def list_physical_devices(self, kind):
        return [type("Device", (), {"name": f"/{kind}:{n}"}) for n in range(2 if kind == "XPU" else 0)]

    def set_visible_devices(self, device, kind):
        if self.initialized:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        self.calls.append((device.name, kind))

    def set_memory_growth(self, device, enable):
        self.calls.append((device.name, enable))
        self.initialized = True


def test_the_second_run_of_a_process_keeps_the_device(monkeypatch):
    fake = FakeTensorFlow()
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    monkeypatch.setenv("PALS_LOCAL_RANKID", "3")
    assert [cfg_xpu(), cfg_xpu()] == ["/XPU:1", "/XPU:1"]
    assert fake.calls == [("/XPU:1", "XPU"), ("/XPU:1", True)]


def test_a_model_that_needs_no_tensorflow_runs_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert cfg_xpu() is None
