"""What the leaders, one rank of each node, do before the tasks start and after the last has ended."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftpy.runtime.call import resolve
from swiftpy.runtime.group import GroupError, UnansweredError

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

    def __init__(self, world: World, names: tuple[str, ...]) -> None:
        self._world, self._names = world, names
        self._begun: list[tuple[str, Generator[Any, Any, Any]]] = []
        #: What the hooks of this rank's node add to the environment of its tasks.
        self.env: dict[str, str] = {"SWIFTPY_NODE": str(world.node_number)}

    def run(self, env: Mapping[str, str]) -> list[str]:
        """Run all, one after another; on every rank: who failed and why (no more are run then)."""
        for name in self._names:
            reason, mine = None, dict[str, str]()
            if self._world.leaders is not None:
                try:
                    mine = self._begin(name, {**env, **self.env})
                except GroupError as error:  # all leaders have it, with the nodes' names
                    reason = f"hook {name} failed: {error}"
                except Exception as exception:
                    reason = f"hook {name} failed on {self._world.node}: {type(exception).__name__}: {exception}"
            reasons = [r for r in self._gather(reason) if r]
            if reasons:
                return list(dict.fromkeys(reasons))
            self.env |= self._world.share(mine)
        return []

    def finish(self) -> None:
        """Let the hooks clean up, the last one first. What fails there is said, and no more."""
        for name, generator in reversed(self._begun):
            try:
                next(generator, None)
            except Exception as exception:
                print(f"hook {name}: cleaning up failed: {type(exception).__name__}: {exception}", file=sys.stderr)
        self._begun.clear()

    def _begin(self, name: str, env: Mapping[str, str]) -> dict[str, str]:
        result: Any = load(name)(self._world.leaders, env)
        if inspect.isgenerator(result):
            self._begun.append((name, result))
            result = next(result, None)
        return dict(result or {})

    def _gather(self, reason: str | None) -> list[str | None]:
        try:
            return self._world.gather(reason, PATIENCE if reason else None)
        except UnansweredError:
            text = f"{reason}; other nodes still wait in the hook after {PATIENCE:g} s: the job is aborted"
            self._world.abort(text)
            raise


def load(name: str) -> Hook:
    """The hook that `FILE.py[:NAME]`, an entry point of the group swiftpy.hooks, or `module:name` names.

    The NAME of a file's function is `hook` where none is given. ImportError or AttributeError says what is missing.
    """
    file, _, function = name.partition(":")
    if file.endswith(".py"):
        path = Path(os.path.expandvars(file)).expanduser()
        spec = importlib.util.spec_from_file_location(f"swiftpy_hook_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ImportError(f"there is no file {path.absolute()}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        hook: Hook = getattr(module, function or "hook")
        return hook
    from importlib.metadata import entry_points  # a tenth of what we import, and most jobs have no hooks

    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return entry.load()  # type: ignore[no-any-return]  # whatever is callable will do
    return resolve(name)
