"""Checkpoints of a PyTorch model, with the interface of `ckpt.keras`. Imports PyTorch.

    checkpoint = TorchCheckpoint(params, states)
    done = checkpoint.restart(model, optimizer)      # epochs completed before, 0 from scratch
    for epoch in range(done, epochs):
        ...                                          # between batches, where it can go on from one: within_epoch()
        checkpoint.on_epoch_end(epoch, {"val_loss": ...})
    checkpoint.on_train_end()

`states`: learning rate schedulers, a second optimizer, averaged weights, and what else has `state_dict` and
`load_state_dict`. model.h5, as CANDLE calls it with every framework, is what `torch.save(model.state_dict())` writes;
the states of optimizer and PyTorch's generators lie beside it in optimizer.pt.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from model_runner.ckpt import background
from model_runner.ckpt.saver import Saver, Write
from model_runner.ckpt.store import MODEL, log

OPTIMIZER = "optimizer.pt"
TENSOR = "__tensor__"


class TorchCheckpoint(Saver):
    """Saves a model at the end of epochs as the ckpt_* keys of `params` say, and restores it."""

    def restart(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> int:
        """Restore both from the last usable checkpoint.

        Returns the number of completed epochs, 0 where training starts from scratch. CkptError if that is not
        allowed.
        """
        self._model, self._optimizer = model, optimizer
        return self._restore()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None, stopped: bool = False) -> None:
        """Save `epoch` (0-based) if it is due; Interrupted where the RUN is to end and this epoch is not the last.

        `stopped`: training ends with it although there are epochs left.
        """
        self._end_epoch(epoch, logs, stopped)

    def on_train_end(self) -> None:
        """Complete the last save."""
        background.wait()

    def _copy(self, weights_only: bool) -> tuple[Write, dict[str, Any]]:
        files = {MODEL: _copy_to_host(self._model.state_dict())}
        if not weights_only:
            files[OPTIMIZER] = _copy_to_host(self._training_state())

        def write(directory: Path) -> None:
            for name, value in files.items():
                buffer = io.BytesIO()  # for a full disk, torch.save raises no OSError
                torch.save(value, buffer)
                (directory / name).write_bytes(buffer.getbuffer())

        return write, {}

    def _packed(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            flat = value.detach().to("cpu", copy=True).reshape(-1)  # bytes, because NumPy has no bfloat16
            kind = str(value.dtype).removeprefix("torch.")
            return {TENSOR: kind, "shape": list(value.shape), "bytes": flat.view(torch.uint8).numpy()}
        return _changed(value, self._packed)

    def _unpacked(self, value: Any) -> Any:
        if isinstance(value, Mapping) and TENSOR in value:
            flat = torch.from_numpy(value["bytes"].copy())
            return flat.view(getattr(torch, value[TENSOR])).reshape(value["shape"])
        return _changed(value, self._unpacked)

    def _training_state(self) -> dict[str, Any]:
        return {
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _load(self, directory: Path, info: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        weights = torch.load(directory / info.get("model_file", MODEL), map_location="cpu", weights_only=True)
        path = directory / OPTIMIZER
        training = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        before = _copy_to_host([self._model.state_dict(), self._training_state()])
        try:
            self._apply(weights, training)
        except Exception:
            # Half restored is worse than not at all: training from scratch must not begin with these weights.
            self._apply(*before)
            raise
        if training is None:
            log.warning("%s holds weights only: the optimizer begins anew, the result will differ", directory)

    def _apply(self, weights: Mapping[str, Any], training: Mapping[str, Any] | None) -> None:
        self._model.load_state_dict(weights)
        if training is None:
            return
        if self._optimizer is not None and training["optimizer"] is not None:
            self._optimizer.load_state_dict(training["optimizer"])
        torch.set_rng_state(training["cpu"])
        if torch.cuda.is_available() and len(training["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(training["cuda"])


def _copy_to_host(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    return _changed(value, _copy_to_host)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to what it consists of."""
    if isinstance(value, Mapping):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(change(item) for item in value)
    return value
