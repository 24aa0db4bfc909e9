"""Checkpoints of a PyTorch model in a loop of one's own, as a third party would write it."""

import pytest

torch = pytest.importorskip("torch")

from model_runner import interrupt  # noqa: E402
from model_runner.ckpt.torch import TorchCheckpoint  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(64, 5, generator=GENERATOR), torch.randn(64, 1, generator=GENERATOR)
BATCHES = 4


class Position:
    batch = 0

    def state_dict(self):
        return {"batch": self.batch}

    def load_state_dict(self, state):
        self.batch = state["batch"]


def train(directory, epochs, *, size=8, ask_at=None, monkeypatch=None, **keys):
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, size), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(size, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    position = Position()
    keys = {"output_dir": str(directory), "epochs": epochs, **keys}
    checkpoint = TorchCheckpoint(keys, {"scheduler": scheduler, "position": position})
    done = checkpoint.restart(model, optimizer)
    started = (done, position.batch)
    for epoch in range(done, epochs):
        while position.batch < BATCHES:
            if (epoch, position.batch) == ask_at:
                monkeypatch.setattr(interrupt, "_reason", "SIGTERM")
            checkpoint.within_epoch(epoch, position.batch)
            rows = slice(16 * position.batch, 16 * (position.batch + 1))
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(X[rows]), Y[rows]).backward()
            optimizer.step()
            position.batch += 1
        position.batch = 0
        scheduler.step()
        with torch.no_grad():
            checkpoint.on_epoch_end(epoch, {"val_loss": float(torch.nn.functional.mse_loss(model(X), Y))})
    checkpoint.on_train_end()
    return model, checkpoint.history, started


def test_states_come_back_as_they_were(tmp_path):
    """Keys that are numbers, tensors of any type, and a module's weights, which training changes in place."""
    model = torch.nn.Linear(2, 1)
    second = torch.optim.Adam(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(second, [2])
    average = torch.nn.Linear(2, 1).to(torch.bfloat16)
    states = {"second": second, "schedule": schedule, "average": average}
    checkpoint = TorchCheckpoint({"output_dir": str(tmp_path), "epochs": 1}, states)
    assert checkpoint.restart(model) == 0
    model(torch.ones(2)).backward()
    second.step()
    schedule.step()
    checkpoint.on_epoch_end(0, {"val_loss": 0.5})
    weight, moments = average.weight.detach().clone(), second.state_dict()["state"]
    with torch.no_grad():
        average.weight.zero_()
    checkpoint.on_train_end()

    again = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(again.parameters(), 0.01)
    later = torch.optim.lr_scheduler.MultiStepLR(optimizer, [7])
    states = {"second": optimizer, "schedule": later, "average": average}
    assert TorchCheckpoint({"output_dir": str(tmp_path), "epochs": 2}, states).restart(again) == 1
    assert torch.equal(average.weight, weight)
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moments[0]["exp_avg"])
    optimizer.step()
    later.step()
    assert later.get_last_lr() == [pytest.approx(0.001)], "the milestone"


def test_a_state_that_does_not_load_leaves_all_as_it_was(tmp_path):
    class Broken(Position):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if state["batch"]:
                raise KeyError("of another version")

    def start(*, batch, broken):
        torch.manual_seed(1)
        model, average, position = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1), broken()
        position.batch = batch
        states = {"average": average, "position": position}
        checkpoint = TorchCheckpoint({"output_dir": str(tmp_path), "epochs": 1}, states)
        return model, average, position, checkpoint, checkpoint.restart(model)

    model, average, position, checkpoint, _ = start(batch=3, broken=Position)
    for module in (model, average):
        torch.nn.init.zeros_(module.weight)
    checkpoint.on_epoch_end(0, {"val_loss": 0.5})
    checkpoint.on_train_end()
    model, average, position, _, done = start(batch=0, broken=Broken)
    assert (done, position.batch) == (0, 0)
    assert all(bool(module.weight.any()) for module in (model, average)), "not those of the checkpoint"


def assert_same(a, b):
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_resumed_training_gives_the_same_bits(tmp_path, monkeypatch):
    straight, history, _ = train(tmp_path / "a", 6)
    train(tmp_path / "b", 2)
    with pytest.raises(interrupt.Interrupted):
        train(tmp_path / "b", 6, ask_at=(3, 2), monkeypatch=monkeypatch)
    monkeypatch.setattr(interrupt, "_reason", None)
    resumed, resumed_history, started = train(tmp_path / "b", 6)
    assert started == (3, 2)
    assert_same(straight, resumed)
    assert resumed_history == history


@pytest.mark.parametrize("file", ["model.h5", "optimizer.pt", "state.npz"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_damaged_file_falls_back_to_the_epoch_before(tmp_path, file, torn):
    train(tmp_path, 2)
    path = tmp_path / "ckpts/epochs/002" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data[:-200] if torn else data)
    assert train(tmp_path, 2)[2] == (1, 0)


def test_the_checkpoint_of_another_network_leaves_the_model_as_it_was(tmp_path):
    straight, *_ = train(tmp_path / "a", 1, size=9)
    train(tmp_path / "b", 1)
    other, _, started = train(tmp_path / "b", 1, size=9)
    assert started == (0, 0)
    assert_same(straight, other)
