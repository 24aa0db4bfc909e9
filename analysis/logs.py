"""Logs of ranks: what a terminal would have shown, nearly all of the progress lines left out.

Logs are read in pieces, however long they are, also while they are written.
"""

import os
import re
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from analysis.command import AnalysisError, Ticker, count_text, notes, replacing, size_text

BLOCK = 1 << 22
EDGE = 3  # progress lines kept at the beginning and at the end of a series
ONE_IN = 100  # of the others
PARALLEL_BYTES = 20_000_000  # from here on a second process is worth its start

# "  12/2674 [>....] - ETA: 1:02 - loss: ..." of Keras 2, "12/2674 ━━━ 1s 2ms/step" of Keras 3, " 4%|#  | 4/100" of tqdm
_PROGRESS = re.compile(rb"\s*(?:\d+/(?:\d+|Unknown)\s|\d+%\|)").match
_COLOR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of the file in pieces that end between two lines; a carriage return is the end of a line."""
    carried = b""
    while piece := file.read(BLOCK):
        piece = (carried + piece).replace(b"\r", b"\n")
        end = piece.rfind(b"\n") + 1
        carried = piece[end:]
        yield piece[:end]
    yield carried


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that are not blank, without backspaces, colors and blanks at their ends."""
    for block in blocks(file):
        block = block.translate(None, b"\b")
        if b"\x1b" in block:
            block = _COLOR.sub(b"", block)
        yield from filter(None, map(bytes.rstrip, block.split(b"\n")))


def shrink(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Of each series of progress lines the first 3, 1 in 100, and the last 3; of equal other lines the first."""
    series, held, previous = 0, deque[bytes](), b""
    for line in lines:
        if _PROGRESS(line):
            series += 1
            if series <= EDGE:
                yield line
                continue
            held.append(line)
            if len(held) > EDGE:
                oldest = held.popleft()
                if (series - EDGE) % ONE_IN == 0:
                    yield oldest
            continue
        if series:
            yield from held
            held.clear()
            series = 0
        if line != previous:
            yield line
            previous = line
    yield from held


def count_lines(log: Path, start: re.Pattern[bytes], *ends: bytes) -> list[int]:
    """How many lines hold `start` and somewhere behind it the end, for each of `ends`."""
    counts = [0] * len(ends)
    with log.open("rb") as file:
        for block in blocks(file):
            match = start.search(block)
            while match:
                stop = block.find(b"\n", match.end())
                stop = stop if stop >= 0 else len(block)
                for number, end in enumerate(ends):
                    counts[number] += block.find(end, match.end(), stop) >= 0
                match = start.search(block, stop)
    return counts


def shrink_logs(parser: ArgumentParser, arguments: list[str]) -> None:
    """`shrink-logs.sh OUTDIR`: a summary of each log that has changed since its last one."""
    parser.add_argument("out", metavar="OUTDIR", type=Path, help="directory of the logs: D/out (or D)")
    parser.add_argument("--force", action="store_true", help="also logs that have not changed")
    options = parser.parse_args(arguments)
    out = options.out / "out" if (options.out / "out").is_dir() else options.out
    if not out.is_dir():
        raise AnalysisError(f"there is no directory {out}")
    logs = sorted(out.glob("out-*.txt"))
    if not logs:
        raise AnalysisError(f"{out} has no logs out-*.txt")
    if not os.access(out, os.W_OK):
        raise AnalysisError(f"{out} cannot be written: summaries are made beside the logs")
    before = after = done = 0
    problems = []
    size = sum(log.stat().st_size for log in logs)
    ticker = Ticker("shrinking", size)
    for result in _each(logs, options.force, size):
        if isinstance(result, str):
            problems.append(result)
        elif result is not None:
            done += 1
            before += result[0]
            after += result[1]
        ticker(before)
    ticker.close()
    notes(problems)
    percent = f" ({100 - 100 * after / before:.1f}% smaller)" if before else ""
    print(f"{done} of {len(logs)} logs: {size_text(before)} -> {size_text(after)}{percent}")
    if done < len(logs) - len(problems):
        print(f"{len(logs) - len(problems) - done} had not changed")
    if problems:
        raise AnalysisError(f"no new summary of {count_text(len(problems), 'log')}")


def _each(logs: list[Path], force: bool, size: int) -> Iterator[tuple[int, int] | str | None]:
    if size < PARALLEL_BYTES:
        yield from map(_shrink_one, logs, repeat(force))
        return
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(_shrink_one, logs, repeat(force), chunksize=4)


def _shrink_one(log: Path, force: bool) -> tuple[int, int] | str | None:
    """Sizes before and after; None if the log has not changed; a message."""
    target = log.with_name(f"summary-{log.name.removeprefix('out-')}")
    try:
        with log.open("rb") as source:
            # A log may grow while it is read. Its age as it was before goes to the summary, so that lines written
            # after the last read, and before the summary had its own time, are not taken for read.
            seen = os.fstat(source.fileno())
            if not force and target.exists() and target.stat().st_mtime_ns == seen.st_mtime_ns:
                return None
            with replacing(target, "wb") as file:
                file.writelines(line + b"\n" for line in shrink(lines(source)))
            os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    except OSError as error:
        return f"{error.filename or log}: {error.strerror}"
    return seen.st_size, target.stat().st_size
