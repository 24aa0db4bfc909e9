"""What runs in the child processes for the UPF application: the checks before the job, and one RUN after another."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from swiftpy.runtime.call import resolve
from swiftpy.sites import schedulers


def check(function: str, param_sets: list[dict[str, Any]], data_dir: str | None) -> list[tuple[int, str]]:
    """What is wrong with the parameter sets: (index, message), as the `check` beside the runner answers.

    A module that offers no `check` has no complaints; a runner that cannot be found is a complaint about the first.
    """
    try:
        resolve(function)
    except (ImportError, AttributeError, TypeError) as error:
        return [(0, f"--task {function}: {error}")]
    offer = getattr(importlib.import_module(function.partition(":")[0]), "check", None)
    return [] if offer is None else list(offer(param_sets, data_dir))


def with_defaults(function: str, param_sets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parameter sets over their models' defaults, as far as a `with_defaults` beside the runner knows them."""
    offer = getattr(importlib.import_module(function.partition(":")[0]), "with_defaults", None)
    return param_sets if offer is None else list(offer(param_sets))


def seconds_left() -> float | None:
    """How long the scheduler will let this job live, see `swiftpy.sites.schedulers`."""
    return schedulers.seconds_left(os.environ)


def is_over(scheduler: str, jobid: str) -> bool | None:
    """Whether a job has ended, see `swiftpy.sites.schedulers`."""
    return schedulers.is_over(scheduler, jobid)


def run_one(function: str, params: dict[str, Any]) -> dict[str, Any]:
    """Run one RUN in its directory, which is made here, so that a full disk costs this RUN alone."""
    Path(params["instance_directory"]).mkdir(parents=True, exist_ok=True)
    value = resolve(function)(params)
    if not isinstance(value, dict) or value.get("status") not in ("ok", "skip", "interrupted"):
        raise TypeError(f"{function} returned {value!r}: a dict with status ok, skip or interrupted was expected")
    return value
