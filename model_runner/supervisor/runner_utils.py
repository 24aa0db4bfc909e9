"""Where pre and post modules that were written for CANDLE Supervisor look for ModelResult."""

from model_runner.results import ModelResult

__all__ = ["ModelResult"]
