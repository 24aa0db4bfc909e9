"""The error of parameters, models and modules; checkpoints have one of their own, `ckpt.store.CkptError`."""


class RunError(Exception):
    """A RUN cannot go on: a mistake in its parameters, or a failure of its model, pre or post module."""
