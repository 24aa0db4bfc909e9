"""The user's settings: what each is, and where it comes from.

A setting comes from the environment; else from cfg-sys-1.sh or the top of the main script, which export it and list
it in SWIFTPY_SCRIPT_SETTINGS; else from the site's file; else it is what every site has. A batch script exports all,
and says in SWIFTPY_SETTING_SOURCES where they come from.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swiftpy.errors import UserError
from swiftpy.sites.schedulers import SCHEDULERS
from swiftpy.sites.site import NAMES, Site
from swiftpy.sites.times import seconds

#: Settings that name a file or a folder.
PATHS = ("DATA_SOURCE", "CANDLE_DATA_DIR", "MODEL_PYTHON_DIR", "MODEL_PYTHON_SCRIPT", "CANDLE_DEFAULT_MODEL_FILE")
#: In a batch job: where those of its variables come from that the user's environment had not, as a JSON object.
SOURCES = "SWIFTPY_SETTING_SOURCES"
_DEFAULTS = {"MODEL_NAME": "unorun", "MODEL_RETURN": "val_loss", "CANDLE_DATA_DIR": "out", "BENCHMARK_TIMEOUT": "-1"}


@dataclass(frozen=True)
class Setting:
    """One setting with where it was found. `value` is "" for one that nobody gave."""

    name: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.name}={self.value} ({self.source})" if self.value else f"{self.name} is not set"


def settings_of(site: Site, environ: Mapping[str, str]) -> dict[str, Setting]:
    """Every setting by name, in the order of NAMES."""
    script = dict.fromkeys(environ.get("SWIFTPY_SCRIPT_SETTINGS", "").split(), "cfg-sys-1.sh or main script")
    sources = {**script, **json.loads(environ.get(SOURCES) or "{}")}
    settings = {}
    for name in NAMES:
        if environ.get(name):
            value, source = environ[name], sources.get(name, "environment")
        elif site.settings.get(name):
            value, source = site.settings[name], f"site {site.name}"
        else:
            value, source = _DEFAULTS.get(name, ""), "default" if name in _DEFAULTS else "not set"
        if name in PATHS:  # in quotes, as in the main script, the shell leaves `~` as it is
            value = os.path.expanduser(value)  # noqa: PTH111 - Path's raises RuntimeError for `~nobody`
        settings[name] = Setting(name, value, source)
    return settings


def environment(settings: Mapping[str, Setting]) -> dict[str, str]:
    """The settings as the variables of a job. Paths are from where the user stands: RUNs have another directory."""
    return {
        setting.name: str(Path(setting.value).absolute()) if _is_there(setting) else setting.value
        for setting in settings.values()
        if setting.value
    }


def _is_there(setting: Setting) -> bool:
    """Whether it names what lies in the user's directory: a MODEL_NAME is none, though a folder may be called so."""
    path = Path(setting.value)
    is_module = setting.name == "MODEL_PYTHON_SCRIPT" and path.suffix != ".py"
    return setting.name in PATHS and not is_module and path.exists()


def table(settings: Mapping[str, Setting]) -> list[str]:
    """The settings as lines for people, each with its source."""
    return [f"{s.name:<26} {s.value or '-':<40} ({s.source})" for s in settings.values()]


@dataclass(frozen=True)
class Size:
    """How large a job is: `procs` and `ppn` as the user says, `ranks` of MPI in all and on each of the `nodes`.

    With a server slot every node gets one rank more than `ppn`, which needs no device: on the first node the server, on
    the others nobody's but the leader's. Without one, the server is one of the `ppn` ranks of its node.
    """

    procs: int
    ppn: int
    nodes: int
    ranks: int
    ranks_per_node: int


def size(site: Site, settings: Mapping[str, Setting]) -> Size:
    """The size of a job. UserError if PROCS or PPN is no number, or PROCS leaves no worker."""
    count, ppn = procs(settings), _positive(settings["PPN"])
    if site.server_slot:
        nodes = -(-(count - 1) // ppn)
        return Size(count, ppn, nodes, count - 1 + nodes, ppn + 1)
    return Size(count, ppn, -(-count // ppn), count, ppn)


def procs(settings: Mapping[str, Setting]) -> int:
    """PROCS as a number. UserError if it is none, or leaves no worker."""
    value = settings["PROCS"].value
    if not value.isdecimal() or int(value) < 2:
        raise UserError(f"{settings['PROCS']}: give the number of ranks, one server and at least one worker")
    return int(value)


def _positive(setting: Setting) -> int:
    if not setting.value.isdecimal() or int(setting.value) < 1:
        raise UserError(f"{setting}: give a number of 1 or more")
    return int(setting.value)


def local_env(site: Site, settings: Mapping[str, Setting]) -> tuple[dict[str, str], ...]:
    """The variable that gives a worker its device, for the n-th rank of a node; more ranks than devices share them.

    UserError if PPN is no number. How many ranks there are in all does not matter: mpiexec may know better than PROCS.
    """
    if site.devices is None:
        return ({},)
    masks, ppn = site.devices.masks, _positive(settings["PPN"])
    workers = ({site.devices.variable: masks[place % len(masks)]} for place in range(ppn))
    return (*(({},) if site.server_slot else ()), *workers)


def placement(site: Site, settings: Mapping[str, Setting]) -> str:
    """Where the server sits, what that saves or costs, and which PROCS would leave no worker's place empty."""
    job = size(site, settings)
    what, room = ("device" if site.devices else "place"), job.nodes * job.ppn
    nodes = "1 node" if job.nodes == 1 else f"{job.nodes} nodes"
    text = f"{nodes} with {room} {what}s for {job.procs - 1} workers; "
    if not site.server_slot:
        text += f"the server takes a worker's {what}"
        return text if room == job.procs else f"{text}; PROCS={room} would use all"
    spared = -(-job.procs // job.ppn) - job.nodes
    text += f"the server has a CPU slot of its own, which saves a {'node' if spared else what}"
    return text if room == job.procs - 1 else f"{text}; PROCS={room + 1} would use all"


def benchmark_timeout(settings: Mapping[str, Setting]) -> float:
    """BENCHMARK_TIMEOUT in seconds, -1 for none. UserError if it is no number."""
    setting = settings["BENCHMARK_TIMEOUT"]
    try:
        limit = float(setting.value or -1)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise UserError(f"{setting}: give a number of seconds")
    return limit


def walltime(settings: Mapping[str, Setting], scheduler: str = "") -> float:
    """WALLTIME in seconds, as PBS and Slurm write it; infinite if not set.

    [HOURS:]MINUTES:SECONDS, or DAYS-HOURS[:MINUTES[:SECONDS]]. A number alone means seconds to PBS and minutes to
    Slurm and Flux, so it is understood on a site that has one of these only.
    """
    setting = settings["WALLTIME"]
    text = setting.value
    if not text:
        return math.inf
    limit = seconds(text)
    if limit is None and text.isdecimal() and scheduler:
        limit = float(text) * SCHEDULERS[scheduler].unit
    if not limit:
        raise UserError(f"{setting}: write it as HOURS:MINUTES:SECONDS")
    return limit


def exp_parent(settings: Mapping[str, Setting]) -> Path:
    """Where EXPs are: $CANDLE_DATA_DIR/$MODEL_NAME/Output, absolute."""
    return Path(settings["CANDLE_DATA_DIR"].value, settings["MODEL_NAME"].value, "Output").absolute()
