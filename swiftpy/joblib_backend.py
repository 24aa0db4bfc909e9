"""joblib on workers: `swiftpy.register_joblib()`, then `with joblib.parallel_config(backend="swiftpy"):`.

scikit-learn's `n_jobs` runs there, too. In a job (`mpiexec -n PROCS python -m swiftpy SCRIPT`) the calls go to its
workers; a script that is run by itself starts a job with the first `Parallel`, and keeps it for those that follow.
"""

from __future__ import annotations

import multiprocessing
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import joblib
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from swiftpy.executor import Executor
from swiftpy.flow import program
from swiftpy.flow.engine import Engine

#: What the process' executor was made with, and itself.
_kept: tuple[Any, Executor] | None = None


def register_joblib() -> None:
    """Make the backend "swiftpy" known to joblib."""
    joblib.register_parallel_backend("swiftpy", SwiftpyBackend)


class SwiftpyBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """See the module, and joblib's `ParallelBackendBase` for what the methods promise.

    Calls in calls (nested `Parallel`) run in threads of the worker, and below that in sequence, as with joblib's own.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """For how many workers joblib submits batches; by default it submits two for each at a time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or multiprocessing.current_process().daemon:  # a forked process has no way to the workers
            return 1
        running = program.current()
        most = running.workers if isinstance(running, Engine) else joblib.cpu_count()
        return n_jobs if n_jobs > 0 else max(most + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        **others: Any,
    ) -> int:
        """Get ready for a call of `Parallel`. Other options are for joblib's own backends: how they share memory."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        own = getattr(self, "backend_kwargs", {})  # joblib 1.4 has none
        initializer, initargs = initializer or own.get("initializer"), initargs or own.get("initargs", ())
        self._executor = _executor(n_jobs, (self._prepare_worker_env(n_jobs), initializer, initargs))
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        """Schedule a batch of calls."""
        future = self._executor.submit(func)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch."""
        return out.result()

    def terminate(self) -> None:
        """The call of `Parallel` is over. The workers stay."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Begin nothing more, and end what runs if that is possible, see `Executor.kill_workers`."""
        for future in list(self._futures):
            future.cancel()
        if program.current() is None and not all(future.done() for future in list(self._futures)):
            self._executor.kill_workers()
            if ensure_ready:
                self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)


def _executor(workers: int, set_up: tuple[Any, ...]) -> Executor:
    """The process' executor for so many workers: that of the call before, if that wanted the same."""
    global _kept
    wanted = (workers, set_up)
    if _kept is None or _kept[0] != wanted or not _kept[1].usable:
        if _kept is not None:
            _kept[1].shutdown(wait=False)
        _kept = wanted, Executor(workers, initializer=_set_up, initargs=set_up)
    return _kept[1]


def _set_up(environment: dict[str, str], initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
    """What a worker process does first: limit the threads of numerical libraries, which read this when they load."""
    os.environ.update(environment)
    if initializer is not None:
        initializer(*initargs)
