"""A site: what one small TOML file says of a place where jobs run, read and checked.

`docs/sites.md` describes the keys. A user's own file is named by its path, or by its name if it lies in one of the
directories of SWIFTPY_SITES (separated by colons), which win over the sites that come with swiftpy.
"""

from __future__ import annotations

import os
import re
import string
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftpy.errors import UserError, disk_says
from swiftpy.sites.schedulers import SCHEDULERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The user's settings, in the order in which they are shown.
NAMES = (
    "DATA_SOURCE",
    "CANDLE_DATA_DIR",
    "MODEL_NAME",
    "MODEL_PYTHON_DIR",
    "MODEL_PYTHON_SCRIPT",
    "CANDLE_DEFAULT_MODEL_FILE",
    "MODEL_RETURN",
    "BENCHMARK_TIMEOUT",
    "EXPID",
    "PROCS",
    "PPN",
    "QUEUE",
    "PROJECT",
    "WALLTIME",
)
#: What stands for a value in `launch` and `directives`.
PLACEHOLDERS = ("PROCS", "PPN", "NODES", "RANKS", "RANKS_PER_NODE", "QUEUE", "PROJECT", "WALLTIME")


@dataclass(frozen=True)
class Devices:
    """The accelerators of a node, one a worker: `variable` is set to one of `masks` by the worker's place on its node.

    `files` is a pattern that matches one file for each of `count` devices on a healthy node; "" if nothing is checked.
    """

    variable: str
    masks: tuple[str, ...]
    files: str = ""
    count: int = 0


@dataclass(frozen=True)
class Site:
    """See docs/sites.md for what each field means. `file` is where it was read."""

    name: str
    file: str
    launch: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    scheduler: str = ""
    directives: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    no_chain: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    server_slot: bool = False
    devices: Devices | None = None


def load_site(name: str) -> Site:
    """The site of this name, or in this file. UserError: there is none, or all that is wrong with its file."""
    file = _find(name)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    problems = list(_problems(data))
    if problems:
        raise UserError(*(f"{file}: {problem}" for problem in problems))
    return _site(file, data)


def _find(name: str) -> Path:
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    folders = [Path(folder) for folder in os.environ.get("SWIFTPY_SITES", "").split(":") if folder]
    folders.append(Path(__file__).parent)
    for folder in folders:
        file = folder / f"{name}.toml"
        try:
            if file.is_file():
                return file
        except OSError as error:  # a colleague's folder: what is in it would win
            raise UserError(f"SWIFTPY_SITES: {disk_says(error, file)}") from error
    known = {file.stem for folder in folders for file in folder.glob("*.toml")}
    raise UserError(f"there is no site {name!r}: choose one of {', '.join(sorted(known))}, or give a .toml file")


_TEXT, _TEXTS, _TABLE = "a string", "a list of strings", "a table of strings"
_KEYS = {
    "scheduler": f"one of {', '.join(SCHEDULERS)}",
    "launch": _TEXTS,
    "directives": _TEXTS,
    "required": f"a list of {', '.join(NAMES)}",
    "no_chain": _TEXTS,
    "setup": _TEXTS,
    "modules": _TEXTS,
    "server_slot": "true or false",
    "environment": _TABLE,
    "settings": _TABLE,
    "devices": "a table with variable and masks, or also files and count",
}
_DEVICE_KEYS = {
    "variable": "the name of an environment variable",
    "masks": _TEXTS,
    "files": _TEXT,
    "count": "an integer of 1 or more",
}


def _problems(data: Mapping[str, Any]) -> Iterator[str]:
    for key in data.keys() - _KEYS.keys():
        yield f"unknown key {key}: the keys are {', '.join(_KEYS)}"
    for key, expected in _KEYS.items():
        if key in data and not _fits(key, data[key]):
            yield f"{key} must be {expected}, not {data[key]!r}"
    for table in ("environment", "settings"):
        for name, value in data[table].items() if isinstance(data.get(table), dict) else ():
            if table == "settings" and name not in NAMES:
                yield f"unknown key settings.{name}: the keys are {', '.join(NAMES)}"
            elif table == "environment" and name in NAMES:  # whose value, or default, would win over it
                yield f"environment.{name} is a setting: write it into [settings]"
            elif not isinstance(value, str):
                yield f"{table}.{name} must be a string, not {value!r}"
            elif not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                yield f"{table}: {name!r} is no name of a variable"
    if not data.get("launch"):
        yield 'launch is missing: the command that starts the ranks, such as ["mpiexec", "-n", "{RANKS}"]'
    for key in ("directives", "no_chain", "setup"):  # for batch jobs: nobody else reads them
        if data.get(key) and not data.get("scheduler"):
            yield f"{key} without scheduler: add scheduler, {_KEYS['scheduler']}"
    for key in ("launch", "directives"):
        for text in data.get(key, ()) if _fits(key, data.get(key)) else ():
            yield from _placeholder_problems(key, text)
    if isinstance(data.get("devices"), dict):
        yield from _device_problems(data["devices"])


def _fits(key: str, value: Any) -> bool:
    if key == "scheduler":
        return isinstance(value, str) and value in SCHEDULERS
    if key == "server_slot":
        return isinstance(value, bool)
    if key in ("devices", "environment", "settings"):
        return isinstance(value, dict)
    texts = isinstance(value, list) and all(isinstance(v, str) for v in value)
    return texts and (key != "required" or not set(value) - set(NAMES))


def _placeholder_problems(key: str, text: str) -> Iterator[str]:
    try:
        fields = [field[1:] for field in string.Formatter().parse(text)]
    except ValueError as error:
        yield f"{key}: {text!r}: {error} (a brace itself is written twice)"
        return
    for name, form, conversion in fields:  # Python's formatting knows {NAME!r:>5}, which has no use here
        written = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
        if name is not None and written not in PLACEHOLDERS:
            yield f"{key}: {text!r}: there is no {{{written}}}: use {', '.join(PLACEHOLDERS)}"


def _device_problems(devices: Mapping[str, Any]) -> Iterator[str]:
    for key in devices.keys() - _DEVICE_KEYS.keys():
        yield f"unknown key devices.{key}: the keys are {', '.join(_DEVICE_KEYS)}"
    for key, expected in _DEVICE_KEYS.items():
        if key in devices and not _fits_device(key, devices[key]):
            yield f"devices.{key} must be {expected}, not {devices[key]!r}"
    for key in ("variable", "masks"):
        if key not in devices:
            yield f"devices.{key} is missing"
    if ("files" in devices) != ("count" in devices):
        yield "devices.files and devices.count belong together: the pattern, and how many files match it"


def _fits_device(key: str, value: Any) -> bool:
    if key == "masks":
        return isinstance(value, list) and bool(value) and all(isinstance(mask, str) for mask in value)
    if key == "count":
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, str) and (key != "variable" or value.isidentifier())


def _site(file: Path, data: Mapping[str, Any]) -> Site:
    values = _with_tuples(data)
    if "devices" in data:
        values["devices"] = Devices(**_with_tuples(data["devices"]))
    return Site(file.stem, str(file), **values)


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
