"""Small tools for the Parquet tables of a data set."""

import random
import string
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.command import AnalysisError, add_formats, note, replacing, show, size_text

DRUG = "improve_chem_id"
MADE_DRUGS = 2000


def drug_names(rsp: Path) -> list[str]:
    """The drugs of a response table in order of first appearance: their places are their indices.

    AnalysisError: no such table or column.
    """
    column = _open(rsp, DRUG).read([DRUG])[DRUG]
    # As text first: the dictionary of a categorical is sorted, and may hold drugs without a row.
    return [name for name in pc.unique(column.cast(pa.string())).to_pylist() if name is not None]


def list_drugs(parser: ArgumentParser, arguments: list[str]) -> None:
    """`list_drugs.py [--index N] RSP`: lines `%03i name`."""
    parser.add_argument("--index", type=int, metavar="N", help="print this drug only")
    parser.add_argument("rsp", type=Path, metavar="RSP", help="response table (Parquet)")
    add_formats(parser)
    options = parser.parse_args(arguments)
    names = drug_names(options.rsp)
    chosen = range(len(names)) if options.index is None else [options.index]
    if options.index is not None and options.index not in range(len(names)):
        raise AnalysisError(f"index {options.index} out of range: there are {len(names)} drugs, numbered from 0")
    rows = [{"index": index, "drug": names[index]} for index in chosen]
    show(options, rows, [f"{index:03} {names[index]}" for index in chosen])


def cat(parser: ArgumentParser, arguments: list[str]) -> None:
    """`cat_pq.py OUT IN...`: one group of rows after another, never a table as a whole in memory."""
    parser.add_argument("out", metavar="OUT", type=Path, help="table to write; never overwritten")
    parser.add_argument("tables", metavar="IN", type=Path, nargs="+", help="tables to put one after another")
    options = parser.parse_args(arguments)
    _refuse_overwriting(options.out)
    sources = [_open(path) for path in options.tables]
    schema = sources[0].schema_arrow
    for path, source in zip(options.tables, sources, strict=True):
        if not source.schema_arrow.equals(schema):
            raise AnalysisError(f"{path} has other columns or types than {options.tables[0]}")
    with replacing(options.out, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for path, source in zip(options.tables, sources, strict=True):
            for group in range(source.num_row_groups):
                writer.write_table(source.read_row_group(group))
            note(f"{source.metadata.num_rows:,} rows of {path}")
    print(f"{sum(source.metadata.num_rows for source in sources):,} rows -> {options.out}")


def stat(parser: ArgumentParser, arguments: list[str]) -> None:
    """`stat_pq.py FILE...`: from the files' metadata, without reading the rows."""
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+")
    parser.add_argument("-d", "--drugs", action="store_true", help="list the drugs")
    parser.add_argument("-l", "--listing", action="store_true", help="one line a file")
    parser.add_argument("-v", "--verbose", action="store_true", help="columns and their types")
    add_formats(parser)
    options = parser.parse_args(arguments)
    rows, lines = [], []
    for path in options.files:
        table, status = _open(path), path.stat()
        row = {
            "file": str(path),
            "date": datetime.fromtimestamp(status.st_mtime).strftime("%Y-%m-%d %H:%M:%S"),
            "bytes": status.st_size,
            "rows": table.metadata.num_rows,
        }
        parts = [f"{path}: ", f"date: {row['date']}", f"bytes: {row['bytes']:12,}", f"rows:  {row['rows']:12,}"]
        if options.verbose:
            parts += [f"{field.name}: {field.type}" for field in table.schema_arrow]
        if options.drugs:
            row["drugs"] = drug_names(path)
            parts += [f"drug: {name}" for name in drug_names(path)]
        rows.append(row)
        lines.append((" " if options.listing else "\n\t").join(parts))
    show(options, rows, lines)


def make(parser: ArgumentParser, arguments: list[str]) -> None:
    """`mk_pq.py ROWS STUDY OUT`."""
    parser.add_argument("rows", metavar="ROWS", type=int)
    parser.add_argument("study", metavar="STUDY")
    parser.add_argument("out", metavar="OUT", type=Path, help="table to write; never overwritten")
    parser.add_argument("--seed", type=int, help="the same table each time (default: another one)")
    options = parser.parse_args(arguments)
    if options.rows < 0:
        raise AnalysisError(f"ROWS is {options.rows}: it must be 0 or more")
    _refuse_overwriting(options.out)
    chance = random.Random(options.seed)
    rows = range(options.rows)
    cells = ["".join(chance.choices(string.ascii_uppercase, k=2)) + f"-{chance.randrange(100):02}" for _ in rows]
    table = pa.table(
        {
            "improve_sample_id": pa.array(cells, pa.string()),
            DRUG: pa.array([f"Drug_{chance.randint(1, MADE_DRUGS)}" for _ in rows], pa.string()),
            "auc": pa.array([chance.random() for _ in rows], pa.float64()),
            "study": pa.array([options.study] * options.rows, pa.string()),
        }
    )
    with replacing(options.out, "wb") as file:
        pq.write_table(table, file)
    print(f"{options.rows:,} rows, {size_text(options.out.stat().st_size)} -> {options.out}")


def show_table(parser: ArgumentParser, arguments: list[str]) -> None:
    """`show_pq.py FILE`: as pandas prints it."""
    parser.add_argument("file", metavar="FILE", type=Path)
    print(_open(parser.parse_args(arguments).file).read().to_pandas())


def _open(path: Path, *needed: str) -> pq.ParquetFile:
    try:
        table = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise AnalysisError(f"{path} is no Parquet table: {str(error).splitlines()[0]}") from error
    missing = [name for name in needed if name not in table.schema_arrow.names]
    if missing:
        raise AnalysisError(f"{path} has no column {', '.join(missing)}")
    return table


def _refuse_overwriting(path: Path) -> None:
    if path.exists():
        raise AnalysisError(f"{path} exists: refusing to overwrite")
