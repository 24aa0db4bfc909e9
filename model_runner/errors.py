"""The one error class of this package."""


class RunError(Exception):
    """A RUN cannot go on: a mistake in its parameters, or a failure of its model, pre or post module."""
