"""Prelaunch hook: bring the software to every node's local disk, and let the workers run from it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hooks.node_local import keeps, place_of, setting
from swiftpy.runtime.group import Group
from swiftpy.runtime.stage import environment, stage_archive, stage_tree

if TYPE_CHECKING:
    from mpi4py import MPI


def stage_software(leaders: MPI.Comm, env: Mapping[str, str]) -> Generator[dict[str, str], None, None]:
    """Bring SOFTWARE_SOURCE, a tar or a directory that holds a Python environment, to every node; prints `hook time`.

    It goes beside SOFTWARE_TARGET, by default /tmp/$USER/software; see `node_local`. The workers' child processes run
    its `bin/python`. When the job is over, it is removed as `leader.stage_data` removes its copy.
    """
    began = time.monotonic()
    group = Group(leaders)
    source = group.together("use SOFTWARE_SOURCE", lambda: setting(env, "SOFTWARE_SOURCE"))
    beside = partial(place_of, env, "SOFTWARE_TARGET", "/tmp/$USER/software", source)
    place = group.together("use SOFTWARE_TARGET", beside)
    if group.broadcast(group.together(f"use {source}", lambda: group.rank == 0 and source.is_dir())):
        adapt = partial(environment.adapt, made_at=source)
        staged = stage_tree(leaders, source, place.copy_of, adapt=adapt, make_room=place.sweep)
    else:
        staged = stage_archive(leaders, source, place.copy_of, environment.adapt, place.sweep)
    try:
        group.together(f"use {place.path}", lambda: place.use(staged))
        root = group.together(f"run Python from {source}", lambda: _environment(staged.folder))
        what = f"{staged.size / 1e6:.1f} MB" if staged.files else "all nodes had it"
        print(f"staged {source} to {staged.folder}, {what}")
        print(f"hook time: {time.monotonic() - began:.3f}", flush=True)
        path = f"{root}/bin:{os.environ.get('PATH', '')}"
        yield {"SWIFTPY_PYTHON": f"{root}/bin/python", "VIRTUAL_ENV": str(root), "PATH": path}
    finally:
        place.leave(keeps(env))


def _environment(folder: Path) -> Path:
    root = environment.find(folder)
    if root is None:
        raise FileNotFoundError(None, "there is no bin/python in it", str(folder))
    if not (root / "bin" / "python").exists():
        raise FileNotFoundError(None, "what bin/python leads to is not on this node", str(root))
    if not os.access(root / "bin" / "python", os.X_OK):
        why = "its bin/python cannot be run, as where a disk is mounted noexec: set SOFTWARE_TARGET to another one"
        raise PermissionError(None, why, str(root))
    return root
