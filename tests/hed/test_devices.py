import pytest

from hed.devices import cfg_xpu, choose_device, local_rank


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
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", fake)
    monkeypatch.setenv("PALS_LOCAL_RANKID", "3")
    assert [cfg_xpu(), cfg_xpu()] == ["/XPU:1", "/XPU:1"]
    assert fake.calls == [("/XPU:1", "XPU"), ("/XPU:1", True)]
