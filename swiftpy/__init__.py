"""Swift/T-style MPI dataflow in pure Python; see README.md and docs/flow.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swiftpy.errors import Deadlock, TaskError
    from swiftpy.executor import Executor
    from swiftpy.flow.app import Output, app
    from swiftpy.flow.command import CommandError
    from swiftpy.flow.future import Promise as Future
    from swiftpy.flow.memo import memo
    from swiftpy.flow.program import as_completed, gather, run, wait
    from swiftpy.flow.resource import resource
    from swiftpy.flow.tasks import map, task
    from swiftpy.joblib_backend import register_joblib

__version__ = "0.1.0"
__all__ = [
    "CommandError",
    "Deadlock",
    "Executor",
    "Future",
    "Output",
    "TaskError",
    "app",
    "as_completed",
    "gather",
    "map",
    "memo",
    "register_joblib",
    "resource",
    "run",
    "task",
    "wait",
]

_HOMES = {
    "CommandError": "swiftpy.flow.command",
    "Deadlock": "swiftpy.errors",
    "Executor": "swiftpy.executor",
    "Future": "swiftpy.flow.future",
    "Output": "swiftpy.flow.app",
    "TaskError": "swiftpy.errors",
    "app": "swiftpy.flow.app",
    "as_completed": "swiftpy.flow.program",
    "gather": "swiftpy.flow.program",
    "map": "swiftpy.flow.tasks",
    "memo": "swiftpy.flow.memo",
    "register_joblib": "swiftpy.joblib_backend",
    "resource": "swiftpy.flow.resource",
    "run": "swiftpy.flow.program",
    "task": "swiftpy.flow.tasks",
    "wait": "swiftpy.flow.program",
}


if not TYPE_CHECKING:  # for a type checker there would be anything that somebody mistypes

    def __getattr__(name: str) -> Any:
        """What is exported is imported when it is asked for: the UPF application needs none of it."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value
