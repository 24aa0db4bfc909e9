"""The user's settings: what each is, and where it comes from.

A setting comes from the environment; else from cfg-sys-1.sh or the top of the main script, which export it and list
it in SWIFTPY_SCRIPT_SETTINGS; else from the site's file.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from swiftpy.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


@dataclass(frozen=True)
class Site:
    """What a site's file says: the command that starts the ranks, and settings that nobody else gave."""

    name: str
    launch: list[str]
    settings: dict[str, str]


@dataclass(frozen=True)
class Setting:
    """One setting with where it was found. `value` is "" for one that nobody gave."""

    name: str
    value: str
    source: str


def load_site(name: str) -> Site:
    """Read swiftpy/sites/NAME.toml. UserError names the sites that there are."""
    folder = resources.files("swiftpy.sites")
    file = folder / f"{name}.toml"
    if not file.is_file():
        known = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
        raise UserError(f"there is no site {name!r}: choose one of {', '.join(known)}")
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    return Site(name, data["launch"], data.get("settings", {}))


def resolve(site: Site, environ: Mapping[str, str]) -> dict[str, Setting]:
    """Every setting by name, in the order of NAMES."""
    from_script = environ.get("SWIFTPY_SCRIPT_SETTINGS", "").split()
    settings = {}
    for name in NAMES:
        if environ.get(name):
            source = "cfg-sys-1.sh or main script" if name in from_script else "environment"
            settings[name] = Setting(name, environ[name], source)
        else:
            value = site.settings.get(name, "")
            settings[name] = Setting(name, value, f"site {site.name}" if value else "not set")
    return settings


def table(settings: Mapping[str, Setting]) -> list[str]:
    """The settings as lines for people, each with its source."""
    return [f"{s.name:<26} {s.value or '-':<40} ({s.source})" for s in settings.values()]


def procs(settings: Mapping[str, Setting]) -> int:
    """PROCS as a number. UserError if it is none, or leaves no worker."""
    value, source = settings["PROCS"].value, settings["PROCS"].source
    if not value.isdecimal() or int(value) < 2:
        raise UserError(f"PROCS={value} ({source}): give the number of ranks, one server and at least one worker")
    return int(value)


def time_limit(settings: Mapping[str, Setting]) -> float:
    """BENCHMARK_TIMEOUT in seconds, -1 for none. UserError if it is no number."""
    setting = settings["BENCHMARK_TIMEOUT"]
    try:
        return float(setting.value or -1)
    except ValueError:
        raise UserError(f"BENCHMARK_TIMEOUT={setting.value} ({setting.source}): give a number of seconds") from None


def walltime(settings: Mapping[str, Setting]) -> float:
    """WALLTIME, as schedulers write it ([[DAYS-]HOURS:]MINUTES:SECONDS), in seconds; infinite if not set."""
    setting = settings["WALLTIME"]
    if not setting.value:
        return math.inf
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", setting.value)
    if match is None:
        raise UserError(f"WALLTIME={setting.value} ({setting.source}): write it as HOURS:MINUTES:SECONDS")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def exp_parent(settings: Mapping[str, Setting]) -> Path:
    """Where EXPs are: $CANDLE_DATA_DIR/$MODEL_NAME/Output, absolute."""
    return Path(settings["CANDLE_DATA_DIR"].value, settings["MODEL_NAME"].value, "Output").absolute()
