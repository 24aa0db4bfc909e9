"""`app`: an external command as a task, with the files that it reads and makes as dependencies."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftpy.flow.command import Made, run_command
from swiftpy.flow.future import Future, Promise
from swiftpy.flow.tasks import TaskFunction

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from swiftpy.flow.tasks import Options

    _AnyPath = Any  # to a type checker it goes for the path that other calls get, see `Promise`
else:
    _AnyPath = object


@dataclass(eq=False)
class Output(_AnyPath):  # type: ignore[misc]
    """A file that a command makes. In the command that makes it, the first to be given it, it stands for a temporary
    name, which is renamed when the command has succeeded; everything else that is given it waits, and gets its path.

    `prefix` is text before the name, in the argument of the command that makes it: `Output("q.txt", prefix="--out=")`.
    """

    path: str | os.PathLike[str]
    made_by: Future | None = None
    prefix: str = ""

    if TYPE_CHECKING:  # which would take any arguments, because of Any

        def __init__(self, path: str | os.PathLike[str], made_by: Future | None = None, prefix: str = "") -> None: ...

    def __str__(self) -> str:
        path = os.fspath(self.path)
        raise TypeError(f"an Output is an argument by itself, no part of a text; use Output({path!r}, prefix='--out=')")

    def __format__(self, spec: str) -> str:
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.made_by is None:
            raise TypeError(f"no command makes {os.fspath(self.path)}: an Output is first given to swiftpy.app")
        return Path, (os.fspath(self.path),)


def app(
    argv: Iterable[Any],
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: str | os.PathLike[str] | None = None,
    inputs: Iterable[Any] = (),
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    **options: Unpack[Options],
) -> Promise:
    """Run a command on a worker; the future of the Path that it makes: a list of them if several, None if none.

    `argv` are the command and its arguments, no shell between: strings, numbers, paths, `Output`s, futures of such or
    of lists of such. `stdin`, `stdout`, `stderr` are files; without, a command has no input, and what it prints goes
    where the worker's prints go. `inputs`: further files that must be there, and futures to wait for. Files that it
    makes (`stdout` and every `Output`) get their names when the command has succeeded, so that one that fails or is
    killed leaves none; their directories are made. `cwd`: where it runs; made if it does not exist; all paths, other
    than strings in `argv`, stay relative to where the job was started. `env` is added to its environment. `options`:
    those of `task`, except `isolated` and `ranks`. An exit code other than 0 fails the task, see `CommandError`.
    """
    for name, several in (("the command", argv), ("inputs", inputs)):
        if isinstance(several, str | os.PathLike):
            raise TypeError(f"{name} must be a list, not {several!r}: no shell takes it apart")
    if isinstance(stderr, Output):
        raise TypeError(f"stderr must be a path, {stderr.path}: it is there while the command runs, and if it fails")
    outputs: list[Output] = []

    def made(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [made(element) for element in value]
        if isinstance(value, Output) and value.made_by is None:
            outputs.append(value)
            return Made(os.fspath(value.path), value.prefix)
        return value

    words = [made(word) for word in argv]
    if not words:
        raise ValueError("swiftpy.app needs a command")
    if isinstance(stdout, Output):
        if stdout.made_by is not None:
            raise ValueError(f"stdout must be a file of the command's own: another one makes {stdout.path}")
        if stdout.prefix:
            raise ValueError(f"stdout must be a file, {stdout.path}, without a prefix")
        stdout = made(stdout)
    elif stdout is not None:
        stdout = Made(os.fspath(stdout))
    if stdout is not None and stderr is not None and Path(stdout.path) == Path(stderr):
        raise ValueError(f"stdout and stderr cannot be the same file, {stdout.path}")
    task = _task(**options)
    future = task(words, stdin, stdout, stderr, list(inputs), cwd, None if env is None else dict(env))
    for output in outputs:
        output.made_by = future
    return future


@functools.lru_cache
def _task(**options: Any) -> TaskFunction[..., Any]:
    if "ranks" in options:
        raise TypeError("a command runs on one worker: it cannot have ranks")
    return TaskFunction(run_command, {**options, "isolated": True})
