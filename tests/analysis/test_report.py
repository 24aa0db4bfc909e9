"""The report: what it gathers of EXPs, and the one file that it writes."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import original_exp
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import same_color
from scipy import stats
from test_original import command
from test_rankings import by_drug, make

from analysis import figures, metrics
from analysis.cli import main
from analysis.command import AnalysisError
from analysis.report import pairs
from analysis.summary import AllRows, read_drug_info, summarize
from analysis.timeline import Span, Timeline


def test_report(tmp_path, capsys):
    exps = [tmp_path / name for name in ("EXP <1>", "EXP002")]
    for seed, exp in enumerate(exps):
        original_exp.make(exp, 12, 20, 20, epochs=6, seed=seed)
    (exps[0] / "run/RUN001/result.txt").write_text("RUN_EXCEPTION\n")
    drugs = [f"GDSC:{number}" for number in range(12)]
    pd.DataFrame({"improve_chem_id": drugs}).to_parquet(tmp_path / "rsp.parquet")
    (tmp_path / "drug_info.tsv").write_text("improve_chem_id\tname\nGDSC:3\tElesclomol\n")
    options = ["--rsp", tmp_path / "rsp.parquet", "--drug-info", tmp_path / "drug_info.tsv"]
    assert command("report", *exps, *options) == [str(exps[0] / "report" / "report.html")]
    page = (exps[0] / "report" / "report.html").read_text()
    ET.fromstring(re.sub("<!DOCTYPE html>|<(meta|img) [^>]*>", "", page))  # every tag is closed
    assert "EXP &lt;1&gt;" in page and "<EXP" not in page and "1 failed RUN<" in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', page), "it needs nothing else"
    assert "Elesclomol" in page, "the drug with the noise of index 3 has a high error"
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", page)]
    files = {path.read_bytes() for path in (exps[0] / "report").glob("*.png")}
    assert len(pictures) == 13 and set(pictures) == files and all(data.startswith(b"\x89PNG") for data in pictures)
    first, second = (json.loads("\n".join(command("scores", "--json", exp))) for exp in exps)
    pairs = [(x["rmse"], y["rmse"]) for x, y in zip(first, second, strict=True)]
    assert f"<td>{stats.wilcoxon(*zip(*pairs)).pvalue:.2g}</td>" in page
    empty = tmp_path / "EXP009"
    (empty / "run" / "A").mkdir(parents=True)
    assert main(["report", str(empty)]) == 0
    assert "has no test predictions (yet)" in capsys.readouterr().err


def rows_with(error):
    return [(true, round(true + error, 4), f"C{true}") for true in (0.2, 0.3, 0.4, 0.5)]


def test_a_run_that_held_out_no_drug_is_none(tmp_path, capsys):
    """Its errors are ten times those of the drugs."""
    exp = tmp_path / "EXP001"
    for number in range(4):
        make(exp, f"RUN{number:03}", rows_with(0.01), **by_drug(f"Drug_{number}"))
    make(exp, "RUN004", rows_with(0.1), partition="by_cell", index=4, name="HeLa")
    make(exp, "RUN005", rows_with(0.1), partition="random", index=5, name=None)
    summary = summarize(exp, {}, None, [])
    assert not summary.high_error() and [drug.run for drug in summary.drugs()] == [f"RUN{n:03}" for n in range(4)]
    assert summary.overall["rows"] == 6 * 4
    assert summary.problems == [
        "rankings of drugs are left out, and 2 RUNs from the errors per drug: RUN004 is not partitioned by_drug"
    ]
    cells = tmp_path / "EXP002"
    make(cells, "RUN004", rows_with(0.2), partition="by_cell", index=4, name="HeLa")
    command("report", exp, cells)
    assert "has no test predictions" not in capsys.readouterr().err
    page = (exp / "report" / "report.html").read_text()
    assert "No outliers" in page and "<td>RUN005</td>" not in page
    assert re.search("<td>HeLa</td><td>RUN004</td><td>0.1000</td><td>0.2000</td>", page), "it is compared as a RUN"


def test_pairs_of_runs_held_out_the_same(tmp_path):
    first = {"A": ("by_drug", 1, "X"), "B": ("by_drug", 1, "X"), "C": ("by_drug", 1, None), "D": ("by_drug", 1, "X")}
    first |= {"E": ("by_cell", 1, "HeLa"), "F": ("by_cell", 1, "HeLa"), "G": ("random", None, None)}
    second = {"A": ("by_drug", 9, "X"), "B": ("by_drug", 1, "Y"), "C": ("by_drug", 2, None), "D": ("by_drug", 1, None)}
    second |= {"E": ("by_cell", 1, "MC"), "F": ("by_drug", 1, "HeLa"), "G": ("random", None, None)}
    summaries = []
    for exp, runs in ((tmp_path / "EXP001", first), (tmp_path / "EXP002", second)):
        for run, record in runs.items():
            make(exp, run, rows_with(0.1), **dict(zip(("partition", "index", "name"), record, strict=True)))
        summaries.append(summarize(exp, {}, None, []))
    assert [x.run for x, y in pairs(*summaries)] == ["A", "D", "G"], "another index, no name, nothing to tell by"


def test_runs_without_rows_are_said(tmp_path):
    (tmp_path / "EXP001" / "run" / "C").mkdir(parents=True)
    make(tmp_path / "EXP001", "A", rows_with(0.1), **by_drug("X"))
    make(tmp_path / "EXP001", "B", [], **by_drug("Y"))
    summary = summarize(tmp_path / "EXP001", {}, None, [])
    assert [drug.run for drug in summary.drugs()] == ["A"]
    assert summary.problems == [
        "1 RUN without test predictions",
        "1 RUN without rows in the test predictions: B",
    ]


def test_bias_of_values_outside_0_to_1(tmp_path):
    """Of another response, or a linear activation; clipped to 1, predictions of 3 for 0.5 were 0.49 too high."""
    rows = [(0.505, 3.005, "C1"), (0.505, 3.005, "C2"), (0.2, 0.25, "C1"), (0.2, 0.15, "C3"), (-1, 0.5, "C4")]
    make(tmp_path / "EXP001", "A", rows, **by_drug("X"))
    summary = summarize(tmp_path / "EXP001", {}, None, [])
    [bars] = figures.residuals(summary).axes[2].containers
    assert bars[0].get_xydata() == pytest.approx(np.array([[0.205, 0], [0.505, 2.5]]))
    assert [np.ptp(segment[:, 1]) for segment in bars[2][0].get_segments()] == pytest.approx([4 * 0.05 / 2**0.5, 0])
    assert summary.problems == ["3 rows outside 0 to 1: pictures by AUC have them at their edges"]


def test_rows_are_counted_by_both_values():
    every = AllRows()
    every.add(np.array([0, 0.125, 0.125]), np.array([0.255, 1, 1]))
    every.add(np.array([-1.0]), np.array([7.0]))
    assert np.argwhere(every.density).tolist() == [[0, 25], [0, 99], [12, 99]]
    assert every.density[12, 99] == 2 and every.density.sum() == 4 and every.outside == 1
    assert every.residuals().tolist() == pytest.approx([0.255, 0.875, 0.875, 8]) and every.residuals().dtype == "f4"


def test_drugs_far_above_the_quartiles_have_a_high_error(tmp_path):
    for number, error in enumerate((0.2, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.4)):
        make(tmp_path / "EXP001", f"RUN{number:03}", rows_with(error), **by_drug(f"Drug_{number}"))
    summary = summarize(tmp_path / "EXP001", {"Drug_9": "Elesclomol"}, None, [])
    assert [drug.label for drug in summary.high_error()] == ["Elesclomol", "Drug_0"], "worst first"


def test_names_of_drugs(tmp_path):
    path = tmp_path / "drug_info.csv"
    path.write_text("\ufeffname,improve_chem_id\nElesclomol,D1\n,D2\n")
    assert read_drug_info(path) == {"D1": "Elesclomol"}
    for text in ("", "name,drug\nElesclomol,D1\n"):
        path.write_text(text)
        with pytest.raises(AnalysisError, match=r"drug_info\.csv has no columns improve_chem_id and name"):
            read_drug_info(path)


fractions = st.integers(0, 10_000).map(lambda n: n / 10_000)


@given(st.lists(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=9), min_size=1, max_size=5))
def test_scores_of_all_rows_agree_with_those_of_one_array(parts):
    every = AllRows()
    for part in parts:
        every.add(*np.array(part).T)
    rows = [row for part in parts for row in part]
    expected = metrics.scores(*np.array(rows).T)
    known = {name: expected[name] for name in ("mse", "rmse", "r2", "pcc") if expected[name] is not None}
    assert every.scores() == pytest.approx({"rows": len(rows), **known}, rel=1e-6, abs=1e-9)


def test_constant_values_have_no_spread():
    """Of 10,000 values with 4 decimals a third had one by rounding, and with it an r2 such as -1e23."""
    for value in np.arange(0, 1, 1e-4).round(4):
        for true, pred in ((np.full(30, value), np.linspace(0, 1, 30)), (np.linspace(0, 1, 30), np.full(30, value))):
            every = AllRows()
            every.add(true, pred)
            every.add(true, pred)
            assert set(every.scores()) == {"rows", "mse", "rmse", *(["r2"] if np.ptp(true) else [])}


def test_a_report_says_how_many_lines_it_leaves_out(tmp_path):
    """Of 23 failed RUNs and torn files it showed 20, and left out the last, which count the RUNs that are missing."""
    for number in range(23):
        make(tmp_path / "EXP001", f"RUN{number:03}", [], **by_drug(f"Drug_{number}"))
        (tmp_path / f"EXP001/run/RUN{number:03}/result.txt").write_text("RUN_EXCEPTION\n")
        (tmp_path / f"EXP001/run/RUN{number:03}/test_y_data_predicted.csv").write_text("torn")
    (tmp_path / "EXP001/run/RUN023").mkdir()
    assert main(["report", str(tmp_path / "EXP001")]) == 0
    page = (tmp_path / "EXP001/report/report.html").read_text()
    failed, left_out = page.split("23 failed RUNs")[1].split("Left out")
    assert "<p>... and 3 more.</p>" in failed and "<p>... and 4 more.</p>" in left_out


@pytest.mark.parametrize("length", ["0", "-3"])
def test_the_rankings_of_a_report_have_a_length(tmp_path, capsys, length):
    """0 and -3 were taken for 1."""
    make(tmp_path / "EXP001", "A", rows_with(0.01), **by_drug("X"))
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path / "EXP001"), "--top", length])
    assert f"it must be 1 or more, not {length}" in capsys.readouterr().err


def test_a_timeline_shows_all_the_time_of_which_it_says_how_much_was_busy():
    """An hour of staging before the first RUN, and half an hour of cleaning up, were cut off."""
    line = Timeline([Span(1, "A", 3600, 5400, "done")], 0, 7200, 1, estimated=False)
    summary = SimpleNamespace(timeline=line)
    first, last = figures.timeline(summary).axes[1].get_xlim()
    assert first <= 0 and last >= 120, "in minutes"


def test_exps_of_one_name_are_told_apart(tmp_path):
    """The EXP000 of two models: there was one picture of each kind, and one column of scores for both."""
    exps = [tmp_path / model / "Output" / "EXP000" for model in ("unorun", "mymodel")]
    for exp, error in zip(exps, (0.01, 0.03), strict=True):
        make(exp, "A", rows_with(error), **by_drug("X"))
    assert command("report", *exps) == [str(exps[0] / "report" / "report.html")]
    page = (exps[0] / "report" / "report.html").read_text()
    assert "<th>rmse, unorun/Output/EXP000</th><th>rmse, mymodel/Output/EXP000</th>" in page
    pictures = {base64.b64decode(data) for data in re.findall(r"base64,([^\"]*)", page)}
    assert {path.read_bytes() for path in (exps[0] / "report").glob("*.png")} == pictures


def test_long_names_of_exps_fit_into_the_comparison(tmp_path):
    """The two titles were written over each other, and cut at the picture's edges."""
    make(tmp_path / "EXP000", "A", rows_with(0.01), **by_drug("X"))
    summary = summarize(tmp_path / "EXP000", {}, None, [])
    summary.name = "uno-alpha6-EPOCHS200-batch32-WITHOUT-dropout-2026-07"
    figure = figures.comparison(summary, summary, pairs(summary, summary))
    figures.png(figure)
    left, right = (axes.title.get_window_extent() for axes in figure.axes)
    assert left.x0 >= 0 and left.x1 < right.x0 and right.x1 <= figure.bbox.x1
    assert same_color(figure.axes[0].collections[0].get_facecolor(), figures.GRAY)  # neither better nor worse


def test_values_that_differ_by_rounding_errors_only_are_drawn():
    """Of perfect predictions, some correlations are 1.0 and some 0.9999999999999999: too many bins for NumPy."""
    cell = {"top": 10, "recall": 1.0, "drugs": 20}
    summary = SimpleNamespace(cells=[SimpleNamespace(scc=scc, **cell) for scc in (1.0, np.nextafter(1.0, 0))])
    heights = [bar.get_height() for bar in figures.cells(summary).axes[0].patches]
    assert sorted(heights)[-2:] == [0, 2]
