"""Rankings count drugs: two RUNs that hold out the same one, and RUNs that hold out none."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from test_original import command

from analysis.cli import main
from analysis.predictions import Reader
from analysis.summary import summarize


def make(exp, run_id, rows, **record):
    """A RUN with these rows (true, predicted, cell); `record` is its partition.json, if there is one."""
    run = exp / "run" / run_id
    run.mkdir(parents=True)
    lines = ["auc_true,auc_pred,labels", *(f"{true},{pred},{cell}" for true, pred, cell in rows)]
    (run / "test_y_data_predicted.csv").write_text("\n".join(lines) + "\n")
    if record:
        (run / "partition.json").write_text(json.dumps(record))


def by_drug(name):
    return {"partition": "by_drug", "index": 0, "name": name}


@pytest.fixture
def exp(tmp_path):
    """Drug X with two seeds, one RUN with the name of a drug, and RUNs that do not say which they held out."""
    exp = tmp_path / "EXP001"
    make(exp, "A", [(0.5, 0.6, "C")], **by_drug("X"))
    make(exp, "B", [(0.4, 0.3, "C")], **by_drug("Y"))
    make(exp, "D", [(0.5, 0.2, "C")], **by_drug("X"))
    make(exp, "E", [(0.6, 0.5, "C")])
    make(exp, "X", [(0.7, 0.3, "C"), (0.7, 0.2, "only X")])
    return exp


def test_a_drug_of_two_runs_counts_once(exp):
    assert [line.split() for line in command("top_drugs", exp, "pred", "C", 9)] == [
        ["A", "0.5", "0.2", "C"],
        ["B", "0.4", "0.3", "C"],
        ["X", "0.7", "0.3", "C"],
        ["E", "0.6", "0.5", "C"],
    ]
    assert [line.split()[0] for line in command("top_drugs", exp, "true", "C")] == ["B", "A", "E", "X"]
    assert command("score_cell", exp, "C", "--top", 3)[-1] == "hits: 66.7%"
    cells = json.loads("\n".join(command("score_all_cells", "--json", "--top", 3, exp)))
    row = {"cell": "C", "drugs": 4, "hits": 2, "top": 3, "recall": 2 / 3}
    assert {key: cells[0][key] for key in row} == row
    assert cells[0]["scc"] == pytest.approx(stats.spearmanr([0.5, 0.4, 0.6, 0.7], [0.2, 0.3, 0.5, 0.3])[0])
    assert cells[1]["drugs"] == 1


def test_both_ways_to_rank_agree(tmp_path):
    """Few values, so that many are equal, and drugs of one to four RUNs."""
    chance = np.random.default_rng(1)
    drugs = {}
    for number, drug in enumerate(chance.integers(0, 12, 30)):
        rows = [(*chance.integers(1, 6, 2) / 10, f"C{cell}") for cell in range(8) if chance.random() < 0.7]
        make(tmp_path / "EXP001", f"RUN{number:03}", rows, **by_drug(f"Drug {drug}"))
        for *_, cell in rows:
            drugs.setdefault(cell, set()).add(drug)
    for row in json.loads("\n".join(command("score_all_cells", "--json", "--top", 5, tmp_path / "EXP001"))):
        [one] = json.loads("\n".join(command("score_cell", "--json", "--top", 5, tmp_path / "EXP001", row["cell"])))
        assert one == {key: row[key] for key in one} and row["drugs"] == len(drugs[row["cell"]])


def test_equal_values_share_a_rank_in_lists_too(tmp_path, capsys):
    """Places follow the order of the RUNs among equal values, in both lists: that of constant predictions was 1.0."""
    chance, exp = np.random.default_rng(2), tmp_path / "EXP001"
    for number in range(12):
        true, pred = chance.integers(1, 6, 2) / 10
        make(exp, f"RUN{number:03}", [(true, pred, "ties"), (true, 0.5, "constant")], **by_drug(f"Drug {number}"))
    scores = {row["cell"]: row["scc"] for row in json.loads("\n".join(command("score_all_cells", "--json", exp)))}
    files = {}
    for cell, kind in itertools.product(scores, ("true", "pred")):
        files[cell, kind] = tmp_path / f"{cell}-{kind}"
        files[cell, kind].write_text("\n".join(command("top_drugs", exp, kind, cell, 12)) + "\n")
    true, pred = (files["ties", kind] for kind in ("true", "pred"))
    assert float(command("spearman", true, pred)[0]) == pytest.approx(scores["ties"])
    assert float(command("spearman", pred, true)[0]) == pytest.approx(scores["ties"]), (
        "each by the value it is sorted by"
    )
    assert main(["spearman.py", *(str(files["constant", kind]) for kind in ("true", "pred"))]) == 2
    message = f"{files['constant', 'pred']}: all values are equal: a correlation is not defined"
    assert scores["constant"] is None and capsys.readouterr().err == f"spearman.py: {message}\n"
    lines = pred.read_text().splitlines()
    pred.write_text("\n".join(lines[::-1]))
    places = [lines[::-1].index(next(x for x in lines if x[:6] == y[:6])) for y in true.read_text().splitlines()]
    values = [float(line.split()[1]) for line in true.read_text().splitlines()]
    assert float(command("spearman", true, pred)[0]) == pytest.approx(stats.spearmanr(values, places)[0]), "in no order"


def test_lists_with_blank_lines_two_entries_or_repeats(tmp_path, capsys):
    files = [tmp_path / "true", tmp_path / "pred"]
    for file, text in zip(files, ("A\n\nB\n\n", "B\nA\n"), strict=True):
        file.write_text(text)
    assert command("list_match", *files) == ["hit: B", "hit: A", "hits: 100.0%"]
    assert command("spearman", *files) == ["-1.0"]
    files[0].write_text("A\nB\nA\n")
    assert [line.split() for line in command("list_diff", 3, *files)[:3]] == [
        ["0", "A", "B", "1"],
        ["1", "B", "A", "-1"],
        ["2", "A", "-", "-1"],
    ]
    assert capsys.readouterr().err == ""
    command("list_diff", 4, *files)
    assert capsys.readouterr().err == "the list has 3 entries only\n"


@pytest.mark.parametrize(
    "lines", ["my drug 7 mM, my drug 8 mM", "drug 7 a day, drug 8 a day", "A  1, A  2", "A\t1, A\t2"]
)
def test_entries_of_several_words_are_one_each(tmp_path, lines):
    """Only a line of top_drugs.sh, with its two values, is known by its first column."""
    true, pred = tmp_path / "true", tmp_path / "pred"
    first, second = lines.split(", ")
    true.write_text(f"{first}\n")
    pred.write_text(f"{second}\n")
    assert command("list_match", true, pred) == ["hits:  0.0%"]
    pred.write_text(f"{second}  \n  {first}  \n")
    assert command("list_match", true, pred)[-1] == "hits: 100.0%"


def test_what_is_wrong_with_lists_is_said(tmp_path, capsys):
    files = {name: tmp_path / name for name in ("AB", "ABC", "empty", "sheet")}
    for name, file in files.items():
        file.write_text("\n".join(name) if name.isupper() else "\n")
    for command_line, message in (
        ("list_match AB empty", f"{files['empty']} has no lines"),
        ("list_diff 3 ABC AB", "C is in the true list only: the two lists must hold the same entries"),
        ("list_diff 3 sheet", f"{files['sheet']} has no rows below its 2 headings"),
    ):
        assert main([str(files.get(word, word)) for word in command_line.split()]) == 2
        assert capsys.readouterr().err == f"list_{command_line[5:].split()[0]}.py: {message}\n"
    assert command("spearman", files["ABC"], files["AB"]) == ["1.0"]
    assert capsys.readouterr().err == "1 entries are in one list only, and are left out\n"
    files["sheet"].write_text("rank,true,,rank,pred\n-,-,-,-,-\n0,A,,0,A\n\n1,B,,1\n")
    assert main(["list_diff", "2", str(files["sheet"])]) == 2
    assert f"{files['sheet']}:5: 4 columns: the lists are in columns 2 and 5" in capsys.readouterr().err


def test_values_that_only_differ_in_float64_are_not_equal(exp):
    make(exp, "P", [(0.1, 0.500000002, "close")], **by_drug("P"))
    make(exp, "Q", [(0.2, 0.500000001, "close")], **by_drug("Q"))
    assert command("score_cell", exp, "close", "--top", 1) == ["hits:  0.0%"]
    assert command("score_all_cells", exp, "close", "--top", 1)[-1] == "mean recall of 1 cells: 0.0%"


def test_a_drug_that_a_run_has_recorded_is_not_named_by_its_index(exp):
    """--rsp may be another version of the table, with other drugs at the numbers."""
    make(exp, "N", [(0.5, 0.5, "C")], partition="by_drug", index=0)
    names = {rows.run: rows.drug for rows in Reader(exp, drugs=["Other"])}
    assert names == {"A": "X", "B": "Y", "D": "X", "E": None, "N": "Other", "X": None}


def test_predictions_that_are_no_numbers_are_said(exp, capsys):
    make(exp, "P", [("x", 0.5, "other")], **by_drug("P"))
    assert command("list_cells", exp) == ["C", "only X"]
    command("top_drugs", exp, "true", "C")
    command("score_all_cells", exp, "C", "--top", 1)
    lines = capsys.readouterr().err.splitlines()
    assert ["run/P/test_y_data_predicted.csv: passed over: " in line for line in lines] == [True] * 3


def test_cells_of_which_no_correlation_is_defined(tmp_path):
    values = {"two drugs": [(0.1, 0.2), (0.3, 0.4)], "true": [(0.5, pred) for pred in (0.1, 0.2, 0.3)]}
    values["pred"] = [(pred, true) for true, pred in values["true"]]
    for number in range(3):
        rows = [(*pairs[number], cell) for cell, pairs in values.items() if number < len(pairs)]
        make(tmp_path / "EXP001", f"RUN{number:03}", rows, **by_drug(f"Drug {number}"))
    found = json.loads("\n".join(command("score_all_cells", "--json", tmp_path / "EXP001")))
    assert {row["cell"]: row["scc"] for row in found} == dict.fromkeys(values)


@pytest.mark.parametrize("partition", ["by_cell", "random"])
def test_rankings_need_runs_that_held_out_a_drug(exp, capsys, partition):
    make(exp, "F", [(0.5, 0.5, "C")], partition=partition, index=0, name="C")
    for name, *arguments in (
        ("top_drugs.sh", exp, "true", "C"),
        ("score_cell.sh", exp, "C"),
        ("score_all_cells.sh", exp),
    ):
        assert main([name, *map(str, arguments)]) == 2
        message = f"{name}: F has the partition {partition}: rankings of drugs need by_drug\n"
        assert capsys.readouterr() == ("", message)
    assert command("list_cells", exp) == ["C", "only X"]
    summary = summarize(exp, {}, None, [])
    left_out = "rankings of drugs are left out, and 1 RUN from the errors per drug"
    assert not summary.cells and summary.problems == [f"{left_out}: F is not partitioned by_drug"]


def test_the_report_counts_drugs(tmp_path):
    """Of 30 RUNs with 8 drugs the top 2 are ranked; all of them would be among the top 7."""
    for number in range(30):
        make(tmp_path / "EXP001", f"RUN{number:03}", [(0.5, 0.5, "C")], **by_drug(f"Drug {number % 8}"))
    [cell] = summarize(tmp_path / "EXP001", {}, None, []).cells
    assert (cell.drugs, cell.top) == (8, 2)
