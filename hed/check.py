"""What can be known of HED parameter sets and their tables before anything starts."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hed import arrays, tables
from hed.partition_uno_pq import DEFAULT_PARTITION, DEFAULT_SEED, check_index, id_column
from model_runner.params import is_tmp_original

log = logging.getLogger("RUNNER.hed_setup")


@dataclass(frozen=True)
class _Data:
    """Columns of each table, and which of the responses' are numbers; by column of identifiers: names, and how many
    usable responses each has.
    """

    columns: dict[str, list[str]]
    numbers: set[str]
    names: dict[str, list[str]]
    usable: dict[str, np.ndarray]


def check(param_sets: Sequence[Mapping[str, Any]], data_dir: str | None) -> list[tuple[int, str]]:
    """Problems of parameter sets as (number of the set, one line), in order; `data_dir` is DATA_SOURCE.

    Each table is read once. What is wrong with tables is said once, at the first set that uses them. A
    response without features is no problem, since training leaves it out, unless nothing would remain to
    test. Nor are several rows of features of one drug or cell, of which the first is taken. Warnings tell of both.
    """
    by_input: dict[str, list[int]] = {}
    for number, params in enumerate(param_sets):
        by_input.setdefault(str(params.get("input_dir") or ""), []).append(number)
    problems = []
    for input_dir, numbers in by_input.items():
        data = None
        try:
            data = _read(_source(input_dir, data_dir))
        except (ValueError, OSError, pa.ArrowException) as error:
            problems.append((numbers[0], str(error).replace("\n", " ")))
        for number in numbers:
            try:
                _check_set(param_sets[number], data)
            except (ValueError, IndexError) as error:
                problems.append((number, str(error)))
    return sorted(problems)


def derived(param_sets: Sequence[Mapping[str, Any]], data_dir: str | None) -> list[dict[str, str]]:
    """For each set what `pre_run` records of the data: a RUN that goes on with other data is not what it was."""
    sources = (_source(str(params.get("input_dir") or ""), data_dir) for params in param_sets)
    return [{tables.CHECKSUM: tables.checksum(source)} for source in sources]


def _source(input_dir: str, data_dir: str | None) -> Path:
    # What lies at TMP-ORIGINAL now is an earlier job's copy: DATA_SOURCE will be staged over it.
    return tables.source_directory(input_dir, data_dir, local_first=not is_tmp_original(input_dir))


def _check_set(params: Mapping[str, Any], data: _Data | None) -> None:
    if data is not None:
        names = arrays.columns(params)
        _require_columns(names, data.columns)
        if names.y not in data.numbers:
            raise ValueError(f"y_col_name {names.y}: this column of {tables.RSP} holds no numbers")
    files = params.get("partition_files")
    if not isinstance(files, (bool, type(None))):
        raise ValueError(f"partition_files must be true or false, not {files!r}")
    partition = str(params.get("partition", DEFAULT_PARTITION))
    column = id_column(partition)
    seed = params.get("partition_seed", DEFAULT_SEED)
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"partition_seed must be an integer from 0 on, not {seed!r}")
    if column is None:
        return
    count = sys.maxsize if data is None else len(data.names[column])
    index = check_index(partition, params.get("index"), count)
    if data is not None and data.usable[column][index] == 0:
        raise ValueError(
            f"index {index} is {data.names[column][index]}, which has no response with features in both "
            f"{tables.GE} and {tables.MD}: there would be nothing to test"
        )


def _require_columns(names: arrays.Columns, there: dict[str, list[str]]) -> None:
    # Such a name is the user's, so it is looked for in the tables' own columns; features are thousands.
    keys = arrays.COLUMN_KEYS
    needed = [(tables.RSP, *named) for named in zip(keys, names, strict=True)]
    for table, key, name in (*needed, (tables.GE, keys.cell, names.cell), (tables.MD, keys.drug, names.drug)):
        if name not in there[table]:
            some = ", ".join(there[table][:8]) + (", ..." if len(there[table]) > 8 else "")
            raise ValueError(f"{key} {name}: {table} has no such column; it has {some}")


def _read(source: Path) -> _Data:
    for table, columns, prefix in (
        (tables.RSP, (tables.DRUG, tables.CELL), None),
        (tables.GE, (tables.CELL,), "ge."),
        (tables.MD, (tables.DRUG,), "mordred."),
    ):
        try:
            tables.require_columns(source / table, *columns, prefix=prefix)
        except (OSError, pa.ArrowException) as error:
            reason = "no such table" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            raise ValueError(f"{source / table}: {reason}") from error
    drugs = tables.read_ids(source / tables.RSP, tables.DRUG)
    cells = tables.read_ids(source / tables.RSP, tables.CELL)
    has_drug = _featured(drugs, source / tables.MD, tables.DRUG, "drugs")
    has_cell = _featured(cells, source / tables.GE, tables.CELL, "cells")
    _warn_of_ambiguous(source / tables.MD, tables.DRUG, "mordred.", "drugs")
    _warn_of_ambiguous(source / tables.GE, tables.CELL, "ge.", "cells")
    usable = has_drug[drugs.codes] & has_cell[cells.codes]
    if not usable.any():
        raise ValueError(f"{source}: no response has features in both {tables.GE} and {tables.MD}")
    return _Data(
        {table: pq.read_schema(source / table).names for table in (tables.RSP, tables.GE, tables.MD)},
        {field.name for field in pq.read_schema(source / tables.RSP) if _is_number(field.type)},
        {tables.DRUG: drugs.names, tables.CELL: cells.names},
        {
            tables.DRUG: np.bincount(drugs.codes[usable], minlength=len(drugs.names)),
            tables.CELL: np.bincount(cells.codes[usable], minlength=len(cells.names)),
        },
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _featured(ids: tables.Ids, table: Path, column: str, what: str) -> np.ndarray:
    """Which of the names have a row in `table`; one more False at the end, for code -1."""
    known = set(tables.read_ids(table, column).names)
    missing = [name for name in ids.names if name not in known]
    if missing:
        log.warning(
            "%d of %d %s have no row in %s: their responses are left out (%s)",
            len(missing),
            len(ids.names),
            what,
            table,
            _some(missing),
        )
    return np.array([name in known for name in ids.names] + [False])


def _warn_of_ambiguous(table: Path, column: str, prefix: str, what: str) -> None:
    names = arrays.ambiguous(table, column, prefix)
    if names:
        log.warning(
            "%d %s have rows with different features in %s: the first row of each is taken (%s)",
            len(names),
            what,
            table,
            _some(names),
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
