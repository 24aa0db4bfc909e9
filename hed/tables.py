"""The three tables of a preprocessed IMPROVE data set: names of files and columns, identifiers in a column.

What is read is kept in the process as long as the file does not change, because one process runs many RUNs.
"""

import functools
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_runner.params import expand

RSP = "rsp_merged.parquet"  # one row per measured response of a cell line to a drug
GE = "ge_merged_data.parquet"  # one row per cell line: gene expression, columns ge.*
MD = "md_merged_data.parquet"  # one row per drug: Mordred descriptors, columns mordred.*

DRUG = "improve_chem_id"
CELL = "improve_sample_id"
RESPONSE = "auc"
#: The hyperparameter that holds the `checksum` of the tables of a RUN.
CHECKSUM = "data_checksum"


class Ids(NamedTuple):
    """The identifiers of a column: `names` in order of first appearance, `codes` (int32 per row) into them.

    A row without an identifier has code -1.
    """

    names: list[str]
    codes: np.ndarray


def file_version(path: Path) -> tuple[int, int]:
    """What changes when the file does: modification time (ns) and size. FileNotFoundError without it."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def checksum(source: Path) -> str:
    """CRC32 of the three tables in `source`, byte by byte. FileNotFoundError if one is missing."""
    return _checksum(tuple((source / table, file_version(source / table)) for table in (RSP, GE, MD)))


@functools.lru_cache(maxsize=4)
def _checksum(versions: tuple[tuple[Path, tuple[int, int]], ...]) -> str:
    crc = 0
    for path, _ in versions:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                crc = zlib.crc32(block, crc)
    return f"crc32:{crc:08x}"


def read_ids(path: Path, column: str) -> Ids:
    """The identifiers in `column` of the Parquet table `path`; ValueError if there is no such column."""
    return _read_ids(path, file_version(path), column)


def require_columns(path: Path, *columns: str, prefix: str | None = None) -> None:
    """ValueError naming what the Parquet table lacks: some of `columns`, or any column named `prefix`*."""
    names = pq.read_schema(path).names
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    if prefix and not any(name.startswith(prefix) for name in names):
        raise ValueError(f"{path} has no column {prefix}*")


@functools.lru_cache(maxsize=4)
def _read_ids(path: Path, version: tuple[int, int], column: str) -> Ids:
    require_columns(path, column)
    values = pq.read_table(path, columns=[column], read_dictionary=[column])[column]
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    encoded = values.unify_dictionaries().combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    order = _first_appearance(codes, len(encoded.dictionary))
    rank = np.full(len(encoded.dictionary) + 1, -1, np.int32)  # the last entry is what code -1 finds
    rank[order] = np.arange(len(order), dtype=np.int32)
    # As text by Arrow, as `arrays.strings` and list_drugs.py make it: of a column with a gap pandas makes floats, whose
    # 152.0 Python calls 152.0 and Arrow 152, as it does the integers of a column without.
    return Ids(encoded.dictionary.take(pa.array(order)).cast(pa.string()).to_pylist(), rank[codes])


def _first_appearance(codes: np.ndarray, count: int) -> np.ndarray:
    # The dictionary's own order will not do: a pandas categorical is written sorted and with unused
    # entries, so that index 0 would be another drug than in the same table written from plain strings.
    first: np.ndarray = np.full(count + 1, len(codes), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    first = first[:count]
    order = np.argsort(first, kind="stable")
    return order[: np.count_nonzero(first < len(codes))]


def source_directory(input_dir: str | None, data_source: str | None, local_first: bool = True) -> Path:
    """Where the tables are: `input_dir` if it is there, else this job's copy on the local disk, else DATA_SOURCE.

    Without `local_first` DATA_SOURCE comes before all, as for a check before anything was copied. FileNotFoundError if
    none is a directory.
    """
    staged = os.environ.get("TMP_ORIGINAL") if os.environ.get("TMP_ORIGINAL_LINK") else None
    for given in (input_dir, staged, data_source) if local_first else (data_source, input_dir):
        if given and (path := Path(expand(given))).is_dir():
            return path.absolute()
    raise FileNotFoundError(
        f"no data: neither input_dir ({input_dir or 'not set'}) nor DATA_SOURCE ({data_source or 'not set'}) "
        "is a directory"
    )
