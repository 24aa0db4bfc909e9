"""Swift/T-style MPI dataflow in pure Python; see README.md and docs/flow.md."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swiftpy.errors import Deadlock, TaskError
    from swiftpy.flow.future import Future
    from swiftpy.flow.program import as_completed, gather, wait
    from swiftpy.flow.tasks import task

__version__ = "0.1.0"
__all__ = ["Deadlock", "Future", "TaskError", "as_completed", "gather", "task", "wait"]

_HOMES = {
    "Deadlock": "swiftpy.errors",
    "Future": "swiftpy.flow.future",
    "TaskError": "swiftpy.errors",
    "as_completed": "swiftpy.flow.program",
    "gather": "swiftpy.flow.program",
    "task": "swiftpy.flow.tasks",
    "wait": "swiftpy.flow.program",
}


def __getattr__(name: str) -> Any:
    """What is exported is imported when it is asked for: the UPF application needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
