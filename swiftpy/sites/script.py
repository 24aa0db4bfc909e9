"""The batch script of a job: directives, set-up, settings, and the command that starts the ranks.

Nothing is hidden in it: what it runs can be read in it, and it can be submitted again by hand.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from swiftpy.errors import UserError
from swiftpy.sites.schedulers import SCHEDULERS
from swiftpy.sites.settings import Setting, size, walltime
from swiftpy.sites.site import PLACEHOLDERS, Site
from swiftpy.sites.times import clock


def values(site: Site, settings: Mapping[str, Setting]) -> dict[str, str]:
    """What stands for each placeholder. UserError: a setting is missing that the site needs, or is no number."""
    missing = [name for name in site.required if not settings[name].value]
    if missing:
        raise UserError(*(f"{name} is not set, and {site.name} needs it: export {name}=..." for name in missing))
    job = size(site, settings)
    if site.scheduler:
        for setting in (settings["QUEUE"], settings["PROJECT"]):
            if re.search(r"\s", setting.value):  # the directive would end there
                raise UserError(f"{setting} has a blank in it: {site.scheduler} takes no such name")
        _check_devices(site, settings["PPN"])
    written = SCHEDULERS[site.scheduler].duration if site.scheduler else clock
    return {
        "PROCS": str(job.procs),
        "PPN": str(job.ppn),
        "NODES": str(job.nodes),
        "RANKS": str(job.ranks),
        "RANKS_PER_NODE": str(job.ranks_per_node),
        "QUEUE": settings["QUEUE"].value,
        "PROJECT": settings["PROJECT"].value,
        "WALLTIME": written(walltime(settings, site.scheduler)) if settings["WALLTIME"].value else "",
    }


def _check_devices(site: Site, ppn: Setting) -> None:
    """UserError if a node gets more workers than there are devices, and bindings in `launch`.

    Perlmutter's fifth worker of 8 would get the server's thread, and those after it cores that lie beside other GPUs.
    """
    count = len(site.devices.masks) if site.devices else math.inf
    if int(ppn.value) > count:
        raise UserError(
            f"{ppn}: a node of {site.name} has {count} devices: to share them, use a copy of {site.file} with masks and"
            " bindings for as many workers"
        )


def launch_command(site: Site, given: Mapping[str, str]) -> list[str]:
    """The launcher and its options."""
    return [part.format_map(given) for part in site.launch]


def render(
    site: Site,
    settings: Mapping[str, Setting],
    output: Path,
    environment: Mapping[str, str],
    directory: Path,
    command: Sequence[Sequence[str]],
) -> str:
    """The script. `output` takes stdout and stderr.

    `command` is run in `directory` with `environment` added, which wins over the site's. Each of its parts begins
    a line, for who reads it.
    """
    given = values(site, settings)
    lines = ["#!/bin/bash -l", *_directives(site, given, output), ""]
    # Else a job on a node without this file system would look for its files, and write, where it happens to stand.
    lines += [f"cd {shlex.quote(str(directory))} || exit 1", *site.setup, ""]
    exported = {**site.environment, **environment}
    if site.server_slot:
        exported["SWIFTPY_SERVER_SLOT"] = "1"
    lines += [_export(name, value) for name, value in exported.items()]
    return "\n".join([*lines, "", "exec " + " \\\n    ".join(shlex.join(part) for part in command), ""])


def _export(name: str, value: str) -> str:
    # What `module load` has put into it in `setup` is needed as well: the framework may lie there.
    more = '"${PYTHONPATH:+:$PYTHONPATH}"' if name == "PYTHONPATH" else ""
    return f"export {name}={shlex.quote(value)}{more}"


def _directives(site: Site, given: Mapping[str, str], output: Path) -> list[str]:
    scheduler = SCHEDULERS[site.scheduler]
    name = re.sub(r"[^\w.-]", "-", output.parent.name)
    path = shlex.quote(str(output))
    refused = {**scheduler.refused, "\n": "a directive ends with its line"}
    for character, reason in refused.items():
        if character in path:
            raise UserError(f"{str(output)!r}: {reason}: set CANDLE_DATA_DIR")
    for character in scheduler.doubled:
        path = path.replace(character, 2 * character)
    common = [text.format(name=name, output=path) for text in scheduler.common]
    filled = [text.format_map(given) for text in site.directives if not _is_empty(text, given)]
    return [f"{scheduler.directive} {text}" for text in (*common, *filled)]


def _is_empty(text: str, given: Mapping[str, str]) -> bool:
    """Whether a directive is about a setting that nobody gave: then it is left out."""
    return any(f"{{{name}}}" in text and not given[name] for name in PLACEHOLDERS)
