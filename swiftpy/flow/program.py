"""Where this process submits tasks to: the program on rank 0 to the engine, a task on a worker by way of rank 0."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

from swiftpy.errors import TaskError

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    from swiftpy.flow.engine import Engine
    from swiftpy.flow.future import Future, Promise, T
    from swiftpy.flow.nested import NestedEngine

    Args = TypeVarTuple("Args")

_engine: Engine | NestedEngine | None = None


def begin(engine: Engine | NestedEngine) -> None:
    """From now on tasks are submitted here."""
    global _engine
    _engine = engine


def current() -> Engine | NestedEngine | None:
    """Where tasks are submitted to, if this is a job."""
    return _engine


def engine() -> Engine | NestedEngine:
    """Where tasks are submitted to. Raises RuntimeError outside of a job."""
    if _engine is None:
        raise RuntimeError(
            "no tasks can be submitted here: start the script with mpiexec -n PROCS python -m swiftpy SCRIPT"
            " (and isolated tasks cannot submit any)"
        )
    return _engine


@overload
def run(main: Callable[[Unpack[Args]], Coroutine[Any, Any, T]], *args: Unpack[Args], on_error: str = "stop") -> T: ...
@overload
def run(main: Callable[[Unpack[Args]], T], *args: Unpack[Args], on_error: str = "stop") -> T: ...
def run(main: Callable[[Unpack[Args]], Any], *args: Unpack[Args], on_error: str = "stop") -> Any:
    """Call `main(*args)`, or run it if it is a coroutine function, and wait for all tasks; what it returned.

    With `on_error="stop"` the first task that fails ends the program, even if `main` catches its TaskError: what has
    not begun is cancelled, and the TaskError is raised here. With "continue" a failure costs only what needs the
    result. Raises what `main` raises, Deadlock if tasks can never run, KeyboardInterrupt if a signal ends the job.
    """
    if on_error not in ("stop", "continue"):
        raise ValueError(f'on_error is "stop" or "continue", not {on_error!r}')
    from swiftpy.flow.engine import Engine

    running = engine()
    if not isinstance(running, Engine):
        raise RuntimeError("run() is for the program, not for its tasks")
    running.failures.stop_on_error = on_error == "stop"
    try:
        if inspect.iscoroutinefunction(main):
            import asyncio  # a fifth of what we import, and few need it

            value = asyncio.run(main(*args))
        else:
            value = main(*args)
        running.wait_for_all()
        if running.failures.culprit is not None:  # and `main` did without it
            raise running.failures.culprit
    except (KeyboardInterrupt, TaskError):
        if running.failures.culprit is None:
            raise
        raise running.failures.culprit from None
    finally:
        running.failures.stop_on_error = False
    return value


def wait(futures: Iterable[Future], timeout: float | None = None) -> bool:
    """Wait until all futures are done, however they end; False if that took longer than `timeout` seconds."""
    waiting = iter(list(futures))
    current: Future | None = next(waiting, None)

    def all_done() -> bool:
        nonlocal current
        while current is not None and current.done():
            current = next(waiting, None)
        return current is None

    if not all_done():
        engine().drive(all_done, timeout)
    return all_done()


def gather(futures: Iterable[Promise[T]]) -> list[T]:
    """The results of all futures, in their order. Raises what the first that failed raises."""
    futures = list(futures)
    wait(futures)
    far = [future for future in futures if future.elsewhere is not None]
    failed = [future for future in futures if not future.good()]
    for future in failed:
        future.ask()
    if far and not failed:
        engine().request(far)
    return [future.result() for future in futures]


def as_completed(futures: Iterable[Promise[T]]) -> Iterator[Promise[T]]:
    """The futures as they are done."""
    done: deque[Promise[T]] = deque()
    count = 0
    for future in set(futures):
        count += 1
        future.add_done_callback(done.append)
    while count:
        if not done:
            engine().drive(lambda: bool(done))
        count -= 1
        yield done.popleft()
