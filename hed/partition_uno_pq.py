"""Partition of a response table: one drug, one cell line or a random tenth is the test set.

Two steps: `split_rows` chooses row numbers, `write_split` writes them as three tables. A seed puts the rows
of a table into one order, whatever is held out: of the rows that are not held out the first 80 % are train,
the others val (random: of all rows the first 80 % are train, the next 10 % val). So a RUN that is resumed
finds each row where it was, and no validation row slips into training.
"""

import argparse
import functools
import secrets
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hed import tables

DEFAULT_PARTITION, DEFAULT_SEED = "by_drug", 1
PARTITIONS = {"by_drug": tables.DRUG, "by_cell": tables.CELL, "random": None}
_WHAT = {"by_drug": "drug", "by_cell": "cell"}


class Split(NamedTuple):
    """Row numbers (integer arrays) of the three sets; name of the held-out drug or cell (random: None)."""

    name: str | None
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def sizes(self) -> dict[str, int]:
        """Number of rows per set."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


def split_rows(infile: Path, partition: str, index: int | None = None, seed: int = DEFAULT_SEED) -> Split:
    """Choose the rows of `infile` (Parquet) for train, val and test.

    `by_drug` and `by_cell`: `index` counts drugs or cells from 0 in order of first appearance; the test set
    is all rows of that one, in the table's order; the others are 80 % train, 20 % val, shuffled. `random`
    is 80/10/10 and needs no index. Raises IndexError (index out of range) and ValueError (no index, unknown
    partition, no such column).
    """
    column = id_column(partition)
    ids = tables.read_ids(infile, column) if column else None
    rows = pq.read_metadata(infile).num_rows if ids is None else len(ids.codes)
    return split_ids(ids, rows, partition, index, seed)


def split_ids(ids: tables.Ids | None, rows: int, partition: str, index: int | None, seed: int) -> Split:
    """As `split_rows`, for a table of so many rows with the identifiers `ids` (random: None)."""
    order = _row_order(rows, seed)
    if ids is None:
        ends = rows * 8 // 10, rows * 9 // 10
        return Split(None, *np.split(order, ends))
    number = check_index(partition, index, len(ids.names))
    held_out = ids.codes == number
    rest = order[~held_out[order]]
    train, val = np.split(rest, [len(rest) * 8 // 10])
    return Split(ids.names[number], train, val, np.flatnonzero(held_out))


def id_column(partition: str) -> str | None:
    """The column whose values `partition` holds out (random: None); ValueError for an unknown partition."""
    if partition not in PARTITIONS:
        raise ValueError(f"partition must be one of {', '.join(PARTITIONS)}, not {partition!r}")
    return PARTITIONS[partition]


def check_index(partition: str, index: object, count: int) -> int:
    """`index` if it is one of `count` drugs or cells, else ValueError (none, or no integer) or IndexError."""
    what = _WHAT[partition]
    if index is None:
        raise ValueError(f"partition {partition} needs an index: the number of the {what} to hold out")
    if not isinstance(index, int) or isinstance(index, bool):
        raise ValueError(f"index must be an integer, not {index!r}")
    if not 0 <= index < count:
        raise IndexError(f"index {index} out of range: there are {count} {what}s, numbered from 0")
    return index


def write_split(infile: Path, split: Split, out: str) -> list[Path]:
    """Write the rows of `split` to three Parquet files, `@@@` in `out` standing for train, val and test.

    The files have the schema and metadata of `infile`. None appears before all are complete.
    FileExistsError if one is there already, ValueError if `out` has no `@@@`.
    """
    if "@@@" not in out:
        raise ValueError(f"the output name {out!r} must contain @@@, which becomes train, val and test")
    table = _encoded_table(infile, tables.file_version(infile))
    metadata = pq.read_metadata(infile).metadata or {}
    targets = [Path(out.replace("@@@", name)) for name in ("train", "val", "test")]
    for target in targets:
        if target.exists():
            raise FileExistsError(f"refusing to overwrite {target}")
    temporary = [target.with_name(f".{target.name}.{secrets.token_hex(4)}") for target in targets]
    try:
        for path, rows in zip(temporary, (split.train, split.val, split.test), strict=True):
            _write(path, table.take(pa.array(rows)), metadata)
        for path, target in zip(temporary, targets, strict=True):
            path.replace(target)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return targets


@functools.lru_cache(maxsize=2)
def _row_order(count: int, seed: int) -> np.ndarray:
    # NumPy promises the same raw bits in every release, but not the same permutation(): after an update a
    # resumed RUN would train on its validation rows. The row number in the low half makes the keys
    # distinct, so that every sort gives the same order.
    keys: np.ndarray = np.random.PCG64(seed).random_raw(count)
    keys = keys & np.uint64(0xFFFFFFFF00000000) | np.arange(count, dtype=np.uint64)
    keys.sort()
    return keys.astype(np.uint32)


@functools.lru_cache(maxsize=1)
def _encoded_table(path: Path, version: tuple[int, int]) -> pa.Table:
    # Strings stay dictionary codes from file to file: to decode and encode them costs more than all the rest.
    strings = [
        field.name
        for field in pq.read_schema(path)
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    return pq.read_table(path, read_dictionary=strings).unify_dictionaries().combine_chunks()


def _write(path: Path, table: pa.Table, metadata: dict[bytes, bytes]) -> None:
    # The input's metadata, copied as it is, includes its Arrow schema: a reader gets plain strings (or
    # large ones, or categories) as from the input, although dictionary columns are written here.
    encoded = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    with pq.ParquetWriter(
        path,
        table.schema.remove_metadata(),
        use_dictionary=encoded,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata(metadata)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when the three files are written, 1 with one line on stderr when they are not."""
    parser = argparse.ArgumentParser(
        prog="partition_uno_pq",
        description="Partition a response table into train, val and test tables of the same schema.",
        epilog="example: partition_uno_pq by_drug --index 5 rsp.parquet rsp_@@@.parquet",
    )
    parser.add_argument("partition", help=f"what is held out: {', '.join(PARTITIONS)}")
    parser.add_argument("--index", type=int, help="which drug or cell, from 0 in order of first appearance")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="order of the rows (default %(default)s)")
    parser.add_argument("infile", type=Path, help="response table (Parquet)")
    parser.add_argument("out", help="name of the output files; @@@ becomes train, val and test")
    options = parser.parse_args(arguments)
    try:
        split = split_rows(options.infile, options.partition, options.index, options.seed)
        write_split(options.infile, split, options.out)
    except (ValueError, IndexError, OSError, pa.ArrowException) as error:
        print(f"partition_uno_pq: {error}", file=sys.stderr)
        return 1
    print(" ".join(f"{name}={rows}" for name, rows in split.sizes().items()), split.name or "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
