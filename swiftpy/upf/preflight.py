"""What a rank looks at before RUNs start: modules, versions, devices. Called in its child process, by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftpy.upf.task import offer, problem

if TYPE_CHECKING:
    from swiftpy.upf.prepare import Intent

#: Where these differ between ranks, RUNs would compute different things.
_PACKAGES = ("swiftpy", "numpy", "pandas", "pyarrow", "h5py", "tensorflow", "keras", "torch")
#: Parameters that name modules.
_NAMES = ("model_name", "framework", "pre_module", "post_module")


def request(intent: Intent) -> tuple[Any, ...]:
    """The name and the arguments of the call: one parameter set for each choice of modules, with nothing else in it."""
    from swiftpy.upf.prepare import parameters  # half of swiftpy, which the ranks that only look have no use for

    site, options = intent.site, intent.options
    sets = (parameters(spec, options, intent.settings) for spec in intent.specs)
    choices = {tuple(params.get(name) for name in _NAMES): params for params in sets}
    samples = [{name: value for name, value in params.items() if name in _NAMES} for params in choices.values()]
    devices = (site.devices.files, site.devices.count) if site.devices and site.devices.files else None
    return "swiftpy.upf.preflight:look", options.task, samples, site.modules, devices


def look(
    function: str, samples: list[dict[str, Any]], modules: Iterable[str], devices: tuple[str, int] | None
) -> tuple[list[str], dict[str, str]]:
    """(problems, facts) of this process."""
    problems = [f"{name} cannot be imported: {error}" for name in modules if (error := _import_error(name))]
    problems += _find(function, samples)
    if devices is not None:
        pattern, count = devices
        there = sum(1 for _ in Path("/").glob(pattern.lstrip("/")))
        if there != count:
            problems.append(f"{there} of {count} devices are there ({pattern})")
    return problems, {"python": platform.python_version(), **_versions()}


def _find(function: str, samples: list[dict[str, Any]]) -> list[str]:
    """What the runner cannot find here; one that offers no `find` is found itself."""
    if missing := problem(function):
        return [missing]
    offered = offer(function, "find")
    return [] if offered is None else [text for _, text in offered(samples)]


def _import_error(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
