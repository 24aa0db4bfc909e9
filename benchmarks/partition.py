"""Time one RUN's partition, ours and with pandas, in alternation on the same table; print medians as JSON.

Both keep the table in memory from RUN to RUN, so that the first round, which reads it, is not counted.

    python benchmarks/partition.py                      # 600,000 made-up responses
    python benchmarks/partition.py --rsp rsp_merged.parquet
"""

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from environment import environment
from hed import synthetic, tables
from hed.partition_uno_pq import split_rows, write_split


def pandas_partition(frame: pd.DataFrame, index: int, out: str) -> None:
    """What the original does: select, shuffle, cut, and three to_parquet."""
    drugs = frame[tables.DRUG]
    held_out = drugs == drugs.unique()[index]
    rest = frame[~held_out].sample(frac=1)
    end = int(len(rest) * 0.8)
    for name, part in (("train", rest[:end]), ("val", rest[end:]), ("test", frame[held_out])):
        part.to_parquet(out.replace("@@@", name))


def milliseconds(action: Callable[..., object], *arguments: object) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    action(*arguments)
    return (time.perf_counter() - start) * 1e3


def measure(rsp: Path, work: Path, rounds: int) -> dict[str, float]:
    """Median milliseconds of one RUN's row numbers, of its three files, and of the same with pandas."""
    frame = pd.read_parquet(rsp)
    drugs = frame[tables.DRUG].nunique()
    times: dict[str, list[float]] = {"indices": [], "files": [], "pandas": []}
    for index in [number % drugs for number in range(rounds + 1)]:
        times["indices"].append(milliseconds(split_rows, rsp, "by_drug", index))
        times["files"].append(milliseconds(our_partition, rsp, index, str(work / "ours-@@@.parquet")))
        times["pandas"].append(milliseconds(pandas_partition, frame, index, str(work / "pandas-@@@.parquet")))
        for path in work.glob("*.parquet"):
            path.unlink()
    return {name: round(statistics.median(values[1:]), 2) for name, values in times.items()}


def our_partition(rsp: Path, index: int, out: str) -> None:
    """Both of our steps."""
    write_split(rsp, split_rows(rsp, "by_drug", index), out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rsp", type=Path, help="response table; default: made up")
    parser.add_argument("--rows", type=int, default=600_000, help="made-up responses (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rsp = options.rsp
        if rsp is None:
            data = Path(work) / "data"
            synthetic.generate(data, synthetic.Spec(770, 1000, 10, 10, options.rows))
            rsp = data / tables.RSP
        medians = measure(rsp, Path(work), options.rounds)
        first = milliseconds(split_rows, rsp, "by_drug", 0, 2)
        tracemalloc.start()
        split_rows(rsp, "by_drug", 0, 3)
        peak = tracemalloc.get_traced_memory()[1]
    report = {
        "rows": len(tables.read_ids(rsp, tables.DRUG).codes) if options.rsp else options.rows,
        "median_ms": medians,
        "first_indices_of_a_seed_ms": round(first, 2),
        "their_peak_mb": round(peak / 1e6, 1),
        "pandas_over_files": round(medians["pandas"] / medians["files"], 2),
        "rounds": options.rounds,
        **environment("numpy", "pandas", "pyarrow"),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
