"""Pre and post module of a HED RUN: hold out one drug (or cell), put the tables where the model reads them, clean up.

`pre_run` finds the original tables in `input_dir` (or DATA_SOURCE). For our own Uno they stay where they are, and the
partition is a matter of indices. For any other model, or where `partition_files` is true, it leaves `input_dir` at a
directory of this RUN on the node's local disk, with the partition's files. Hyperparameters: `index` (which drug
or cell), `partition` (by_drug), `partition_seed` (1), `input_dir`, `partition_files`.
"""

import importlib.util
import json
import logging
import os
import zlib
from pathlib import Path
from typing import Any

from hed import arrays, local, tables
from hed.check import check, derived
from hed.devices import cfg_xpu
from hed.partition_uno_pq import DEFAULT_PARTITION, DEFAULT_SEED, Split, split_rows, write_split
from model_runner.ckpt.config import directory_of
from model_runner.files import write_file
from model_runner.results import RUN_EXCEPTION, ModelResult

__all__ = ["cfg_xpu", "check", "clean_up", "derived", "post_run", "pre_run"]

log = logging.getLogger("RUNNER.hed_setup")

RECORD = "partition.json"  # in the RUN directory: what was held out, for people and for analysis


def pre_run(params: dict[str, Any]) -> ModelResult:
    """Partition the responses; set `input_dir`, `output_dir`, `data_checksum` and keys of the partition in `params`.

    SKIP if this RUN has finished. Raises ValueError, IndexError or OSError saying what is wrong with the
    data or the index.
    """
    run = Path(params["instance_directory"])
    if _finished(params):
        return ModelResult.SKIP
    params.setdefault("partition", DEFAULT_PARTITION)
    params.setdefault("partition_seed", DEFAULT_SEED)
    source = tables.source_directory(params.get("input_dir"), os.environ.get("DATA_SOURCE"))
    params[tables.CHECKSUM] = tables.checksum(source)
    node_dir = arrays.local_directory(source)
    if params.get("partition_files") is None:  # not given, or null in DFLTS
        params["partition_files"] = not _takes_arrays(params)
    if params["partition_files"]:
        split = _write_files(params, run, source, node_dir)
    else:
        split = arrays.split(arrays.open_arrays(source, arrays.columns(params), node_dir), source, params)
        _record(run, params, split)
        params["input_dir"], params["node_dir"] = str(source), str(node_dir)
    params["output_dir"] = str(run)
    if params.get("framework", "keras") == "keras":
        log.info("device: %s", cfg_xpu() or "CPU")
    log.info("%s %s, rows: %s", params["partition"], split.name or "", split.sizes())
    return ModelResult.SUCCESS


def _takes_arrays(params: dict[str, Any]) -> bool:
    """Whether the model is Uno of this project, which needs no files: users may have another one of that name."""
    ours = importlib.util.find_spec("hed.uno.unorun")
    return ours is not None and ours.origin is not None and params.get("model_file") == ours.origin


def _write_files(params: dict[str, Any], run: Path, source: Path, node_dir: Path) -> Split:
    """Partition into files in a directory of this RUN, which becomes `input_dir`."""
    responses = source / tables.RSP
    split = split_rows(responses, params["partition"], params.get("index"), params["partition_seed"])
    _record(run, params, split)
    local.sweep(node_dir, f"index-*-{os.uname().nodename}")  # what RUNs left that were killed
    instance = node_dir / _local_name(params)
    local.make(instance)
    try:
        write_split(responses, split, str(instance / "rsp_@@@_data.parquet"))
        _link_features(source, instance)
    except BaseException:  # a full disk must not stay full
        local.remove(instance)
        raise
    params["input_dir"] = str(instance)
    return split


def post_run(params: dict[str, Any], output_map: dict[str, Any]) -> ModelResult:
    """Write the marker of this index and remove the RUN's directory from the local disk."""
    marker = _marker(params)
    if marker:
        marker.parent.mkdir(exist_ok=True)
        write_file(marker, "DONE\n")
    clean_up(params)
    return ModelResult.SUCCESS


def clean_up(params: dict[str, Any]) -> None:
    """Remove the RUN's directory from the local disk, also of one that failed, be it in `pre_run`."""
    instance = Path(params.get("input_dir") or "")
    if instance.name == _local_name(params):
        local.remove(instance)


def _finished(params: dict[str, Any]) -> bool:
    # A marker is keyed by index alone. Of two RUNs with one index it does not say which has finished; and
    # the one that failed beside the one that finished must not be skipped. The RUN's own result says that.
    marker = _marker(params)
    result = Path(params["instance_directory"]) / "result.txt"
    if marker is None or not marker.exists() or not result.exists():
        return False
    return result.read_text(encoding="utf-8").strip() not in ("", RUN_EXCEPTION)


def _marker(params: dict[str, Any]) -> Path | None:
    index = params.get("index")
    if not isinstance(index, int):
        return None  # a random partition: the server's own marker tells a restart that the RUN is done
    return Path(params["instance_directory"]).parents[1] / "markers" / f"marker-{index:03}.txt"


def _record(run: Path, params: dict[str, Any], split: Split) -> None:
    # Checkpoints are of use only with the rows that they were trained on. Other data under the same path
    # would make validation rows of what were training rows, and nobody would see it in the scores.
    # A ckpt_directory of the user's own outlives the EXP, unlike the RUN directory: so the record lies there, too.
    checkpoints = directory_of({**params, "output_dir": str(run)})
    places = {run, checkpoints} if params.get("ckpt_directory") else {run}
    record = {key: params.get(key) for key in ("partition", "index", "partition_seed")}
    record |= {"name": split.name, "rows": split.sizes(), tables.CHECKSUM: params[tables.CHECKSUM]}
    for place in places:
        path = place / RECORD
        if not (checkpoints / "epochs").exists() or not path.exists():
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        if record != {tables.CHECKSUM: record[tables.CHECKSUM], **before}:  # which older records lack
            raise ValueError(
                f"the checkpoints of {run.name} come from other data (then {before}, now {record}): "
                f"bring the data back, or remove {checkpoints} and restart, to start it anew"
            )
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        write_file(place / RECORD, json.dumps(record) + "\n")


def _local_name(params: dict[str, Any]) -> str:
    # Two RUNs may have one index, two EXPs RUNs of one id, and two CANDLE_DATA_DIRs an EXP001: the checksum
    # of the RUN directory's path keeps them apart on a node.
    run = Path(params["instance_directory"])
    index = params.get("index")
    number = f"{index:03}" if isinstance(index, int) else "none"
    name = f"index-{number}-{run.parents[1].name}-{run.name}"[:150]
    return f"{name}-{zlib.crc32(os.fsencode(run)):08x}-{os.uname().nodename}"


def _link_features(source: Path, instance: Path) -> None:
    for table in (tables.GE, tables.MD):
        for name in ("merged", "train", "val", "test"):
            (instance / table.replace("merged", name)).symlink_to(source / table)
