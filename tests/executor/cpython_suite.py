"""CPython's own tests of executors, from the running interpreter's `test` package, with our executor.

    mpiexec -n 6 python -m swiftpy cpython_suite.py       # as clients of one job
    python cpython_suite.py                               # a job for each executor: fewer tests, for they take longer

Exits with 77 if this Python comes without those tests, which some distributions pack apart. Only how an executor is
made is adapted. Left out are

- in a job, the tests that end an interpreter, which would end the job: they run in the second way;
- in the second way, all but those in which jobs begin, end and fail, for the sake of time;
- tests that CPython marks as slow ("walltime"), as its own test runner does unless it is asked for them;
- all tests of CPython's classes for its own two executors (ThreadPool..., ProcessPool...): they look at threads,
  processes, queues and start methods. What they say of chunks, tracebacks and killed workers is in test_executor.py.
"""

import importlib
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

import swiftpy
from swiftpy.flow import program

PACKAGE = "test.test_concurrent_futures"
MODULES = ("util", "executor", "test_init", "test_shutdown", "test_wait", "test_as_completed")
ENDS_AN_INTERPRETER = {"test_interpreter_shutdown", "test_submit_after_interpreter_shutdown", "test_hang_gh83386"}
IN_OWN_JOBS = ENDS_AN_INTERPRETER | {
    "test_initializer",
    "test_no_stale_references",
    "test_cancel_futures",
    "test_hang_gh94440",
}


def load():
    """Everything in CPython's tests: one module up to Python 3.11, and then several."""
    importlib.import_module("test.support").use_resources = []
    whole = importlib.import_module(PACKAGE)
    modules = [importlib.import_module(f"{PACKAGE}.{name}") for name in MODULES] if hasattr(whole, "__path__") else []
    return SimpleNamespace(modules=modules or [whole], **{k: v for m in [whole, *modules] for k, v in vars(m).items()})


def cases(cpython, in_job):
    class Ours(cpython.ExecutorMixin):
        executor_type = swiftpy.Executor
        if not in_job:
            worker_count = 2

        def setUp(self):
            super().setUp()
            if not in_job and not self.executor_kwargs:
                self.executor.submit(int).result()  # the job is up: the tests assume that calls begin at once

    # The order of the bases is that of CPython's classes; where a mixin brings its own set-up, ours comes below it.
    yield type("ExecutorTest", (Ours, cpython.ExecutorTest, cpython.BaseTestCase), {})
    yield type("ShutdownTest", (Ours, cpython.ExecutorShutdownTest, cpython.BaseTestCase), {})
    yield type("WaitTest", (Ours, cpython.WaitTests, cpython.BaseTestCase), {})
    yield type("AsCompletedTest", (Ours, cpython.AsCompletedTests, cpython.BaseTestCase), {})
    for mixin in (cpython.InitializerMixin, cpython.FailingInitializerMixin):
        attributes = {"executor_type": swiftpy.Executor}
        yield type(mixin.__name__.replace("Mixin", "Test"), (mixin, Ours, cpython.BaseTestCase), attributes)


def our_scripts(module):
    """Let the scripts of tests that end an interpreter import our executor."""
    run = module.assert_python_ok

    def assert_python_ok(*arguments, **environment):
        return run(
            *(a.replace("from concurrent.futures import", "from swiftpy import") for a in arguments), **environment
        )

    return mock.patch.object(module, "assert_python_ok", assert_python_ok)


def main():
    try:
        cpython = load()
    except ImportError as error:
        print(f"this Python has no {error.name}")
        return 77
    in_job = program.current() is not None
    suite = unittest.TestSuite()
    for case in cases(cpython, in_job):
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            name = test._testMethodName
            if name not in ENDS_AN_INTERPRETER if in_job else name in IN_OWN_JOBS:
                suite.addTest(test)
    home = next(module for module in cpython.modules if hasattr(module, "assert_python_ok"))
    with our_scripts(home):
        return not unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite).wasSuccessful()


if __name__ == "__main__":
    sys.exit(main())
