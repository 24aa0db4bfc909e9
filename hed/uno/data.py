"""The data of one RUN: feature tables as matrices, responses as indices into them.

Source: a preprocessed IMPROVE data set. Either `input_dir` holds its three merged tables, of which the RUN's share is
chosen here, or the responses split into train, val and test by somebody else. Knows no TensorFlow, and of the
hyperparameters those that name tables, columns and the partition.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hed import arrays, tables
from hed.arrays import Features, feature_rows, read_features, strings

STAGES = ("train", "val", "test")

log = logging.getLogger("RUNNER.unorun")


@dataclass(frozen=True)
class Responses:
    """Measured responses as columns: feature rows of cell and drug (int32), `y` (float32), cell ids.

    `labels` are strings or a dictionary of them.
    """

    cell: np.ndarray
    drug: np.ndarray
    y: np.ndarray
    labels: pa.Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Data:
    """Everything a RUN reads."""

    cells: Features
    drugs: Features
    train: Responses
    val: Responses
    test: Responses


def load(params: Mapping[str, Any]) -> Data:
    """Read the tables in `input_dir`.

    Where hed_setup has set `partition_files` to false, these are the merged ones, and `node_dir` is where the processes
    of this node share their arrays. Raises FileNotFoundError for a missing table and ValueError, naming the file, where
    a table is empty, lacks a column, or holds features that are not finite.
    """
    folder, names = Path(params["input_dir"]), arrays.columns(params)
    if params.get("partition_files") is False:
        return _from_arrays(params, folder, names)
    cells = read_features(_feature_tables(folder, tables.GE), names.cell, "ge.")
    drugs = read_features(_feature_tables(folder, tables.MD), names.drug, "mordred.")
    split = {stage: _responses(folder / f"rsp_{stage}_data.parquet", names, cells, drugs) for stage in STAGES}
    return Data(cells, drugs, **split)


def _from_arrays(params: Mapping[str, Any], folder: Path, names: arrays.Columns) -> Data:
    table = arrays.open_arrays(folder, names, Path(params["node_dir"]))
    rows = arrays.split(table, folder, params)
    labels = pa.array(table.cell.names, pa.string())
    split = {}
    for stage in STAGES:
        mine = getattr(rows, stage)
        code = table.cell.codes[mine]
        cell, drug = table.cell_rows[code], table.drug_rows[table.drug.codes[mine]]
        known = pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), labels)
        split[stage] = _usable(stage, folder / tables.RSP, cell, drug, table.y[mine], known)
    return Data(table.cells, table.drugs, **split)


def _feature_tables(folder: Path, merged: str) -> list[Path]:
    """The merged table, or the three tables that IMPROVE's preprocessing writes instead, to be united."""
    if (folder / merged).exists():
        return [folder / merged]
    paths = [path for stage in STAGES if (path := folder / merged.replace("merged", stage)).exists()]
    if not paths:
        raise FileNotFoundError(f"no {merged} (nor {merged.replace('merged', 'train')}) in {folder}")
    return paths


def _responses(path: Path, names: arrays.Columns, cells: Features, drugs: Features) -> Responses:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path.name} in {path.parent}: partition the responses first (pre_module hed_setup)"
        )
    tables.require_columns(path, *names)
    table = pq.read_table(path, columns=list(names))
    labels, drug_ids = strings(table[names.cell]), strings(table[names.drug])
    cell, drug = feature_rows(labels, cells), feature_rows(drug_ids, drugs)
    return _usable(path.name.split("_")[1], path, cell, drug, table[names.y].to_numpy().astype(np.float32), labels)


def _usable(stage: str, path: Path, cell: np.ndarray, drug: np.ndarray, y: np.ndarray, labels: pa.Array) -> Responses:
    """The responses with features and a value; the others are counted and left out."""
    if not len(y):
        raise ValueError(f"{path}: the {stage} set is empty")
    keep = (cell >= 0) & (drug >= 0) & np.isfinite(y)
    if keep.all():
        return Responses(cell, drug, y, labels)
    log.warning(
        "%s: %d of %d %s responses are left out: %d without features of the cell, %d of the drug, %d without a value",
        path.name,
        np.count_nonzero(~keep),
        len(y),
        stage,
        *(np.count_nonzero(cell < 0), np.count_nonzero(drug < 0), np.count_nonzero(~np.isfinite(y))),
    )
    if not keep.any():
        raise ValueError(
            f"{path}: none of the {len(y)} {stage} responses has a value, and features of its cell and drug"
        )
    return Responses(cell[keep], drug[keep], y[keep], labels.filter(pa.array(keep)))
