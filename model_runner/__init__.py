"""One RUN: parameters, pre module, model, post module, results and performance monitors.

Knows models and RUN directories; knows neither MPI nor the scheduler nor drugs. Importing it loads no model
framework.
"""

from model_runner.check import check, find, with_defaults
from model_runner.compare import compare
from model_runner.results import ModelResult
from model_runner.runner import run_model

__all__ = ["ModelResult", "check", "compare", "find", "run_model", "with_defaults"]
