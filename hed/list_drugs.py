"""List the drugs of a response table with the index by which a UPF line holds each of them out."""

import argparse
import sys
from pathlib import Path

import pyarrow as pa

from hed import tables
from hed.partition_uno_pq import check_index


def main(arguments: list[str] | None = None) -> int:
    """Command line: prints `%03i name` per drug, or one line on stderr (1): no such table or index."""
    parser = argparse.ArgumentParser(
        prog="list_drugs.py",
        description=__doc__,
        epilog="example: list_drugs.py --index 5 rsp_merged.parquet",
    )
    parser.add_argument("--index", type=int, help="print this drug only")
    parser.add_argument("rsp", type=Path, metavar="RSP", help="response table (Parquet)")
    options = parser.parse_args(arguments)
    try:
        names = tables.read_ids(options.rsp, tables.DRUG).names
        wanted = range(len(names))
        if options.index is not None:
            wanted = range(check_index("by_drug", options.index, len(names)), options.index + 1)
    except (ValueError, IndexError, OSError, pa.ArrowException) as error:
        print(f"list_drugs.py: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"{index:03} {names[index]}" for index in wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
