"""`swiftpy.Executor`: the interface of `concurrent.futures` (PEP 3148), for functions that run on workers."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import functools
import itertools
import logging
import os
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as StandardFuture
from typing import TYPE_CHECKING, Any, overload

import cloudpickle

from swiftpy.core.task import Kind
from swiftpy.errors import TaskError
from swiftpy.executor_calls import ByValue, Initialized, Initializer, InitializerError, call, call_by_value, call_each
from swiftpy.flow import program
from swiftpy.flow.functions import Function, is_found
from swiftpy.flow.future import Future
from swiftpy.own_job import OwnJob

if TYPE_CHECKING:
    from swiftpy.flow.engine import Engine
    from swiftpy.flow.nested import NestedEngine
    from swiftpy.flow.tasks import P, R

#: Kinds of TaskError that say that the workers are gone.
_NO_WORKERS = frozenset(("lost", "rejected", "interrupted"))
#: Seconds.
MOMENT = 0.01
_jobs: weakref.WeakSet[OwnJob] = weakref.WeakSet()


class Executor(concurrent.futures.Executor):
    """Runs calls on the workers of the job; in a script that is run without mpiexec, on those of a job that it starts.

    `max_workers` is how many workers such a job gets, by default one for each core; a job that runs already has the
    workers that it has. `initializer(*initargs)` is called in each worker process before the first call there. If it
    raises, the executor is broken: what is pending, and what is submitted later, raises BrokenExecutor. So does
    everything when the job dies. Functions need not be importable, see docs/executor.md.

    Raises UserError if there is no mpiexec to start a job with.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._initializer = None if initializer is None else Initializer(initializer, initargs)
        self._key = None if self._initializer is None else self._initializer.key
        self._lock = threading.Lock()
        self._closed = False
        self._pending: weakref.WeakSet[Future] = weakref.WeakSet()
        self._described: weakref.WeakKeyDictionary[Any, tuple[Kind, Function]] = weakref.WeakKeyDictionary()
        self._job: OwnJob | None = None
        running = program.current()
        if running is None:
            running = self._job = OwnJob(max_workers or len(os.sched_getaffinity(0)))
            weakref.finalize(self, self._job.end)
            _jobs.add(self._job)
        self._engine: Engine | NestedEngine = running
        self._fate = _Fate(self._pending, self._lock, self._job)

    # No `Promise`: `calls[future]`, with a future that the standard library's `as_completed` gives, would be an error.
    @overload
    def submit(
        self, fn: Callable[..., R], first: StandardFuture[Any], /, *args: Any, **kwargs: Any
    ) -> StandardFuture[R]: ...
    @overload
    def submit(
        self, fn: Callable[..., R], first: Any, second: StandardFuture[Any], /, *args: Any, **kwargs: Any
    ) -> StandardFuture[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> StandardFuture[R]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StandardFuture[Any]:
        """See `concurrent.futures.Executor`."""
        if isinstance(fn, ByValue) or not is_found(fn):
            fn, args = self._sent(fn, args)
        kind, function = self._describe(fn)
        future = Future()
        future.asked = True  # a failure that nobody asks for is no failure of the program
        future.may_be_held = False  # its job may end before that is asked for
        future.translate = self._fate.translate
        with self._lock:
            if (broken := self._broken) is not None:
                raise BrokenExecutor(broken)
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.add(future)
            return self._engine.submit(kind, function, args, kwargs, future)

    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """See `concurrent.futures.Executor`: all calls are submitted at once, in chunks of `chunksize`.

        Small calls travel together in any case; chunks save the rest of what a future costs.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if type(fn) is types.FunctionType and not is_found(fn):
            fn = ByValue(cloudpickle.dumps(fn), self._key)
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        calls = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        return _flat(super().map(functools.partial(call_each, fn, self._key), chunks, timeout=timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
        with self._lock:
            self._closed = True
            pending = list(self._pending)
        if cancel_futures:
            if pending and not self._broken:  # what can begin at once does: calls are handed over with a delay
                self._engine.wait_for(pending[0], MOMENT)
            for future in pending:
                future.cancel()
        if self._job is not None:
            self._job.end()
            if wait:
                self._job.join()
        elif wait:
            for future in pending:
                if not future.done():
                    self._engine.wait_for(future)

    def kill_workers(self) -> None:
        """End the executor and what it runs now, as that of ProcessPoolExecutor in Python 3.14 does.

        In a job that it shares with others, what has begun goes on to its end.
        """
        self.shutdown(wait=False, cancel_futures=True)
        if self._job is not None:
            self._job.kill()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()  # who presses Ctrl-C does not mean: when all is done
        self.shutdown()

    @property
    def usable(self) -> bool:
        """Whether calls can be submitted."""
        return not self._closed and self._broken is None

    @property
    def _broken(self) -> str | None:
        return self._fate.broken or (None if self._job is None else self._job.lost)

    def _sent(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What is called in the place of a function that workers cannot find, and with what."""
        if isinstance(fn, ByValue):
            return call_by_value, (fn.definition, fn.key, *args)
        if type(fn) is types.FunctionType:
            return call_by_value, (cloudpickle.dumps(fn), self._key, *args)
        return call, (fn, self._key, *args)

    def _describe(self, fn: Callable[..., Any]) -> tuple[Kind, Function]:
        """What the engine is told of a function that can be found again."""
        described = self._described.get(fn)
        if described is None:
            target = fn if self._initializer is None else Initialized(self._initializer, fn)
            function = self._engine.functions.find(target)
            described = self._described[fn] = Kind(function.name), function
        return described


class _Fate:
    """What becomes of an executor, and of its futures that fail. Futures know it, and not the executor itself: that
    shall end when the program has forgotten it, though not its results."""

    def __init__(self, pending: weakref.WeakSet[Future], lock: threading.Lock, job: OwnJob | None) -> None:
        self.broken: str | None = None
        self._pending, self._lock, self._job = pending, lock, job

    def translate(self, error: BaseException) -> BaseException:
        """What a future raises that failed so: what the function raised, or that the executor is broken."""
        if not isinstance(error, TaskError):
            return error
        exception = _raised(error)
        if isinstance(exception, InitializerError):
            if self.broken is None:
                logging.getLogger("concurrent.futures").critical("exception in initializer:\n%s", error.traceback)
                self.broken = str(exception)
                # Not here, where the engine is at work: their callbacks may do anything.
                threading.Thread(target=self._give_up, daemon=True).start()
            exception = BrokenExecutor(self.broken)
        elif error.kind in _NO_WORKERS:
            self.broken = self.broken or (self._job and self._job.lost) or error.message
            exception = BrokenExecutor(self.broken)
        exception.__cause__ = error if exception is not error else None
        return exception

    def _give_up(self) -> None:
        with self._lock:
            pending = list(self._pending)
        for future in pending:
            if not (future.done() or future.running()) and future.settle(None, BrokenExecutor(self.broken)):
                future.tell()


def _raised(error: TaskError) -> BaseException:
    """The exception that a task raised; the error itself if it cannot be sent."""
    if error.exception:
        with contextlib.suppress(Exception):
            exception: BaseException = pickle.loads(error.exception)
            return exception
    return error


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:  # a result that was handed out is forgotten
            yield chunk.pop()


# -- at the end ------------------------------------------------------------------------------------------------


def _leave_jobs() -> None:
    """In a process that was forked: they are the parent's."""
    for job in list(_jobs):
        job.leave()
    _jobs.clear()


os.register_at_fork(after_in_child=_leave_jobs)


@atexit.register
def _end_jobs() -> None:
    """What was submitted is done before the program ends, unless that ends by Ctrl-C."""
    for job in list(_jobs):
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            job.kill()
        job.end()
        job.join()
