"""The errors of parameters, models and modules; checkpoints have one of their own, `ckpt.store.CkptError`."""

from collections.abc import Mapping, Sequence


class RunError(Exception):
    """A RUN cannot go on: a mistake in its parameters, or a failure of its model, pre or post module."""


class DivergedError(RunError):
    """Raised by a model whose training has blown up.

    `history` is what history.txt tells of it: metric -> values per epoch, NaN in the epoch that failed.
    """

    def __init__(self, message: str, history: Mapping[str, Sequence[float]]) -> None:
        super().__init__(message, history)
        self.history = history

    def __str__(self) -> str:
        return str(self.args[0])
