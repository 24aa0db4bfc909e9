"""joblib's own tests of backends, from the installed joblib, with ours in the place of its default, "loky".

    mpiexec -n 5 python -m swiftpy joblib_suite.py       # in a job
    python joblib_suite.py                               # in jobs of its own: the tests that end running calls

Left out are
- tests that start a program of their own: it would be started inside a job;
- those that look at loky's or multiprocessing's processes, pools, memory maps and start methods (among them
  error_capture), that compare the backend's class with joblib's, and that mix two process backends;
- multiple_generator_call_separated_gc, which wants two calls at once to fail, as they do with loky;
- abort_backend and the other tests of initializers and time limits, for the sake of time: each starts several jobs.
"""

import os
import sys
from pathlib import Path

import joblib
import pytest

from swiftpy.flow import program
from swiftpy.joblib_backend import SwiftpyBackend

joblib.register_parallel_backend("loky", SwiftpyBackend)

IN_JOB = """
    simple_parallel main_thread_renamed_no_warning background_thread_parallelism parallel_as_context_manager
    parallel_timeout_success error_in_task_iterator dispatch_one_job nested_exception_dispatch
    invalid_njobs njobs_converted_to_int deadlock_with_generator multiple_generator_call multiple_generator_call_managed
    multiple_generator_call_separated lambda_expression backend_batch_statistics_reset nested_loop
    globals_update_at_each_parallel_call dispatch_race_condition
""".split()
#: The first line: they leave calls behind that take 10 s and more; the second: a `multiprocessing.Manager` serves only
#: processes that know the key of the one that started it.
IN_OWN_JOBS = """
    parallel_timeout_fail parallel_unordered_generator_returns_fastest_first
    dispatch_multiprocessing
""".split()


class Selection:
    """Of the generic tests, those that run with the backend that is now ours, and with no other process backend."""

    def __init__(self):
        self.names = {f"test_{name}" for name in (IN_OWN_JOBS if program.current() is None else IN_JOB)}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.originalname in self.names and self.is_ours(item)]

    def is_ours(self, item):
        values = [str(value) for value in item.callspec.params.values()] if hasattr(item, "callspec") else ["loky"]
        return any("loky" in value or "Swiftpy" in value for value in values) and "multiprocessing" not in values


if __name__ == "__main__":
    path = Path(joblib.__file__).parent / "test" / "test_parallel.py"
    # No configuration: with a .venv in the project, joblib's tests would be subject to the project's.
    options = [
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faulthandler",
        "--durations=8",
        "--tb=short",
        *sys.argv[1:],
    ]
    sys.exit(pytest.main([str(path), *options], plugins=[Selection()]))
