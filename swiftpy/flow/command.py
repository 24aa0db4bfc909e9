"""One external command, from its start to its end: what a worker does for `app`.

Commands are started by the isolated child beside a worker (`runtime.child`), which is no MPI rank: so nothing is
spawned on top of a fabric, and a command may itself be an MPI program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shlex
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

#: Bytes of stderr that an error quotes.
TAIL = 2000
#: Bytes that a pipe holds at most; and seconds between two looks whether a silent command has ended without closing it.
_PIPE, _LOOK = 1 << 20, 0.05
#: What Python ignores, or the child handles, and a command must find as usual.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)


class CommandError(Exception):
    """A command failed: `command` as one would type it, its exit `code` (-N: signal N), and the end of its `stderr`."""

    def __init__(self, command: str, code: int, problem: str, stderr: str = "") -> None:
        super().__init__(command, code, problem, stderr)
        self.command, self.code, self.problem, self.stderr = command, code, problem, stderr

    def __str__(self) -> str:
        return f"{self.command}: {self.problem}" + (f"\n{self.stderr.rstrip()}" if self.stderr.strip() else "")


class Made(NamedTuple):
    """In the place of an `app.Output`, in the command that makes it."""

    path: str
    prefix: str = ""


def run_command(
    argv: list[Any],
    stdin: Any,
    stdout: Made | None,
    stderr: str | os.PathLike[str] | None,
    inputs: list[Any],
    cwd: str | os.PathLike[str] | None,
    env: dict[str, str] | None,
) -> Path | list[Path] | None:
    """Run one command to its end; see `app.app`."""
    base = Path.cwd() if cwd is not None else Path()
    parts: dict[Path, Path] = {}  # what it makes -> the name until it has
    words = list(_words(argv, base, parts))
    if isinstance(argv[0], os.PathLike) and "/" not in words[0]:  # not what PATH has by that name, such as `test`
        words[0] = f"./{words[0]}"
    for path in _flat(inputs):
        if isinstance(path, str | os.PathLike) and not os.path.exists(path):  # noqa: PTH110  (it may be str)
            raise FileNotFoundError(f"{shlex.join(words)}: its input {os.fspath(path)} is not there")
    out = None if stdout is None else _part(stdout, base, parts)
    for path, part in parts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)  # of a command that was killed
    try:
        code, said = _run(words, stdin, out, stderr, cwd, env)
        if code:
            how = f"exit code {code}" if code > 0 else f"killed by signal {-code} ({signal.strsignal(-code)})"
            raise CommandError(shlex.join(words), code, how, said)
        for path, part in parts.items():
            if not part.exists():
                raise CommandError(shlex.join(words), code, f"it succeeded, but has not made {path}", said)
        for path, part in parts.items():
            _put(part, path)
    finally:
        for part in parts.values():
            _remove(part)
    made = list(parts)
    return made[0] if len(made) == 1 else made or None


def _words(values: Iterable[Any], base: Path, parts: dict[Path, Path]) -> Iterator[str]:
    """The arguments as text."""
    for value in _flat(values):
        if type(value) is Made:
            yield f"{value.prefix}{_part(value, base, parts)}"
        elif value is None:
            raise TypeError("an argument of the command is None")
        else:
            yield str(base / value) if isinstance(value, os.PathLike) else _text(value)


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """What is in lists, and in lists in them: a future may be one of several files."""
    for value in values:
        if isinstance(value, list | tuple) and type(value) is not Made:
            yield from _flat(value)
        else:
            yield value


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _part(made: Made, base: Path, parts: dict[Path, Path]) -> Path:
    """The temporary name: in the same directory, and with the same ending, which many commands go by.

    A device or a pipe has none: what is written there is no file that a command makes.
    """
    path = Path(made.path)
    if (base / path).exists() and not (base / path).is_file() and not (base / path).is_dir():
        return base / path  # nothing to make: root would put a file in the place of /dev/null, for all programs
    for known, part in parts.items():
        if os.path.abspath(known) == os.path.abspath(path):  # noqa: PTH100  (links stay as they are)
            return part
    return parts.setdefault(path, base / path.with_name(f".part-{path.name}"))


def _put(part: Path, path: Path) -> None:
    """Give what was made its name. A file takes the place of one of before; a directory would only of an empty one."""
    before = part.with_name(f".before-{path.name}")
    _remove(before)  # of a command that was killed
    if part.is_dir() and path.is_dir():
        path.rename(before)
    part.replace(path)
    _remove(before)


def _remove(path: Path) -> None:
    """A file or directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(
    words: list[str],
    stdin: Any,
    stdout: Path | None,
    stderr: str | os.PathLike[str] | None,
    cwd: str | os.PathLike[str] | None,
    env: dict[str, str] | None,
) -> tuple[int, str]:
    """Exit code and the end of stderr."""
    with contextlib.ExitStack() as stack:

        def opened(path: Any, flags: int) -> int:
            fd = os.open(path, flags, 0o666)
            stack.callback(os.close, fd)
            return fd

        new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [(os.POSIX_SPAWN_DUP2, opened(os.devnull if stdin is None else stdin, os.O_RDONLY), 0)]
        if stdout is not None:
            actions.append((os.POSIX_SPAWN_DUP2, opened(stdout, new), 1))
        said = -1
        if stderr is None:
            said, write = os.pipe()
            stack.callback(os.close, said)
        else:
            Path(stderr).parent.mkdir(parents=True, exist_ok=True)
            write = os.open(stderr, new, 0o666)
        actions.append((os.POSIX_SPAWN_DUP2, write, 2))
        try:
            pid = _spawn(words, actions, cwd, env)
        finally:
            os.close(write)
        with _forwarded(pid):
            if stderr is None:
                tail, status = _pass_on(said, pid)
            else:
                tail, status = b"", os.waitpid(pid, 0)[1]
            code = os.waitstatus_to_exitcode(status)
    if code and stderr is not None:
        with open(stderr, "rb") as file:  # noqa: PTH123  (it may be str)
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            tail = file.read()
    return code, tail.decode(errors="replace")


def _spawn(words: list[str], actions: list[Any], cwd: Any, env: dict[str, str] | None) -> int:
    for name, value in (env or {}).items():
        if value is None:  # not the text "None"
            raise TypeError(f"{name} in the environment of the command is None")
    environment = {**os.environ, **{name: _text(value) for name, value in (env or {}).items()}}
    before = None if cwd is None else Path.cwd()
    try:
        if cwd is not None:  # nothing else runs in this process
            Path(cwd).mkdir(parents=True, exist_ok=True)
            os.chdir(cwd)
        # In the PATH that the command gets, as a shell does: posix_spawnp looks in ours, and runs another version.
        program = words[0] if "/" in words[0] else shutil.which(words[0], path=environment.get("PATH"))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return os.posix_spawn(program, words, environment, file_actions=actions, setsigdef=_SIGNALS)
    except (FileNotFoundError, PermissionError) as error:
        raise CommandError(shlex.join(words), 127, f"it cannot be started: {error.strerror}") from None
    finally:
        if before is not None:
            os.chdir(before)


@contextlib.contextmanager
def _forwarded(pid: int) -> Iterator[None]:
    """A request to stop (see `child`) is for the command."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pass_on(fd: int, pid: int) -> tuple[bytes, int]:
    """Write what comes to our own stderr at once, until the command has ended; the end of it, and the exit status.

    That is not the end of the pipe, which what the command leaves running in the background keeps open.
    """
    tail = b""
    ended, status = 0, 0
    poller = select.poll()
    poller.register(fd)
    while True:
        if not ended:
            ended, status = os.waitpid(pid, os.WNOHANG)
        if not poller.poll(0 if ended else 1000 * _LOOK):
            if ended:
                return tail, status
            continue
        data = os.read(fd, _PIPE)
        with contextlib.suppress(OSError):  # a full disk under our log is no reason to fail
            os.write(2, data)
        tail = (tail + data)[-TAIL:]
        if ended:  # and this was all that the pipe can hold
            return tail, status
        if not data:
            return tail, os.waitpid(pid, 0)[1]
