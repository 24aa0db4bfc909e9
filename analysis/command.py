"""What all commands share: finding the EXP, output as text, CSV or JSON, notes for people, files written whole."""

import csv
import errno
import json
import os
import secrets
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from analysis.job import finite

MOST_NOTES = 10


class AnalysisError(Exception):
    """The user's mistake or a lack in the EXP: one line that says what to do. Exit code 2."""


def exp_path(text: str) -> Path:
    """The EXP with this path, or with this name in `output_directory()`.

    AnalysisError: there is none.
    """
    path = Path(text)
    if "/" not in text and not path.exists():
        path = output_directory() / text
    if not path.exists():
        raise AnalysisError(f"there is no {text}" + ("" if "/" in text else f", here or in {output_directory()}"))
    if not (path / "run").is_dir():
        raise AnalysisError(f"{path} is not an EXP: it has no directory run")
    return path.absolute()


def output_directory() -> Path:
    """Where the EXPs of the user's settings are."""
    parent = os.path.expanduser(os.environ.get("CANDLE_DATA_DIR") or "out")  # noqa: PTH111 - as jobs understand it
    return Path(parent) / (os.environ.get("MODEL_NAME") or "unorun") / "Output"


def add_exp(parser: ArgumentParser, **more: Any) -> None:
    """The argument D."""
    parser.add_argument(
        "exp", metavar="D", help="EXP directory, or its name in $CANDLE_DATA_DIR/$MODEL_NAME/Output", **more
    )


def positive(text: str) -> int:
    """An argument that is a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"it must be 1 or more, not {text}")
    return int(text)


def check_metric(metric: str, known: Collection[str]) -> None:
    """AnalysisError: the files of scores know other metrics. Where there are none yet, any name will do."""
    if known and metric not in known:
        raise AnalysisError(f"there is no metric {metric}: there are {', '.join(sorted(known))}")


def lower_is_better(metric: str) -> bool:
    """Whether the metric of this name is an error or a loss; of all others more is better."""
    return any(part in metric.lower() for part in ("mse", "mae", "loss"))


def add_formats(parser: ArgumentParser) -> None:
    """Options --json and --csv."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--csv", action="store_true", help="print CSV")


def show(options: Namespace, rows: Sequence[dict[str, Any]], lines: Iterable[str]) -> None:
    """Print `rows` as the user's options ask, by default the `lines` for people. JSON has null for NaN."""
    if options.json:
        plain = [{key: finite(value) for key, value in row.items()} for row in rows]
        print(json.dumps(plain, indent=1, default=str, allow_nan=False))
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for line in lines:
            print(line)


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of equal length as aligned lines, two blanks between columns; those numbered in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def number_text(value: object, form: str = ".4f") -> str:
    """A number for people; "-" where there is none."""
    return format(value, form) if isinstance(value, (int, float)) and value == value else "-"


def count_text(count: int, noun: str) -> str:
    """`1 RUN`, `2 RUNs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def size_text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def note(text: str) -> None:
    """A line for people beside the result: on stderr."""
    print(text, file=sys.stderr)


def notes(problems: Sequence[str]) -> None:
    """What was passed over, the first few by name."""
    for problem in problems[:MOST_NOTES]:
        note(problem)
    if len(problems) > MOST_NOTES:
        note(f"... and {len(problems) - MOST_NOTES} more")


@contextmanager
def reading(path: Path, encoding: str = "utf-8") -> Iterator[IO[str]]:
    """A table of the user's as text, with the line ends that it has. AnalysisError: no UTF-8, or no CSV after all."""
    with path.open(encoding=encoding, newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise AnalysisError(f"{path}: is not UTF-8 (byte 0x{error.object[error.start]:02x}): convert it") from error
        except csv.Error as error:
            raise AnalysisError(f"{path}: no CSV: {error}") from error


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes the place of `path` when all went well, so that nobody ever reads half of it.

    A text may name directories that are not UTF-8: Python knows their bytes as surrogates, which it does not write.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        how = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with temporary.open(mode, -1, *how) as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        # A write does not say the file; of errors without one, a full disk alone is sure to be none of a read's.
        full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and error.filename != str(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the user knows of no other
    finally:
        with suppress(OSError):  # a file system that is read-only says so even of what is not there
            temporary.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write the lines to `path`, which stays as it is if it holds just them."""
    data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    if not path.is_file() or path.read_bytes() != data:
        with replacing(path, "wb") as file:
            file.write(data)


class Ticker:
    """Progress of long work on stderr: rewritten in a terminal, else a line every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, max(1, total)
        self._terminal = sys.stderr.isatty()
        self._shown = time.monotonic()
        self._drawn = False

    def __call__(self, done: int) -> None:
        """Show that `done` of the total are over."""
        now = time.monotonic()
        if now - self._shown < (0.2 if self._terminal else 5):
            return
        self._shown = now
        text = f"{self._what}: {100 * done // self._total}%"
        self._drawn = self._terminal
        print(f"\r{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line that was rewritten."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
