"""What one RUN is: its name, its complete parameters, and where the user wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ID_LIMIT = 200  # bytes: a file system's name holds 255, and markers and temporary files add to the id


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A line of the UPF merged over the DFLTS; `source` is the UPF as the user named it."""

    id: str
    line: int
    params: Mapping[str, Any]
    source: Path

    @property
    def where(self) -> str:
        """`file:line`, the start of every message about this RUN."""
        return f"{self.source}:{self.line}"


def name_problem(name: str) -> str | None:
    """Why `name` cannot be the name of a RUN or EXP directory, or None if it can.

    `isprintable` refuses control characters, NUL, line separators and lone surrogates, which json accepts
    and mkdir does not.
    """
    if not name:
        return "is empty"
    if not name.isprintable():
        return "contains a control character or another that cannot be printed"
    if name != name.strip():
        return "starts or ends with a blank"
    if "/" in name:
        return "contains '/'"
    if name[0] in ".-":
        return f"starts with '{name[0]}'"
    if len(name.encode()) > ID_LIMIT:
        return f"is longer than {ID_LIMIT} bytes"
    return None
