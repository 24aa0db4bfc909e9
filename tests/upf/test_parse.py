import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftpy.errors import UserError
from swiftpy.upf.parse import check_lines, read_job


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(tmp_path, upf, dflts=None):
    with pytest.raises(UserError) as caught:
        read_job(write(tmp_path / "u.json", upf), None if dflts is None else write(tmp_path / "d.json", dflts))
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.lines]


def test_merges_each_line_over_the_defaults_shallowly(tmp_path):
    upf = write(
        tmp_path / "u.json",
        '# GEN JSONS\n\n{"id": "A", "index": 0}\n{"id": "B", "net": {"x": 1}, "epochs": 9}\n',
    )
    dflts = write(tmp_path / "d.json", '{"epochs": 3, "net": {"x": 0, "y": 0}, "id": "never"}')
    a, b = read_job(upf, dflts)
    assert (a.id, a.line, a.where) == ("A", 3, f"{upf}:3")
    assert a.params == {"id": "A", "index": 0, "epochs": 3, "net": {"x": 0, "y": 0}}
    assert b.params == {"id": "B", "epochs": 9, "net": {"x": 1}}
    assert read_job(upf)[0].params == {"id": "A", "index": 0}


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbf{"id": "A", "v": "a # b"}\r\n',
        b'  # first\r\n\t{"id": "A", "v": "a # b"}# why\r\n   \r\n#last',
        b'{"id": "A", "v": "a # b"}   # {"id": "B"}',
    ],
    ids=["BOM and CRLF", "comments", "an object in a comment"],
)
def test_legal_spellings(tmp_path, text):
    (spec,) = read_job(write(tmp_path / "u.json", text), write(tmp_path / "d.json", text))
    assert spec.params == {"id": "A", "v": "a # b"}


def test_a_line_of_a_megabyte_and_separators_inside_strings(tmp_path):
    value = "x\\" + "\u2028\x85#" * 300_000
    (spec,) = read_job(write(tmp_path / "u.json", json.dumps({"id": "A", "v": value}, ensure_ascii=False)))
    assert spec.params["v"] == value


def test_dflts_over_many_lines_with_comments_around(tmp_path):
    dflts = write(tmp_path / "d.json", b'# mine\r\n{\r\n "epochs": 3\r\n}\r\n# end\r\n')
    assert read_job(write(tmp_path / "u.json", '{"id": "A"}'), dflts)[0].params == {"id": "A", "epochs": 3}


# What is wrong -> where, and a word of the message that tells it from every other.
LINES = {
    '{"id": "A", }': "Illegal trailing comma|Expecting property name",
    '{"id": "A"': "Expecting ',' delimiter",
    '["id"]': "not a JSON object",
    "id=A": "not a JSON object",
    '{"id": "A"}, {"id": "B"}': "unexpected text after the JSON object",
    '{"index": 1}': 'has no "id"',
    '{"id": 7}': '"id" must be a string, not 7',
    '{"id": ""}': "is empty",
    '{"id": "A "}': "starts or ends with a blank",
    '{"id": " A"}': "starts or ends with a blank",
    '{"id": "../x"}': "contains '/'",
    '{"id": "a/b"}': "contains '/'",
    '{"id": ".."}': "starts with '.'",
    '{"id": "-rf"}': "starts with '-'",
    '{"id": "a\\u0000b"}': "control character",
    '{"id": "a\\nb"}': "control character",
    '{"id": "\\ud800"}': "control character",
    '{"id": "%s"}' % ("é" * 101): "longer than 200 bytes",
    '{"id": "A", "x": NaN}': "NaN is not a finite number (column 18)",
    '{"id": "A", "x": [1, -Infinity]}': "-Infinity is not a finite number",
    '{"id": "A", "x": 1e999}': "1e999 is not a finite number",
    '{"id": "A", "x": %s}' % ("9" * 5000): "too many digits",
    '{"id": "A", "x": %s}' % ("[" * 200_000): "nested too deeply",
    '{"id": "A", "x": {"k": 1, "j": 2, "k": 3}}': 'duplicate key "k" (column 35)',
    '{"id": "A", "\\u0069d": "B"}': 'duplicate key "id" (column 13)',
    '{"id": "A", "index": "3"}': '"index" must be an integer, not "3" (column 13)',
    '{"id": "A", "index": true}': '"index" must be an integer, not true',
    '{"id": "A", "timeout": "1h"}': '"timeout" must be a number of seconds, not "1h"',
}


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_one_message_for_one_mistake(tmp_path, line):
    (message,) = problems(tmp_path, f'{{"id": "ok"}}\n{line}\n{{"id": "also ok"}}\n')
    assert message.startswith("u.json:2: ") and len(message) < 200
    assert any(part in message for part in LINES[line].split("|"))


def test_all_mistakes_of_both_files_in_order(tmp_path):
    upf = b'{"id": "A"}\n\n{"id": "A"}\n{"id": "\xff"}\n{"index": 1.5, "id": "B", "x": NaN}\n'
    dflts = '{\n "epochs": 3,\n "index": null,\n "epochs": 4\n}\nmore'
    assert problems(tmp_path, upf, dflts) == [
        'd.json:3: "index" must be an integer, not null (column 2)',
        'd.json:4: duplicate key "epochs" (column 2)',
        'd.json:6: unexpected text after the JSON object: "more" (column 1)',
        'u.json:3: duplicate id "A": line 1 has it already',
        "u.json:4: is not UTF-8: byte 0xff",
        'u.json:5: "index" must be an integer, not 1.5 (column 2)',
        "u.json:5: NaN is not a finite number (column 32)",
    ]


@pytest.mark.parametrize("upf", ["", "# nothing\n\n"])
def test_a_upf_without_runs(tmp_path, upf):
    (message,) = problems(tmp_path, upf)
    assert message.startswith("u.json:1: has no RUNs")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError) as caught:
        read_job(tmp_path, tmp_path / "none.json")
    assert caught.value.lines == [
        f"{tmp_path}/none.json: No such file or directory",
        f"{tmp_path}: Is a directory",
    ]
    with pytest.raises(UserError, match="File name too long"):
        read_job(tmp_path / ("a" * 300), None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: must be a file"):
        read_job(tmp_path / "pipe", None)
    assert problems(tmp_path, '{"id": "A"}'.encode("utf-16"), "\n") == [
        "d.json:1: holds no JSON object: write {} if there are no defaults",
        "u.json:1: is UTF-16: save it as UTF-8",
    ]


def test_answers_of_a_check_come_in_the_order_of_the_file(tmp_path):
    specs = read_job(write(tmp_path / "u.json", '# x\n{"id": "A"}\n\n{"id": "B"}\n'))
    assert check_lines(specs, [(1, "no such drug"), (0, "b"), (0, "a")]) == [
        f"{tmp_path}/u.json:2: a",
        f"{tmp_path}/u.json:2: b",
        f"{tmp_path}/u.json:4: no such drug",
    ]


def test_an_answer_that_runs_share_is_one_line_and_names_the_dflts_if_the_value_is_from_there(tmp_path):
    """One mistake in DFLTS was as many lines as RUNs, none of them that of the mistake."""
    upf = "".join(f'{{"id": "R{n}", "seed": "x"}}\n' for n in range(4)) + '{"id": "OWN", "epochs": -2}\n'
    dflts = write(tmp_path / "d.json", '\ufeff# mine\n{"net": {"epochs": 3},\n "model": "epochs",\n "epochs": -1}\n')
    specs = read_job(write(tmp_path / "u.json", upf), dflts)
    answers = [(4, "epochs must be positive, not -2")]
    for index in range(4):
        answers += [(index, "epochs must be positive, not -1"), (index, "seed must be an integer, not 'x'")]
    lines = check_lines(specs, answers, dflts)
    assert [line.replace(f"{tmp_path}/", "") for line in lines] == [
        "d.json:4 (for u.json:1 and 3 more lines): epochs must be positive, not -1",
        "u.json:1 (and 3 more lines): seed must be an integer, not 'x'",
        "u.json:5: epochs must be positive, not -2",
    ]
    assert check_lines(specs, answers[1:4:2], dflts)[0].startswith(
        f"{dflts}:4 (for {specs[0].where} and 1 more line): "
    )
    assert check_lines(specs, [(0, "net: what is it?")], dflts) == [
        f"{dflts}:2 (for {specs[0].where}): net: what is it?"
    ]


names = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names.filter(lambda key: key not in ("id", "index", "timeout")), values, max_size=5)
noise = st.sampled_from(["", "   ", "# comment", '  # {"id": "no"}', "#"])


@settings(max_examples=200)
@given(
    st.lists(st.tuples(objects, noise, noise), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_whatever_was_written_comes_back(tmp_path_factory, rows, ascii_only, crlf, bom):
    expected, lines = [], []
    for number, (row, before, after) in enumerate(rows):
        expected.append({"id": f"RUN{number:03d}", **row})
        lines += [before, json.dumps(expected[-1], ensure_ascii=ascii_only) + after]
    text = ("\r\n" if crlf else "\n").join(lines)
    upf = tmp_path_factory.getbasetemp() / "property.json"
    upf.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass"))
    specs = read_job(upf)
    assert [spec.params for spec in specs] == expected
    assert [spec.line for spec in specs] == [2 * (n + 1) for n in range(len(rows))]
