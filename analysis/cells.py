"""Subsets of responses by properties of the cell lines, from Cellosaurus.

The table between the two steps has lines `primary sex age population aliases`, separated by tabs, aliases by
commas; `None` where Cellosaurus does not say.
"""

import csv
import re
import sys
import xml.etree.ElementTree as ET
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

from analysis.command import AnalysisError, note, reading, replacing

CELL_COLUMN = "CELL_LINE_NAME"


class CellLine(NamedTuple):
    """A line of the table."""

    primary: str
    sex: str
    age: str
    population: str
    aliases: str


def extract(parser: ArgumentParser, arguments: list[str]) -> None:
    """`cell-grep-extract XML TABLE`."""
    parser.add_argument("xml", metavar="XML", type=Path, help="cellosaurus.xml")
    parser.add_argument("table", metavar="TABLE", type=Path, help="table to write")
    options = parser.parse_args(arguments)
    count = 0
    try:
        with replacing(options.table) as file:
            for cell_line in read_cellosaurus(options.xml):
                file.write("\t".join(cell_line) + "\n")
                count += 1
    except ET.ParseError as error:
        raise AnalysisError(f"{options.xml}: no whole XML: {error}") from error
    print(f"count: {count}")


def read_cellosaurus(path: Path) -> Iterator[CellLine]:
    """The cell lines of the XML, one after another: it has hundreds of megabytes."""
    parents: list[ET.Element] = []
    for event, element in ET.iterparse(path, ("start", "end")):
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if element.tag == "cell-line":
            primary = element.findtext("accession-list/accession[@type='primary']")
            if primary:
                yield _cell_line(primary, element)
            parents[-1].remove(element)


def _cell_line(primary: str, element: ET.Element) -> CellLine:
    # "HeLa [Misspelling]": what is in brackets is no part of the name.
    names = [(name.text or "").split("[")[0] for name in element.iterfind("name-list/name")]
    names += [reference.get("accession", "") for reference in element.iterfind("xref-list/xref")]
    population = element.findtext("comment-list/comment[@category='Population']") or "None"
    age = element.get("age") or "None"
    return CellLine(
        _clean(primary),
        _known(element.get("sex")),
        _known(age.split("Y")[0]),
        _clean(population),
        ",".join(filter(None, (_clean(name).replace(",", " ") for name in names))),
    )


def _known(text: str | None) -> str:
    return "None" if text is None or "unspec" in text else _clean(text)


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def read_table(path: Path) -> list[CellLine]:
    """AnalysisError with the line's number: not 5 fields."""
    found = []
    with reading(path) as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(CellLine._fields):
                raise AnalysisError(f"{path}:{number}: {len(fields)} fields, not {len(CellLine._fields)}")
            found.append(CellLine(*fields))
    return found


def index(table: list[CellLine]) -> dict[str, CellLine]:
    """Cell lines by primary name and alias. Where several cell lines have a name, the one that has it first in its
    list of names wins: Cellosaurus lists the recommended name first."""
    places: dict[str, tuple[int, CellLine]] = {}
    for cell_line in table:
        for place, name in enumerate((cell_line.primary, *cell_line.aliases.split(","))):
            if name and (name not in places or place < places[name][0]):
                places[name] = (place, cell_line)
    return {name: cell_line for name, (_, cell_line) in places.items()}


def cell_grep(parser: ArgumentParser, arguments: list[str]) -> None:
    """`cell-grep DATA TABLE PATTERN [OUTPUT]`; `cell-grep extract XML TABLE` is cell-grep-extract."""
    if arguments[:1] == ["extract"]:
        extract(type(parser)(prog="cell-grep extract", description=extract.__doc__), arguments[1:])
        return
    parser.add_argument("data", metavar="DATA", type=Path, help=f"responses: CSV with a column {CELL_COLUMN}")
    parser.add_argument("table", metavar="TABLE", type=Path, help="made by: cell-grep extract cellosaurus.xml TABLE")
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="", help="text somewhere in the table's line")
    parser.add_argument("output", metavar="OUTPUT", nargs="?", help="CSV to write; - or none: standard output")
    parser.add_argument("--sex", help="exactly this sex: Female, Male, ...")
    parser.add_argument("--age", metavar="FROM-TO", help="age in years")
    parser.add_argument("--population", metavar="TEXT", help="text in the population")
    parser.add_argument("--alias", metavar="NAME", help="exactly this name or alias")
    parser.add_argument("--column", default=CELL_COLUMN, help=f"column of the cell lines ({CELL_COLUMN})")
    parser.add_argument("-n", "--negate", action="store_true", help="those that do not match")
    parser.add_argument("-c", "--count", action="store_true", help="counts only")
    parser.add_argument("-q", "--quiet", action="store_true", help="no counts")
    options = parser.parse_args(arguments)
    _select(options)


def _select(options: Namespace) -> None:
    ages = _ages(options.age)
    cell_lines = index(read_table(options.table))
    chosen = {name for name, cell_line in cell_lines.items() if _matches(cell_line, options, ages) != options.negate}
    seen: set[str] = set()
    to_file = options.output not in (None, "-") and not options.count
    target: Any = replacing(Path(options.output)) if to_file else nullcontext(sys.stdout)
    with reading(options.data) as source, target as file:
        for cell, line in _rows(source, options.data, options.column):
            if cell is not None:
                seen.add(cell)
            if (cell is None or cell in chosen) and not options.count:
                file.write(line)
    found = len(seen & cell_lines.keys())
    text = f"cell lines: found={found} , not found={len(seen) - found} , selected={len(seen & chosen)}"
    if options.count:
        print(text)
    elif not options.quiet:
        note(text)


def _rows(source: IO[str], path: Path, column: str) -> Iterator[tuple[str | None, str]]:
    """The heading (None) and each row as (cell line, its text as it stands in the file, quoted line ends too)."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in source:
            taken.append(line)
            yield line

    reader = csv.reader(lines())
    heading = next(reader, [])
    names = [name.lstrip("\ufeff") for name in heading]
    if column not in names:
        raise AnalysisError(f"{path} has no column {column}: it has {', '.join(names) or 'nothing'}")
    place = names.index(column)
    yield None, "".join(taken)
    taken.clear()
    for row in reader:
        if row:
            if len(row) <= place:
                raise AnalysisError(f"{path}:{reader.line_num}: {len(row)} of {len(heading)} fields")
            yield row[place], "".join(taken)
        taken.clear()


def _ages(text: str | None) -> range | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match:
        raise AnalysisError(f"--age {text}: give years, such as 60 or 40-60")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _matches(cell_line: CellLine, options: Namespace, ages: range | None) -> bool:
    return (
        options.pattern in "\t".join(cell_line)
        and options.sex in (None, cell_line.sex)
        and (ages is None or (cell_line.age.isdecimal() and int(cell_line.age) in ages))
        and (options.population is None or options.population in cell_line.population)
        and (options.alias is None or options.alias in (cell_line.primary, *cell_line.aliases.split(",")))
    )
