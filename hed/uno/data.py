"""The data of one RUN, read once: feature tables as matrices, responses as indices into them.

Source: the three Parquet tables of a preprocessed IMPROVE data set, of which `input_dir` holds the responses
split into train, val and test. Knows no TensorFlow and no hyperparameters but the names of columns.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hed import tables

STAGES = ("train", "val", "test")

log = logging.getLogger("RUNNER.unorun")


@dataclass(frozen=True)
class Features:
    """One row of features per cell line or drug: `ids` (strings), `matrix` (float32, rows x features)."""

    ids: pa.Array
    matrix: np.ndarray


@dataclass(frozen=True)
class Responses:
    """Measured responses as columns: feature rows of cell and drug (int32), `y` (float32), cell ids."""

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

    Raises FileNotFoundError for a missing table and ValueError, naming the file, where a table is empty,
    lacks a column, or holds features that are not finite.
    """
    folder = Path(params["input_dir"])
    cell_id = params.get("canc_col_name", tables.CELL)
    drug_id = params.get("drug_col_name", tables.DRUG)
    cells = _features(folder, tables.GE, cell_id, "ge.")
    drugs = _features(folder, tables.MD, drug_id, "mordred.")
    y_name = params.get("y_col_name", tables.RESPONSE)
    split = {
        stage: _responses(folder / f"rsp_{stage}_data.parquet", (cell_id, drug_id, y_name), cells, drugs)
        for stage in STAGES
    }
    return Data(cells, drugs, **split)


def _features(folder: Path, merged: str, id_name: str, prefix: str) -> Features:
    """The merged table, or the union of the three tables that IMPROVE's preprocessing writes instead."""
    paths = [folder / merged]
    if not paths[0].exists():
        paths = [folder / merged.replace("merged", stage) for stage in STAGES]
        paths = [path for path in paths if path.exists()]
    if not paths:
        raise FileNotFoundError(f"no {merged} (nor {merged.replace('merged', 'train')}) in {folder}")
    for path in paths:
        tables.require_columns(path, id_name, prefix=prefix)
    columns = [name for name in pq.read_schema(paths[0]).names if name.startswith(prefix)]
    parts = [pq.read_table(path, columns=[id_name, *columns]) for path in paths]
    table = pa.concat_tables(parts, promote_options="permissive")
    ids = _strings(table[id_name])
    # The same cell or drug is in more than one of the three tables: its first row counts.
    first = np.unique(np.asarray(pc.index_in(ids, value_set=ids)))
    matrix = np.column_stack([table[name].to_numpy() for name in columns]).astype(np.float32)[first]
    if not np.isfinite(matrix).all():
        bad = np.count_nonzero(~np.isfinite(matrix))
        raise ValueError(f"{paths[0]}: {bad} values are missing or not finite: every prediction would be NaN")
    return Features(ids.take(pa.array(first)), matrix)


def _responses(path: Path, names: tuple[str, str, str], cells: Features, drugs: Features) -> Responses:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path.name} in {path.parent}: partition the responses first (pre_module hed_setup)"
        )
    tables.require_columns(path, *names)
    table = pq.read_table(path, columns=list(names))
    if not len(table):
        raise ValueError(f"{path}: the {path.name.split('_')[1]} set is empty")
    labels, drug_ids = _strings(table[names[0]]), _strings(table[names[1]])
    cell, drug = _rows(labels, cells), _rows(drug_ids, drugs)
    y = table[names[2]].to_numpy().astype(np.float32)
    keep = (cell >= 0) & (drug >= 0) & np.isfinite(y)
    if not keep.all():
        log.warning(
            "%s: %d of %d responses are left out: %d without features of the cell, %d of the drug, %d without a value",
            path.name,
            *(np.count_nonzero(~keep), len(y)),
            *(np.count_nonzero(cell < 0), np.count_nonzero(drug < 0), np.count_nonzero(~np.isfinite(y))),
        )
    if not keep.any():
        raise ValueError(f"{path}: none of the {len(y)} responses has a value, and features of its cell and drug")
    return Responses(cell[keep], drug[keep], y[keep], labels.filter(pa.array(keep)))


def _strings(column: pa.ChunkedArray) -> pa.Array:
    # Ids may be plain, large or dictionary strings, or numbers, and differently so in tables to be matched.
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in column.chunks] or [pa.array([], pa.string())])


def _rows(ids: pa.Array, features: Features) -> np.ndarray:
    """Each id's row of `features` (int32), -1 where it has none."""
    found = pc.index_in(ids, value_set=features.ids, skip_nulls=True)
    return np.asarray(found.fill_null(-1), np.int32)
