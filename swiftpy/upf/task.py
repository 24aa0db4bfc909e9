"""What runs in the child processes for the UPF application: the checks before the job, and one RUN after another."""

from __future__ import annotations

import importlib
import json
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftpy.runtime.call import resolve

if TYPE_CHECKING:  # this is imported beside each rank, on a file system that all share
    from swiftpy.experiment.restart import Pair


def offer(function: str, name: str) -> Callable[..., Any] | None:
    """A function that the runner's module offers beside the runner; None if it does not.

    check(param_sets, data_dir) -> [(index, message)]   what is wrong with them, before anything is made
    find(param_sets) -> [(index, message)]              what they name that is not there, on a node of the job
    with_defaults(param_sets, data_dir) -> param_sets   with their models' defaults, and what RUNs would record of
                                                        their data, for a restart to compare
    compare(old, new, done) -> (verdict, reason)        what a restart does with a RUN: skip, resume or refuse;
                                                        `done` is what it returned, None if it is not finished
    """
    return getattr(importlib.import_module(function.partition(":")[0]), name, None)


def problem(function: str) -> str:
    """Why the runner cannot be found in this process; "" if it can."""
    try:
        resolve(function)
    except (ImportError, AttributeError, TypeError) as error:
        return f"--task {function}: {error}"
    return ""


def check(function: str, param_sets: list[dict[str, Any]], data_dir: str | None) -> list[tuple[int, str]]:
    """What is wrong with the parameter sets: (index, message), as the `check` beside the runner answers.

    A module that offers no `check` has no complaints; a runner that cannot be found is a complaint about the first.
    """
    if missing := problem(function):
        return [(0, missing)]
    offered = offer(function, "check")
    return [] if offered is None else list(offered(param_sets, data_dir))


def with_defaults(function: str, param_sets: list[dict[str, Any]], data_dir: str | None) -> list[dict[str, Any]]:
    """The parameter sets with what else decides a RUN, as far as a `with_defaults` beside the runner knows it."""
    offered = offer(function, "with_defaults")
    return param_sets if offered is None else list(offered(param_sets, data_dir))


def compare(function: str, pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """What a restart does with each RUN, and why, as a `compare` beside the runner decides."""
    decide = offer(function, "compare") or _same_or_refuse
    return [decide(*pair) for pair in pairs]


def _same_or_refuse(old: Mapping[str, Any], new: Mapping[str, Any], done: Mapping[str, Any] | None) -> tuple[str, str]:
    """The restart decision for a runner that offers none: parameters equal but for the time limit, or nothing."""
    old, new = ({key: value for key, value in params.items() if key != "timeout"} for params in (old, new))
    if old == new:
        return ("skip", "finished") if done is not None else ("resume", "not finished")
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return "refuse", f"its parameters differ: {', '.join(keys)}"


def run_one(function: str, params: dict[str, Any]) -> dict[str, Any]:
    """Run one RUN in its directory, which is made here, so that a full disk costs this RUN alone.

    Its value as journal and marker will hold it, with `status`, `reason` and `epochs`: what they cannot hold, and
    objects of classes that only this process can import, would end the server, and with it all RUNs.
    """
    Path(params["instance_directory"]).mkdir(parents=True, exist_ok=True)
    value = resolve(function)(params)
    if not isinstance(value, dict) or value.get("status") not in ("ok", "skip", "interrupted"):
        raise TypeError(f"{function} returned {value!r}: a dict with status ok, skip or interrupted was expected")
    try:
        plain = json.loads(json.dumps({"reason": "", "epochs": None, **value}, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{function} returned what JSON cannot hold: {error}") from error
    if not isinstance(plain["epochs"], int | float | None):
        raise TypeError(f"{function} returned epochs {value['epochs']!r}: a number or None was expected")
    return dict(plain)


def _plain(value: object) -> int | float | str:
    """What stands in JSON for a value that it does not know: NumPy's numbers are numbers, all else is its text."""
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return str(value)
