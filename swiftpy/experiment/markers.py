"""Marker files: the proof that a RUN is finished, and with which parameters.

`markers/<id>.json` is written by the server only. `markers/marker-%03i.txt` (by the parameter `index`) is
written by the post module, as in the original system; it counts together with the RUN's `result.txt`,
because two RUNs may have the same index, and because it is all that an EXP of the original system has.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swiftpy.experiment.exp import Exp
from swiftpy.experiment.files import replace_text


@dataclass(frozen=True, slots=True)
class Marker:
    """A finished RUN: `params` as merged, `value` as the RUN returned it, `finished` in Unix time.

    `epochs` and `stopped_early` repeat what `value` says of them, for scripts; `exp` is where it was trained.
    """

    id: str
    epochs: int | None
    stopped_early: bool
    hash: str
    params: dict[str, Any]
    value: dict[str, Any]
    finished: float
    exp: str


def write(exp: Exp, run_id: str, params: Mapping[str, Any], value: Mapping[str, Any], finished: float) -> None:
    """Record that the RUN is finished; it is on disk when this returns. OSError: it is not."""
    marker = Marker(
        id=run_id,
        epochs=value.get("epochs"),
        stopped_early=bool(value.get("stopped_early")),
        hash=params_hash(params),
        params=dict(params),
        value=dict(value),
        finished=finished,
        exp=exp.id,
    )
    replace_text(path(exp, run_id), json.dumps(asdict(marker), indent=1, default=str) + "\n")


def path(exp: Exp, run_id: str) -> Path:
    """The server's record of the RUN."""
    return exp.markers / f"{run_id}.json"


def params_hash(params: Mapping[str, Any]) -> str:
    """The same for equal parameters in any order."""
    canonical = json.dumps(params, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read_all(exp: Exp) -> dict[str, Marker]:
    """The records by RUN id. One that cannot be understood is no proof, so its RUN is not in the answer.

    OSError: the EXP may not be read. `glob` would find nothing there, and its RUNs be trained again.
    """
    try:
        files = [file for file in exp.markers.iterdir() if file.suffix == ".json"]
    except FileNotFoundError:
        return {}
    found = (_read(file) for file in files)
    return {marker.id: marker for marker in found if marker is not None}


def _read(file: Path) -> Marker | None:
    try:
        marker = Marker(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None
    return marker if marker.id == file.stem else None


def old_path(exp: Exp, params: Mapping[str, Any]) -> Path | None:
    """Where the post module writes the marker of a RUN with these parameters; None without `index`."""
    index = params.get("index")
    return exp.markers / f"marker-{index:03d}.txt" if isinstance(index, int) else None


def old_form_done(exp: Exp, run_id: str, params: Mapping[str, Any]) -> bool:
    """Whether the RUN is finished by the old form of marker, or has stopped early by its own criterion.

    The second is what a job leaves that dies after the training and before the post module. Both need a
    result: a word such as RUN_EXCEPTION in its place belongs to a failure. OSError: it may not be read.
    """
    run_dir = exp.run_dir(run_id)
    try:
        result = (run_dir / "result.txt").read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return False
    marker = old_path(exp, params)
    proof = (marker is not None and marker.exists()) or (run_dir / "stop.marker").exists()
    return proof and result not in ("", "RUN_EXCEPTION")
