"""What the leaders, one rank of each node, do before the tasks start and after the last has ended."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftpy.runtime.call import resolve
from swiftpy.runtime.group import GroupError, UnansweredError
from swiftpy.runtime.signals import limited

if TYPE_CHECKING:
    from swiftpy.runtime.mpi import World

ENTRY_POINTS = "swiftpy.hooks"
#: After a leader's hook has failed, the others get so many seconds to end theirs, in which they may wait for it.
PATIENCE = 10.0

#: Called with the leaders' communicator and the tasks' environment; returns variables for the tasks of its node. A
#: generator function yields them, and goes on when all tasks have ended: to clean up.
Hook = Callable[[Any, Mapping[str, str]], "Mapping[str, str] | Generator[Mapping[str, str], None, None] | None"]


class Hooks:
    """The hooks of a job, on one rank."""

    def __init__(self, world: World, names: tuple[str, ...], grace: float) -> None:
        self._world, self._names, self._grace = world, names, grace
        #: Those that were run, in order; the same on every rank.
        self._begun: list[_Begun] = []
        #: What the hooks of this rank's node add to the environment of its tasks.
        self.env: dict[str, str] = {"SWIFTPY_NODE": str(world.node_number)}

    def run(self, env: Mapping[str, str]) -> list[str]:
        """Run all, one after another; on every rank: who failed and why (no more are run then)."""
        for name in self._names:
            reason, mine = None, dict[str, str]()
            self._begun.append(begun := _Begun(name))
            if self._world.leaders is not None:
                try:
                    with self._limited(name):
                        mine = self._begin(begun, {**env, **self.env})
                except GroupError as error:  # all leaders have it, with the nodes' names
                    reason = f"hook {name} failed: {error}"
                except BaseException as exception:  # a sys.exit() here would leave all others waiting
                    reason = f"hook {name} failed on {self._world.node}: {_said(exception)}"
            reasons = [r for r in self._gather(reason) if r]
            if reasons:
                begun.failed = True
                return list(dict.fromkeys(reasons))
            self.env |= self._world.share(mine)
        return []

    def finish(self, together: bool = True) -> None:
        """Let the hooks clean up, the last one first; all ranks call it. What fails there is said, and no more.

        After each all wait for all, as one that failed may be waited for in a collective of the hook. `together` is
        False on a rank to which others will not come any more: what waits for them is given up soon.
        """
        if together and self._begun:
            self._world.meet()  # or rank 0 would be taken for one that waits in the hook while it prints its summary
        for begun in reversed(self._begun):
            reason = self._clean_up(begun, hurry=not together)
            if reason:
                print(reason, file=sys.stderr)
            if together:
                self._gather(reason)
        self._begun.clear()

    def _clean_up(self, begun: _Begun, hurry: bool) -> str | None:
        """The reason if it fails. A hook that failed on some leader does not go on where it did not."""
        try:
            with self._limited(begun.name, hurry):
                if begun.failed:
                    begun.generator.close()
                else:
                    next(begun.generator, None)
        except BaseException as exception:
            return f"hook {begun.name}: cleaning up failed on {self._world.node}: {_said(exception)}"
        return None

    def _limited(self, name: str, hurry: bool = False) -> AbstractContextManager[None]:
        """A hook that hangs must not keep the job from ending when it is told to, or, in a `hurry`, at all."""
        text = f"hook {name} on {self._world.node} did not end when told to: the job is aborted"
        return limited(PATIENCE if hurry else self._grace, lambda: self._world.die(text), told=hurry)

    def _begin(self, begun: _Begun, env: Mapping[str, str]) -> dict[str, str]:
        result: Any = load(begun.name)(self._world.leaders, env)
        if inspect.isgenerator(result):
            begun.generator = result
            result = next(result, None)
        return _variables(result)

    def _gather(self, reason: str | None) -> list[str | None]:
        try:
            return self._world.gather(reason, PATIENCE if reason else None)
        except UnansweredError:
            text = f"{reason}; other nodes still wait in the hook after {PATIENCE:g} s: the job is aborted"
            self._world.abort(text)
            raise


@dataclass
class _Begun:
    name: str
    generator: Generator[Any, Any, Any] = field(default_factory=lambda: (_ for _ in ()))
    failed: bool = False


def _said(exception: BaseException) -> str:
    """One line: what a hook raised, and in which of its lines."""
    text = f"{type(exception).__name__}: {exception}"
    for frame, line in traceback.walk_tb(exception.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("swiftpy", "importlib"):
            return f"{text} ({frame.f_code.co_filename}:{line})"
    return text


def _variables(result: Any) -> dict[str, str]:
    """What a hook returned, if tasks can be given that as their environment; TypeError otherwise."""
    if result is None:
        return {}
    if not isinstance(result, Mapping):
        raise TypeError(f"it returned {result!r}: return a dictionary of environment variables, or nothing")
    for name, value in result.items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not texts or not name or "=" in name or "\0" in name + value:
            raise TypeError(
                f"it returned {{{name!r}: {value!r}}}: that is no name of a variable with its value, a string"
            )
    return dict(result)


def load(name: str) -> Hook:
    """The hook that `FILE.py[:NAME]`, an entry point of the group swiftpy.hooks, or `module:name` names.

    The NAME of a file's function is `hook` where none is given. ImportError or AttributeError says what is missing.
    """
    place, function = _target(name)
    if not place.endswith(".py"):
        return resolve(f"{place}:{function}")
    spec = _spec(place)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook: Hook = getattr(module, function)
    return hook


def problems(names: Sequence[str]) -> list[str]:
    """What is wrong with hooks of these names, as far as their text tells: nothing of them is run.

    On a login node, a hook's `import mpi4py` may abort the process; a batch job would fail after hours in the queue.
    What its text imports is not looked for: it may be there only where the job runs, by the `setup` of the site.
    """
    return [f"--hook {name}: {text}" for name in names if (text := _problem(*_target(name)))]


def _target(name: str) -> tuple[str, str]:
    """The file or module that a hook's name stands for, and the function in it."""
    from importlib.metadata import entry_points  # a tenth of what we import, and most jobs have no hooks

    for entry in entry_points(group=ENTRY_POINTS, name=name):
        name = entry.value
    place, _, function = name.partition(":")
    return place, function or ("hook" if place.endswith(".py") else "")


def _spec(place: str) -> ModuleSpec:
    if place.endswith(".py"):
        path = Path(os.path.expandvars(place)).expanduser()
        if not path.is_file():
            raise ImportError(f"there is no file {path.absolute()}")
        spec = importlib.util.spec_from_file_location(f"swiftpy_hook_{path.stem}", path)
    else:
        spec = importlib.util.find_spec(place)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no module {place}")
    return spec


def _problem(place: str, function: str) -> str:
    try:
        spec = _spec(place)
        get_source = getattr(spec.loader, "get_source", None)  # importlib.abc, which names it, is much to import
        source = get_source(spec.name) if get_source else None
        if source is None:  # an extension module
            return ""
        code, tree = compile(source, place, "exec"), ast.parse(source)
    except ModuleNotFoundError as error:
        return f"there is no module {error.name}"
    except SyntaxError as error:
        return f"{spec.origin}:{error.lineno}: {error.msg}"
    except Exception as error:  # also of the packages that the module is in, which are run
        return str(error)
    if not function:
        return f"write it as MODULE:NAME, such as {place}:hook, or FILE.py"
    star = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body)
    if not star and {"__getattr__", function.partition(".")[0]}.isdisjoint(code.co_names):
        return f"{spec.origin} has no {function}"
    return ""
