"""Every command on an EXP in the layout of the original system; results against computations with pandas and scipy."""

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import original_exp
import pandas as pd
import pytest
from scipy import stats

from analysis.cli import COMMANDS, main
from analysis.command import replacing
from analysis.exp import all_checkpoints
from analysis.timeline import read_timeline

RUNS, ROWS, CELLS = 24, 30, 20  # fewer cells than rows: some drugs are measured twice in a cell


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    exp = tmp_path_factory.mktemp("a place") / "EXP011"
    frame = pd.DataFrame(original_exp.make(exp, RUNS, ROWS, CELLS, epochs=6, log_bytes=60_000))
    frame["run"] = [f"RUN{number:03}" for number in frame.run]
    return exp, frame


def command(*arguments):
    """Lines on stdout of a command that succeeds."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(argument) for argument in arguments]) == 0, out.getvalue()
    return out.getvalue().splitlines()


def lowest(frame, cell, kind):
    """The drugs of a cell by lowest AUC, one row each, by sorting and dropping."""
    rows = frame[frame.cell == cell].sort_values(kind, kind="stable").drop_duplicates("run")
    return rows.run.tolist()


def test_cells_and_rankings(made):
    exp, frame = made
    assert command("list_cells.sh", exp) == sorted(frame.cell.unique())
    cell = "ACH-000003"
    for kind in ("true", "pred"):
        lines = [line.split() for line in command("top_drugs.sh", exp, kind, cell, 7)]
        assert [line[0] for line in lines] == lowest(frame, cell, kind)[:7]
        values = frame[frame.cell == cell].groupby("run")[kind].min().sort_values().head(7)
        assert [float(line[1 if kind == "true" else 2]) for line in lines] == values.tolist()
        assert {line[3] for line in lines} == {cell}
    scores = {row["cell"]: row for row in json.loads("\n".join(command("score_all_cells.sh", "--json", exp)))}
    assert list(scores) == sorted(frame.cell.unique())
    for cell, mine in frame.groupby("cell"):
        tops = [set(lowest(frame, cell, kind)[:10]) for kind in ("true", "pred")]
        best = mine.groupby("run")[["true", "pred"]].min()
        assert scores[cell]["recall"] == len(tops[0] & tops[1]) / len(tops[0])
        assert scores[cell]["scc"] == pytest.approx(stats.spearmanr(best.true, best.pred)[0], abs=1e-6)
    assert command("score_cell.sh", exp, cell)[-1] == f"hits: {100 * scores[cell]['recall']:4.1f}%"


def test_ranked_lists(made, tmp_path, capsys):
    exp, frame = made
    for kind in ("true", "pred"):
        (tmp_path / kind).write_text("\n".join(command("top_drugs", exp, kind, "ACH-000005", RUNS)) + "\n")
    names = [lowest(frame, "ACH-000005", kind) for kind in ("true", "pred")]
    assert command("list_match.py", tmp_path / "true", tmp_path / "pred")[-1] == "hits: 100.0%"
    moves = [names[1].index(name) - place for place, name in enumerate(names[0][:5])]
    lines = command("list_diff.py", 5, tmp_path / "true", tmp_path / "pred")
    assert [int(line.split()[-1]) for line in lines[:5]] == moves
    assert lines[-2:] == [f"diff_sum:  {sum(moves):8}", f"diff_sum2: {sum(move**2 for move in moves):8}"]
    expected = stats.spearmanr(range(len(names[0])), [names[1].index(name) for name in names[0]])[0]
    assert float(command("spearman.py", tmp_path / "true", tmp_path / "pred")[0]) == pytest.approx(expected)

    rows = ["rank,true,auc,rank,pred", "-,-,-,-,-", *(f"{i},{a},0,{i},{b}" for i, (a, b) in enumerate(zip(*names)))]
    (tmp_path / "sheet.csv").write_text("\n".join(rows))
    assert command("list_diff.py", 5, tmp_path / "sheet.csv") == lines
    for name, auc in (("first", "0.5"), ("second", "0.6")):  # one drug with two measurements in a cell with a blank
        (tmp_path / name).write_text(f"RUN 7  {auc}  0.6  my cell\n")
    assert command("list_match", tmp_path / "first", tmp_path / "second")[-1] == "hits: 100.0%"
    (tmp_path / "names").write_text("GDSC 1\nGDSC 2\n")
    (tmp_path / "others").write_text("GDSC 2\nGDSC 3\n")
    assert command("list_match", tmp_path / "names", tmp_path / "others") == ["hit: GDSC  2", "hits: 50.0%"]
    assert main(["spearman", str(tmp_path / "names"), str(tmp_path / "others")]) == 2
    assert capsys.readouterr().err == "spearman.py: the lists have 1 entries in common: a correlation needs two\n"


def test_scores(made):
    exp, frame = made
    for by, groups in (("run", "run"), ("cell", "cell"), ("all", lambda _: "all")):
        rows = json.loads("\n".join(command("scores", "--by", by, "--json", "--alpha", "2", exp)))
        for row, (name, mine) in zip(rows, frame.groupby(groups), strict=True):
            t, p = mine.true.to_numpy(), mine.pred.to_numpy()
            assert name in row.values() and row["rows"] == len(mine)
            assert row["mse"] == pytest.approx(((t - p) ** 2).mean(), abs=1e-6)
            assert row["rmse"] == pytest.approx(((t - p) ** 2).mean() ** 0.5, abs=1e-6)
            assert row["pcc"] == pytest.approx(stats.pearsonr(t, p)[0], abs=1e-6)
            assert row["scc"] == pytest.approx(stats.spearmanr(t, p)[0], abs=1e-6)
            assert row["r2"] == pytest.approx(1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum(), abs=1e-6)
            assert row["mae_poly"] == pytest.approx((abs(t - p) * (1 - t) ** 2).mean(), abs=1e-6)
            hits = ((t < 0.5) & (p < 0.5)).sum()
            expected = 2 * hits / ((t < 0.5).sum() + (p < 0.5).sum()) if hits else row["fbeta"]
            assert row["fbeta"] == pytest.approx(expected)


def test_collect(made, tmp_path):
    exp, frame = made
    drugs = [f"Drug {number}" for number in range(RUNS)]
    pd.DataFrame({"improve_chem_id": drugs}).to_parquet(tmp_path / "rsp.parquet")
    command("collect", exp, "-o", tmp_path / "all.parquet", "--rsp", tmp_path / "rsp.parquet")
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert table.columns.tolist() == ["run", "drug", "cell", "true", "pred"]
    text = {"run": str, "cell": str}
    pd.testing.assert_frame_equal(table[["run", "cell", "true", "pred"]].astype(text), frame.astype(text))
    assert table.drug.tolist() == [drugs[int(run[3:])] for run in table.run]


def test_extract(made):
    exp, frame = made
    assert command("extract.py", exp) == [f"{RUNS} scores of {RUNS} RUNs -> {exp / 'scores.csv'}"]
    mse = ((frame.true - frame.pred) ** 2).groupby(frame.run).mean()
    assert (exp / "scores.csv").read_text().splitlines() == [f"{n:03},{score:.9f}" for n, score in enumerate(mse)]


def test_scores_of_runs_with_one_number(tmp_path, capsys):
    exp = tmp_path / "EXP000"
    indices = {"RUN003": 7, "a": 3, "b": 3, "c": 4, "4": None, "005": None, **{f"s{n}": 5 for n in range(5)}}
    for number, (name, index) in enumerate(indices.items()):
        run = exp / "run" / name
        run.mkdir(parents=True)
        (run / "partition.json").write_text(json.dumps({"partition": "by_drug", "index": index}))
        (run / "test_scores.json").write_text(json.dumps({"mse": number / 8}))
    command("extract.py", exp)
    shared = "003: RUN003, a, b; 005: s0, s1, s2, s3, s4, ..."
    assert capsys.readouterr().err == f"RUNs that share a number (--csv has their names): {shared}\n"
    lines = (exp / "scores.csv").read_text().splitlines()
    assert len(lines) == len(indices) and lines.count("003,0.125000000") == 1
    for name in indices:
        (exp / "run" / name / "partition.json").unlink()
    command("extract.py", exp)
    assert capsys.readouterr().err == ""


def test_progress_epochs_and_logs(made):
    exp, _ = made
    expected = (
        f"DIR:  {exp}|JOB:  4711|JSON: {exp}/dflts-e20-a6.json"
        "|PROCS:             65|PPN:               12|epochs: 6|alpha: 6"
        f"|OUTs: {RUNS + 1}|RUNs: {RUNS}|NEWs: {RUNS + 1}|DONE: {RUNS + 1}|MKRs: {RUNS}"
        "|TIME: 79200.123|DONE: 2025-07-18 06:00:00"
    )
    assert command("progress.sh", exp) == expected.split("|")
    assert (exp / "progress.txt").read_text().splitlines() == expected.split("|")
    command("epochs.sh", exp, 1)
    assert (exp / "epochs.txt").read_text().splitlines() == [f"RUN{number:03} 6" for number in range(RUNS)]
    command("shrink-logs.sh", exp / "out")
    log, summary = ((exp / "out" / f"{name}-001.txt").read_bytes() for name in ("out", "summary"))
    assert b"\b" in log and b"\r" in log and not set(b"\b\r") & set(summary)
    lines = summary.decode().splitlines()
    bars = [int(line.split("/")[0]) for line in lines if "ETA" in line]
    series = 60_000 // 6 // 190
    assert bars == [*range(3), *range(series - 2, series)] * 6, "the third of the last 3 is the epoch's last line"
    assert "" not in lines and len(lines) == len(set(lines)) + 6 * 6 - len(set(bars)) - 1
    for path in exp.glob("out/out-*.txt"):  # people delete the logs once they are shrunk
        path.unlink()
    assert command("progress.sh", exp) == expected.split("|")


def test_a_job_of_the_original_system_at_work_and_dead(tmp_path):
    exp = tmp_path / "EXP011"
    original_exp.make(exp, 4, 5, 5, epochs=3)
    (exp / "output.txt").write_text("TURBINE-PBS SCRIPT\n")
    (exp / "run" / "RUN001" / "result.txt").write_text("RUN_EXCEPTION\n")
    (exp / "run" / "RUN002" / "result.txt").unlink()
    begun = "run_tensorflow(): pkg.run() ...\nEpoch 2/3\n  7/9 [==>"
    (exp / "out" / "out-003.txt").write_bytes(original_exp.log(3, 3) + begun.encode())
    lines = command("progress.sh", "--watch", "--once", exp)
    assert "] 3/4 RUNs: 2 done, 1 failed, 1 running, 0 waiting" in lines[1]
    assert next(line for line in lines if "rank 3" in line).split()[2:5] == ["RUN002", "epoch", "2/3"]
    assert command("progress.sh", exp)[-1] == "LIVE: the job is at work"
    for log in (exp / "out").iterdir():
        os.utime(log, (0, 0))
    lines = command("progress.sh", "--watch", exp)
    assert "2 done, 1 failed, 1 interrupted, 0 running" in lines[1] and lines[2] == "no log has grown for 15 minutes"
    assert command("progress.sh", exp)[-1] == "STOP: no exit code: the job was killed"
    (exp / "output.txt").write_text("PBS: job killed: walltime 86412 exceeded limit 86400\n")
    assert command("progress.sh", exp)[-1] == "STOP: walltime 86412 exceeded limit 86400"
    statuses = [span.status for span in read_timeline(exp, 0, all_checkpoints(exp)).spans]
    assert statuses == ["done", "failed", "interrupted", "done"]


def test_dflts_under_any_name_and_in_any_legal_spelling(tmp_path):
    exp = tmp_path / "EXP000"
    original_exp.make(exp, 1, 5, 5, epochs=2)
    text = (exp / "dflts-e20-a6.json").read_text()
    (exp / "dflts-e20-a6.json").unlink()
    (exp / "a.json").write_text('{"no DFLTS": 1}\n{"nor UPF": 2}\n')
    (exp / "defaults.json").write_text(f"\ufeff# mine\n{text}# at night\n", newline="\r\n")
    lines = command("progress.sh", exp)
    assert lines[2] == f"JSON: {exp}/defaults.json" and {"epochs: 2", "alpha: 6"} <= set(lines)
    assert {"EXP000/defaults.json", "EXP000/hed-gen-1.json"} <= set(command("export.sh", "--list", exp))
    (exp / "defaults.json").write_text("{} # none")
    assert command("progress.sh", exp)[2] == f"JSON: {exp}/defaults.json"


def test_export_is_deterministic_and_stays_inside(made, tmp_path, capsys):
    exp, _ = made
    secret = tmp_path / "secret_scores.json"
    secret.write_text("{}")
    (exp / "run" / "RUN000" / "other_scores.json").symlink_to(secret)
    (exp / "run" / "RUN001" / "more_scores.json").mkdir()
    for name in ("a", "b"):
        command("export.sh", exp, "-o", tmp_path / f"{name}.tgz")
        errors = capsys.readouterr().err
        assert "other_scores.json: not packed: a link" in errors and "more_scores.json: not packed: Is a dir" in errors
        (exp / "run" / "RUN000" / "not wanted.h5").write_text("new")
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
    with tarfile.open(tmp_path / "a.tgz") as archive:
        members = {member.name: member for member in archive}
        path = "EXP011/run/RUN003/test_y_data_predicted.csv"
        assert archive.extractfile(path).read() == (exp.parent / path).read_bytes()
    assert all(member.isfile() and member.uid == 0 and not member.uname for member in members.values())
    inputs = {"dflts-e20-a6.json", f"hed-gen-{RUNS}.json", "jobid.txt", "turbine.log", "output.txt", "scores.csv"}
    assert inputs <= {name.removeprefix("EXP011/") for name in members}
    per_run = {Path(name).name for name in members if "/RUN003/" in name}
    assert per_run == {"test_scores.json", "test_y_data_predicted.csv", "parameters.txt", "history.txt", "result.txt"}


def test_clean_ckpts(tmp_path):
    exp = tmp_path / "EXP000"
    original_exp.make(exp, 3, 5, 5, epochs=8)
    epochs = exp / "run" / "RUN001" / "ckpts" / "epochs"
    for number in range(1, 9):
        (epochs / f"{number:03}" / "model.h5").write_bytes(b"m" * 1000)
    best = epochs.parent / "best"
    best.unlink()
    best.symlink_to("/elsewhere/EXP283/run/RUN001/ckpts/epochs/002")
    (exp / "run" / "RUN002" / "ckpts" / "last").unlink()
    models = sorted(exp.glob("run/*/ckpts/epochs/*/model.h5"))
    line = command("clean-ckpts.sh", "--dry-run", exp, 2)[-1]
    assert sorted(exp.glob("run/*/ckpts/epochs/*/model.h5")) == models
    assert line == "would remove the models of 9 epochs: would free 9.0 kB"
    assert command("clean-ckpts.sh", exp, 2)[-1] == "removed the models of 9 epochs: freed 9.0 kB"
    left: dict[str, list[str]] = {}
    for path in sorted(exp.glob("run/*/ckpts/epochs/*/model.h5")):
        left.setdefault(path.parts[-5], []).append(path.parts[-2])
    assert left == {"RUN000": ["007", "008"], "RUN001": ["002", "007", "008"], "RUN002": ["007", "008"]}
    assert len(list(exp.glob("run/*/ckpts/epochs/*/ckpt-info.json"))) == 24
    best.unlink()  # the original removes it before it makes the new one: then the records tell
    info = json.loads((epochs / "003" / "ckpt-info.json").read_text())
    for number in range(3, 9):
        (epochs / f"{number:03}" / "ckpt-info.json").write_text(json.dumps({**info, "epoch": number}))
    (epochs / "003" / "model.h5").write_bytes(b"m")
    command("clean-ckpts.sh", exp, 1)
    assert [path.parent.name for path in sorted(epochs.glob("*/model.h5"))] == ["003", "008"]
    for name in ("best", "last"):  # a job at work has not linked its newest epoch yet
        (epochs.parent / name).unlink(missing_ok=True)
        (epochs.parent / name).symlink_to("epochs/003")
    command("clean-ckpts.sh", exp, 1)
    assert [path.parent.name for path in sorted(epochs.glob("*/model.h5"))] == ["003", "008"]


def test_convergence(made, tmp_path):
    exp, _ = made
    rows = json.loads("\n".join(command("analyze_convergence", "EXP011", exp.parent, "--json")))
    finals = {row["run"]: row["final_loss"] for row in rows}
    limits = np.percentile(list(finals.values()), [10, 25, 75])
    for row in rows:
        info = json.loads((exp / "run" / row["run"] / "ckpts/epochs/006/ckpt-info.json").read_text())
        assert row["final_loss"] == info["best_metric_last"] and row["epochs"] == 6, "history.txt begins at a resume"
        tiers = ["EXCELLENT", "GOOD", "AVERAGE", "POOR"]
        assert row["tier"] == tiers[sum(row["final_loss"] > limit for limit in limits)]
    assert {row["epoch_minutes"] for row in rows} == {30.0}
    text = command("analyze_convergence", exp)
    assert text[0] == "CONVERGENCE OF EXP011" and "restart the EXP with more epochs" in text[-1]


def test_torn_and_missing_files(tmp_path, capsys):
    exp = tmp_path / "EXP 1"
    frame = pd.DataFrame(original_exp.make(exp, 6, 10, 10, epochs=2))
    runs = [exp / "run" / f"RUN{number:03}" for number in range(6)]
    whole = (runs[1] / "test_y_data_predicted.csv").read_bytes()
    (runs[1] / "test_y_data_predicted.csv").write_bytes(whole[:-3])
    (runs[1] / "test_scores.json").write_text('{"mse": 0.')
    (runs[2] / "test_y_data_predicted.csv").write_text("garbage")
    (runs[2] / "test_scores.json").unlink()
    (runs[3] / "test_y_data_predicted.csv").write_text("auc_true,auc_pred,labels\n0.5,nan,A\n0.5,0.5\n0.25,0.5,B\n")
    (runs[3] / "test_scores.json").write_text('{"mse": null, "reason": "constant"}')
    (runs[4] / "test_y_data_predicted.csv").write_text("auc_true,auc_pred,labels\n")
    (runs[5] / "test_y_data_predicted.csv").unlink()
    rows = {row["run"]: row for row in json.loads("\n".join(command("scores", "--json", exp)))}
    errors = capsys.readouterr().err
    assert [(run, row["rows"], row["reason"]) for run, row in rows.items()] == [
        ("RUN000", 10, ""),
        ("RUN001", 9, ""),
        ("RUN003", 1, "one row"),
        ("RUN004", 0, "no rows"),
    ]
    assert rows["RUN003"]["mse"] == 0.0625 and rows["RUN003"]["pcc"] is None and rows["RUN004"]["mse"] is None
    for part in ("RUN001/test_y_data_predicted.csv: torn", "RUN002/test_y_data_predicted.csv: passed over"):
        assert part in errors
    assert "1 lines without three columns" in errors and "1 rows without finite values" in errors
    assert command("extract.py", exp)[0].startswith("3 scores of 6 RUNs")
    errors = capsys.readouterr().err
    assert "not whole JSON" in errors and "no such file" in errors and "mse is undefined" in errors
    assert [line[:3] for line in (exp / "scores.csv").read_text().splitlines()] == ["000", "004", "005"]
    command("score_all_cells.sh", exp)
    cells = set(frame.cell[frame.run.isin([0, 1])]) | {"B"}
    assert set(command("list_cells.sh", exp)) <= cells


def test_more_than_a_thousand_runs(tmp_path):
    exp = tmp_path / "EXP000"
    for number in (0, 2, 999, 1000, 12345):  # with gaps
        run = exp / "run" / f"RUN{number:03}"
        run.mkdir(parents=True)
        (run / "test_scores.json").write_text(json.dumps({"mse": number / 8}))
    command("extract.py", exp)
    assert (exp / "scores.csv").read_text() == (
        "000,0.000000000\n002,0.250000000\n999,124.875000000\n1000,125.000000000\n12345,1543.125000000\n"
    )


def test_bad_input_is_one_line(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CANDLE_DATA_DIR", str(tmp_path))
    exp, _ = made
    for arguments, message in (
        (["epochs", tmp_path], f"epochs.sh: {tmp_path} is not an EXP: it has no directory run"),
        (["runs", tmp_path / "x"], f"runs: there is no {tmp_path / 'x'}"),
        (["runs", "EXP999"], f"runs: there is no EXP999, here or in {tmp_path}/unorun/Output"),
        (["shrink-logs", tmp_path], f"shrink-logs.sh: {tmp_path} has no logs out-*.txt"),
        (["extract.py", exp, "mess"], "extract.py: there is no metric mess: there are mse, rmse"),
        (["top_drugs.sh", exp, "true", "ACH-00003"], "top_drugs.sh: no RUN has the cell ACH-00003: did you mean"),
        (["index", exp.parent, "--metric", "mess"], "index: there is no metric mess: there are mse, rmse"),
        (["list_match", tmp_path / "a", tmp_path / "b"], f"list_match.py: {tmp_path / 'a'}: No such file or directory"),
        (["mk_pq", 3, "S", tmp_path / "x" / "y"], f"mk_pq.py: {tmp_path / 'x' / 'y'}: No such file or directory"),
        (["nonsense"], "analysis: there is no command 'nonsense'"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(message) and (error.count("\n") == 1 or arguments == ["nonsense"])
    for arguments, message in (
        (["top_drugs.sh", exp, "tru", "A"], "argument TYPE: invalid choice: 'tru'"),
        (["top_drugs.sh", exp, "true", "ACH-000003", 0], "argument COUNT: it must be 1 or more, not 0"),
        (["clean-ckpts.sh", exp, -1], "argument N: it must be 1 or more, not -1"),
        (["score_cell.sh", "--top", "x", exp, "ACH-000001"], "argument --top: it must be 1 or more, not x"),
        (["list_diff.py", -1, exp, exp], "argument N: it must be 1 or more, not -1"),
    ):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.count("\n") == 1
        assert error.startswith(f"python -m analysis {arguments[0]}: {message}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CANDLE_DATA_DIR", "~/o")
    assert main(["runs", "EXP999"]) == 2 and f"here or in {tmp_path}/o/unorun/Output" in capsys.readouterr().err
    monkeypatch.setenv("CANDLE_DATA_DIR", "")  # as good as not set, as for the jobs
    assert main(["runs", "EXP999"]) == 2 and "here or in out/unorun/Output" in capsys.readouterr().err


def test_who_writes_a_file_at_the_same_time_as_another_is_not_disturbed(tmp_path):
    path = tmp_path / "progress.txt"
    with replacing(path) as first:
        first.write("first\n")
        with replacing(path) as second:  # of a container, whose process has the same number
            second.write("second\n")
    assert path.read_text() == "first\n" and list(tmp_path.iterdir()) == [path]


def test_tables_of_the_users_that_cannot_be_read_are_one_line(made, tmp_path, capsys):
    good, latin, large = (tmp_path / name for name in ("good.tsv", "latin1.csv", "large.csv"))
    good.write_text("CVCL_0030\tFemale\t31\tEurope\tHeLa\n")
    latin.write_bytes("CELL_LINE_NAME\nMü\n".encode("latin-1"))
    large.write_text(f"CELL_LINE_NAME\n{'x' * 131_073}\n")
    for arguments in (["cell-grep", latin, good], ["cell-grep", good, latin], ["list_diff.py", 3, latin]):
        assert main([*map(str, arguments)]) == 2
        assert capsys.readouterr().err.endswith(f": {latin}: is not UTF-8 (byte 0xfc): convert it\n")
    assert main(["report", str(made[0]), "--drug-info", str(latin)]) == 2
    assert capsys.readouterr().err == f"report: {latin}: is not UTF-8 (byte 0xfc): convert it\n"
    assert main(["cell-grep", str(large), str(good), "x", str(tmp_path / "out.csv")]) == 2
    assert capsys.readouterr().err == f"cell-grep: {large}: no CSV: field larger than field limit (131072)\n"
    assert not (tmp_path / "out.csv").exists()


def test_every_command_is_a_script_and_has_help(capsys):
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    plain = {"runs", "index", "scores", "collect", "report"}  # names too common to be put on everybody's PATH
    for name in COMMANDS:
        lines = (f'\n"{name}" = "analysis.cli:script"', f'\n{name} = "analysis.cli:script"')
        assert any(line in text for line in lines) != (name in plain)
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 0 and f"example: python -m analysis {name} " in said
