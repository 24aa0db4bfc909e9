"""UPF and DFLTS as the user wrote them to one `RunSpec` per RUN, or all that is wrong with them at once.

UPF: one JSON object per line, with an `id`; blank lines and lines that start with `#` are skipped. DFLTS: one
JSON object over any number of lines. In both a comment may follow an object, lines may end in CRLF, and a BOM
may come first.
"""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftpy.errors import UserError
from swiftpy.experiment.spec import RunSpec, name_problem

_BLANKS_AND_COMMENTS = re.compile(r"(?:\s+|#[^\n]*)*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_decoder = json.JSONDecoder()


def read_job(upf: Path, dflts: Path | None = None) -> list[RunSpec]:
    """The RUNs in the order of the UPF, each line merged over the DFLTS (shallow; the UPF's value wins).

    UserError: every problem of both files, each as one line `file:line: message`.
    """
    problems: list[str] = []
    defaults = _read_dflts(dflts, problems) if dflts is not None else {}
    specs = _read_upf(upf, defaults, problems)
    if problems:
        raise UserError(*problems)
    return specs


def check_lines(specs: Sequence[RunSpec], answers: Iterable[tuple[int, str]], dflts: Path | None = None) -> list[str]:
    """Answers of the runner's `check`, (index into specs, message), as `file:line: message`, in UPF order.

    A message that several RUNs share is one line. Where it begins with the name of a parameter whose value is that of
    the DFLTS, it is their line, for there the user has to change it.
    """
    keys = _keys(dflts) if dflts is not None else {}
    lines: dict[str, list[RunSpec]] = {}
    for index, message in sorted(answers):
        lines.setdefault(message, []).append(specs[index])
    return [f"{_place(message, of, dflts, keys)}: {message}" for message, of in lines.items()]


def _place(message: str, specs: Sequence[RunSpec], dflts: Path | None, keys: Mapping[str, tuple[int, Any]]) -> str:
    first, *others = specs
    more = f"and {len(others)} more line{'s' * (len(others) > 1)}" if others else ""
    name = message.partition(" ")[0].rstrip(":")
    if name in keys and first.params[name] == keys[name][1]:
        return f"{dflts}:{keys[name][0]} (for {' '.join(filter(None, (first.where, more)))})"
    return f"{first.where} ({more})" if more else first.where


def _keys(dflts: Path) -> dict[str, tuple[int, Any]]:
    """Line and value of each key of the DFLTS, which `read_job` has found good."""
    text = dflts.read_bytes().decode().removeprefix("\ufeff")
    start = _skip(text, 0)
    value, end = _decoder.raw_decode(text, start)
    keys: dict[str, tuple[int, Any]] = {}
    depth, word = 0, ""
    for token in _TOKEN.finditer(text, start, end):
        before, word = word, token.group()
        depth += (word in "{[") - (word in "}]")
        if word == ":" and depth == 1:
            name = json.loads(before)
            keys[name] = (1 + text.count("\n", 0, token.start()), value[name])
    return keys


def _read_dflts(file: Path, problems: list[str]) -> Mapping[str, Any]:
    data = _read_bytes(file, problems)
    if data is None:
        return {}
    value = _Text(file, 1, problems).parse(data)
    if value is None and not problems:
        problems.append(f"{file}:1: holds no JSON object: write {{}} if there are no defaults")
    return value or {}


def _read_upf(file: Path, defaults: Mapping[str, Any], problems: list[str]) -> list[RunSpec]:
    data = _read_bytes(file, problems)
    if data is None:
        return []
    specs: list[RunSpec] = []
    first_line: dict[str, int] = {}
    before = len(problems)
    # Of the bytes, because str.splitlines() also cuts at U+2028 and others, which are legal inside a JSON string.
    for number, line in enumerate(data.splitlines(), start=1):
        value = _Text(file, number, problems).parse(line)
        if value is None:
            continue
        if problem := _id_problem(value, first_line):
            problems.append(f"{file}:{number}: {problem}")
            continue
        first_line[value["id"]] = number
        specs.append(RunSpec(value["id"], number, {**defaults, **value}, file))
    if not specs and len(problems) == before:
        problems.append(f'{file}:1: has no RUNs: write one JSON object per line, such as {{"id": "RUN000"}}')
    return specs


def _read_bytes(file: Path, problems: list[str]) -> bytes | None:
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe, as <(...): it is read more than once
            problems.append(f"{file}: must be a file")
            return None
        data = file.read_bytes()
    except OSError as error:
        problems.append(f"{file}: {error.strerror}")
        return None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        problems.append(f"{file}:1: is UTF-16: save it as UTF-8")
        return None
    return data


def _id_problem(line: Mapping[str, Any], first_line: Mapping[str, int]) -> str | None:
    if "id" not in line:
        return 'has no "id"'
    run_id = line["id"]
    if not isinstance(run_id, str):
        return f'"id" must be a string, not {_short(run_id)}'
    if problem := name_problem(run_id):
        return f"id {_short(run_id)} {problem}: it names the RUN's directory"
    if run_id in first_line:
        return f"duplicate id {_short(run_id)}: line {first_line[run_id]} has it already"
    return None


@dataclass(frozen=True, slots=True)
class _Text:
    """A piece of a file that holds one object at most; `line` is the number of its first line."""

    file: Path
    line: int
    problems: list[str]

    def parse(self, data: bytes) -> dict[str, Any] | None:
        """The object; None if there is none, or if something is wrong, which is added to `problems`."""
        try:
            text = data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = self.line + data.count(b"\n", 0, error.start)
            self.problems.append(f"{self.file}:{line}: is not UTF-8: byte 0x{data[error.start]:02x}")
            return None
        start = _skip(text, 0)
        if start == len(text):
            return None
        before = len(self.problems)
        value = self._object(text, start)
        return value if len(self.problems) == before else None

    def _object(self, text: str, start: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        if text[start] != "{":
            self._problem(text, start, "not a JSON object, which starts with '{'")
            return value
        try:
            value, end = _decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            self._problem(text, error.pos, f"bad JSON: {error.msg}")
        except RecursionError:
            self._problem(text, start, "bad JSON: nested too deeply")
        except ValueError:  # int() refuses more than 4,300 digits
            self._problem(text, start, "bad JSON: a number with too many digits")
        else:
            for position, message in _flaws(text[:end], start, value):
                self._problem(text, position, message)
            rest = _skip(text, end)
            if rest < len(text):
                self._problem(text, rest, f"unexpected text after the JSON object: {_short(text[rest:])}")
        return value

    def _problem(self, text: str, position: int, message: str) -> None:
        line = self.line + text.count("\n", 0, position)
        column = position - text.rfind("\n", 0, position)
        self.problems.append(f"{self.file}:{line}: {message} (column {column})")


def _skip(text: str, position: int) -> int:
    match = _BLANKS_AND_COMMENTS.match(text, position)
    assert match is not None  # it matches the empty string
    return match.end()


def _flaws(text: str, start: int, value: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """What json accepts silently in `text[start:]`, the source of `value`, and values of a wrong type.

    json keeps the last of two equal keys, reads NaN and Infinity, and makes an infinity of 1e999.
    """
    key_at, key = start, ""
    open_keys: list[set[str]] = []  # of the objects, and for simplicity arrays, around the token
    for token in _TOKEN.finditer(text, start):
        word = token.group()
        if word in "{[":
            open_keys.append(set())
        elif word in "}]":
            open_keys.pop()
        elif word[0] == '"':
            key_at, key = token.start(), word
        elif word == ":":
            name = json.loads(key)
            if name in open_keys[-1]:
                yield key_at, f"duplicate key {_short(name)}"
            elif len(open_keys) == 1 and (problem := _type_problem(name, value[name])):
                yield key_at, problem
            open_keys[-1].add(name)
        elif word[0] not in ",tfn" and not math.isfinite(float(word)):
            yield token.start(), f"{word[:40]} is not a finite number"


def _type_problem(name: str, value: Any) -> str | None:
    if name == "index" and (isinstance(value, bool) or not isinstance(value, int)):
        return f'"index" must be an integer, not {_short(value)}'
    if name == "timeout" and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return f'"timeout" must be a number of seconds, not {_short(value)}'
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
