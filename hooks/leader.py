"""Leader hook: bring the training data from DATA_SOURCE to every node's local disk, read once for all nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hooks.node_local import keeps, place_of
from swiftpy.runtime.group import Group
from swiftpy.runtime.stage import stage_tree

if TYPE_CHECKING:
    from mpi4py import MPI


def stage_data(leaders: MPI.Comm, env: Mapping[str, str]) -> Generator[dict[str, str], None, None]:
    """Bring `DATA_SOURCE/*.parquet` to TMP-ORIGINAL on every node; prints `hook time`.

    TMP-ORIGINAL is `TMP_ORIGINAL` in the environment, by default /tmp/$USER/original; see `node_local` for what lies
    there. RUNs find their job's copy as TMP_ORIGINAL, and where users wrote TMP-ORIGINAL itself as `input_dir`. When
    the job is over, the copy is removed unless STAGE_KEEP is set or another job uses it. Without DATA_SOURCE nothing
    is done.
    """
    began = time.monotonic()
    named = {**os.environ, **env}.get("DATA_SOURCE")
    if not named:
        print("DATA_SOURCE is not set: no data is staged")
        return
    group = Group(leaders)
    # As it is written, like the check before the job takes it.
    source = group.together("use DATA_SOURCE", lambda: Path(named).expanduser().absolute())
    place = group.together("use TMP_ORIGINAL", lambda: place_of(env, "TMP_ORIGINAL", "/tmp/$USER/original", source))
    names = group.broadcast(group.together(f"list {source}", lambda: _list(source) if group.rank == 0 else None))
    staged = stage_tree(leaders, source, place.copy_of, names, make_room=place.sweep)
    try:
        group.together(f"use {place.path}", lambda: place.use(staged))
        copy = group.together(f"use {place.path}", lambda: place.own(env.get("EXPID", "")))
        if place.removed:
            print(f"removed what nobody uses any more: {', '.join(place.removed)}")
        print(f"staged {staged.files} of {len(names)} files ({staged.size / 1e6:.1f} MB) from {source} to {copy}")
        print(f"hook time: {time.monotonic() - began:.3f}", flush=True)
        variables = {"TMP_ORIGINAL": str(copy), "TMP_ORIGINAL_LINK": str(place.path)}
        # Slurm hands on the login node's TMPDIR, which need not be on this one.
        has_own = os.path.isdir(os.environ.get("TMPDIR", ""))  # noqa: PTH112 - Path's raises where it may not look
        yield variables if has_own else {**variables, "TMPDIR": str(copy.parent / "tmp")}
    finally:
        place.leave(keeps(env))


def _list(source: Path) -> list[str]:
    names = sorted(path.name for path in source.glob("*.parquet"))
    if not names:
        raise FileNotFoundError(None, "it holds no *.parquet files: is DATA_SOURCE right?", str(source))
    return names
