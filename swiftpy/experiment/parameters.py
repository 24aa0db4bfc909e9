"""The parameters.txt of a RUN, as the original system wrote it and `model_runner` does: `k=v` lines under headings."""

import ast
from pathlib import Path
from typing import Any


def read(file: Path) -> dict[str, Any] | None:
    """The parameters, each value a Python literal; None without such a file.

    Values that are no literal are left out. The original put quotes around a string whatever was in it
    (`'it's'`), so a value between quotes that does not parse is taken as it stands. Nothing is evaluated.
    OSError: it may not be read.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if not equals or line.startswith("["):
            continue
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            if len(value) > 1 and value[0] == value[-1] == "'":
                found[key] = value[1:-1]
    return found
