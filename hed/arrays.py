"""The three tables of a data set as plain arrays, made once per node and mapped into the memory of its processes.

Parquet takes tenths of a second to decode, in each process, into memory of each. Here the first process to come writes
the arrays beside the data's local copy; all others map these files, and the node holds each byte once. A directory of
arrays appears complete or not at all, and its name tells which state of which tables it was made from: tables that
change, or are staged anew, get another one. What was made from tables that are no longer there as they were is removed
by the next process that comes.
"""

import contextlib
import dataclasses
import functools
import getpass
import json
import logging
import os
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hed import local, tables
from hed.partition_uno_pq import Split, id_column, split_ids

FORMAT = 2
NAMES = "names.json"
_CHECKSUM = "[0-9a-f]" * 8  # as a pattern of file names

log = logging.getLogger("RUNNER.hed_setup")


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """One row of features per cell line or drug: `ids` (strings), `matrix` (float32, rows x features)."""

    ids: pa.Array
    matrix: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """A data set: features, and for each response the codes of its cell and its drug, and its value `y` (float32).

    `cell_rows` and `drug_rows` (int32) are the rows of features of each name of `cell` and `drug`, -1 where it has
    none, and a last -1 for responses without an identifier, whose code is -1.
    """

    cells: Features
    drugs: Features
    cell: tables.Ids
    drug: tables.Ids
    cell_rows: np.ndarray
    drug_rows: np.ndarray
    y: np.ndarray


class Columns(NamedTuple):
    """Names of the columns of cells, drugs and responses."""

    cell: str
    drug: str
    y: str


#: The hyperparameters that hold these names.
COLUMN_KEYS = Columns("canc_col_name", "drug_col_name", "y_col_name")
_USUAL = Columns(tables.CELL, tables.DRUG, tables.RESPONSE)


def columns(params: Mapping[str, Any]) -> Columns:
    """The names that a RUN's hyperparameters give, or the usual ones."""
    return Columns(*(str(params.get(key, default)) for key, default in zip(COLUMN_KEYS, _USUAL, strict=True)))


def split(arrays: Arrays, source: Path, params: Mapping[str, Any]) -> Split:
    """The partition that `partition`, `index` and `partition_seed` describe; see `partition_uno_pq`."""
    column, names, ids = id_column(params["partition"]), columns(params), None
    if column is not None:
        known = {names.cell: arrays.cell, names.drug: arrays.drug}
        ids = known[column] if column in known else tables.read_ids(source / tables.RSP, column)
    return split_ids(ids, len(arrays.y), params["partition"], params.get("index"), params["partition_seed"])


def local_directory(source: Path) -> Path:
    """Where this node keeps what belongs to the data in `source`: beside a staged copy, else the user's in /tmp.

    TMP_ORIGINAL in the environment names the staged copy. Any other data is read where it lies, which may be a file
    system that all nodes share, and whose owner expects nothing beside it. PermissionError where another user has made
    the user's own.
    """
    if str(source) == os.environ.get("TMP_ORIGINAL"):
        return source.parent
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container started with a number that is not in its passwd
        user = f"uid{os.getuid()}"
    folder = Path(tempfile.gettempdir()) / user
    with contextlib.suppress(OSError):  # it is there; or the arrays are the process' own, see `open_arrays`
        folder.mkdir(mode=0o700)
    # Who came first to /tmp/alice may put other data there, under names that follow from what all may read.
    if folder.exists() and folder.stat(follow_symlinks=False).st_uid not in (os.geteuid(), folder.parent.stat().st_uid):
        raise PermissionError(f"{folder} belongs to another user: set TMPDIR to a directory of your own")
    return folder


def open_arrays(source: Path, names: Columns, directory: Path) -> Arrays:
    """The data set in `source`; its arrays are in `directory`, or are put there if they are not.

    Raises ValueError or FileNotFoundError, naming the table, where it lacks a column or holds features that are not
    finite. Where `directory` cannot be written to, the arrays are this process's own.
    """
    return _open(source, names, directory / _name(source, names))


@functools.lru_cache(maxsize=1)
def _open(source: Path, names: Columns, target: Path) -> Arrays:
    _sweep(target.parent)
    try:
        return _load(target)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError) as error:  # the node went down before the files were on its disk
        log.warning("%s is damaged, and made again: %s", target, error)
        shutil.rmtree(target, ignore_errors=True)
    made = _make(source, names)
    try:
        _save(made, target, source, names)
        return _load(target)
    except (OSError, ValueError) as error:
        log.warning("no arrays in %s for this node's processes to share: %s", target.parent, error)
        return made


def _name(source: Path, names: Columns) -> str:
    """Of the directory for these tables as they are now."""
    versions = tuple(tables.file_version(source / table) for table in (tables.RSP, tables.GE, tables.MD))
    return f"arrays-{_checksum(FORMAT, source, names)}-{_checksum(versions)}"


def _checksum(*values: object) -> str:
    return f"{zlib.crc32(repr(values).encode()):08x}"


def _sweep(directory: Path) -> None:
    """Remove arrays of tables that have changed or are gone, and what a process was writing when it was killed.

    Whoever has mapped such arrays keeps them: a file goes when the last process that uses it does. `directory` is the
    user's, too, who may keep things called arrays-... there.
    """
    name = f"arrays-{_CHECKSUM}-{_CHECKSUM}"
    for path in directory.glob(name):
        if (path / NAMES).is_file() and not _is_current(path):
            shutil.rmtree(path, ignore_errors=True)
    local.sweep(directory, f".{name}.{_CHECKSUM}.{os.uname().nodename}")


def _is_current(path: Path) -> bool:
    try:
        source, names = json.loads((path / NAMES).read_text(encoding="utf-8"))["tables"]
        return path.name == _name(Path(source), Columns(*names))
    except (OSError, ValueError, KeyError):
        return False


def _save(arrays: Arrays, target: Path, source: Path, columns: Columns) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.{os.uname().nodename}")
    local.make(temporary)
    try:
        parts = {
            "cells": arrays.cells.matrix,
            "drugs": arrays.drugs.matrix,
            "cell": arrays.cell.codes,
            "drug": arrays.drug.codes,
            "cell_rows": arrays.cell_rows,
            "drug_rows": arrays.drug_rows,
            "y": arrays.y,
        }
        for name, values in parts.items():
            np.save(temporary / f"{name}.npy", values)
        names = {
            "tables": [str(source), columns],
            "cells": arrays.cells.ids.to_pylist(),
            "drugs": arrays.drugs.ids.to_pylist(),
            "cell": arrays.cell.names,
            "drug": arrays.drug.names,
        }
        (temporary / NAMES).write_text(json.dumps(names), encoding="utf-8")
        temporary.rename(target)
    except OSError:
        if not target.exists():  # or another process was faster
            raise
    finally:
        local.remove(temporary)


def _load(target: Path) -> Arrays:
    names = json.loads((target / NAMES).read_text(encoding="utf-8"))
    # Copy on write, and nobody writes: TensorFlow takes over no memory that is read-only.
    mapped = {path.stem: np.load(path, mmap_mode="c") for path in target.glob("*.npy")}
    return Arrays(
        Features(pa.array(names["cells"], pa.string()), mapped["cells"]),
        Features(pa.array(names["drugs"], pa.string()), mapped["drugs"]),
        tables.Ids(names["cell"], mapped["cell"]),
        tables.Ids(names["drug"], mapped["drug"]),
        mapped["cell_rows"],
        mapped["drug_rows"],
        mapped["y"],
    )


def _make(source: Path, names: Columns) -> Arrays:
    responses = source / tables.RSP
    tables.require_columns(responses, *names)
    cells = read_features([source / tables.GE], names.cell, "ge.")
    drugs = read_features([source / tables.MD], names.drug, "mordred.")
    cell, drug = (tables.read_ids(responses, column) for column in (names.cell, names.drug))
    y = pq.read_table(responses, columns=[names.y])[names.y].to_numpy().astype(np.float32)
    return Arrays(cells, drugs, cell, drug, _rows_of_names(cell, cells), _rows_of_names(drug, drugs), y)


def _rows_of_names(ids: tables.Ids, features: Features) -> np.ndarray:
    return np.append(feature_rows(pa.array(ids.names, pa.string()), features), np.int32(-1))


def read_features(paths: list[Path], id_name: str, prefix: str) -> Features:
    """The features in the columns `prefix`* of Parquet tables, of each identifier the first row (see `ambiguous`).

    Raises ValueError, naming the table, where it lacks columns or a feature is not finite.
    """
    for path in paths:
        tables.require_columns(path, id_name, prefix=prefix)
    named = _prefixed(paths[0], prefix)
    parts = [pq.read_table(path, columns=[id_name, *named]) for path in paths]
    table = pa.concat_tables(parts, promote_options="permissive")
    ids = strings(table[id_name])
    first = np.unique(np.asarray(pc.index_in(ids, value_set=ids)))
    matrix = _matrix(table, named)[first]
    if not np.isfinite(matrix).all():
        bad = np.count_nonzero(~np.isfinite(matrix))
        raise ValueError(f"{paths[0]}: {bad} values are missing or not finite: every prediction would be NaN")
    return Features(ids.take(pa.array(first)), matrix)


def ambiguous(path: Path, id_name: str, prefix: str) -> list[str]:
    """The identifiers that have several rows in a Parquet table, with different features in the columns `prefix`*."""
    ids = tables.read_ids(path, id_name)
    rows = np.flatnonzero(ids.codes >= 0)
    if len(rows) == len(ids.names):  # as nearly always: no feature need be read
        return []
    codes, named = ids.codes[rows], _prefixed(path, prefix)
    matrix = _matrix(pq.read_table(path, columns=named), named)[rows]
    _, first = np.unique(codes, return_index=True)
    other = (matrix != matrix[first[codes]]).any(axis=1)
    return [ids.names[code] for code in np.unique(codes[other])]


def _prefixed(path: Path, prefix: str) -> list[str]:
    return [name for name in pq.read_schema(path).names if name.startswith(prefix)]


def _matrix(table: pa.Table, named: list[str]) -> np.ndarray:
    matrix: np.ndarray = np.column_stack([table[name].to_numpy() for name in named]).astype(np.float32)
    return matrix


def strings(column: pa.ChunkedArray) -> pa.Array:
    """Identifiers as strings: they may be plain, large or dictionary strings, or numbers, in each table otherwise."""
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in column.chunks] or [pa.array([], pa.string())])


def feature_rows(ids: pa.Array, features: Features) -> np.ndarray:
    """Each identifier's row of `features` (int32), -1 where it has none."""
    found = pc.index_in(ids, value_set=features.ids, skip_nulls=True)
    return np.asarray(found.fill_null(-1), np.int32)
