"""What only EXPs of ours show: the journal's job, live and afterwards; the smaller tools."""

import errno
import json
import os

import numpy as np
import original_exp
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_original import command

from analysis import convergence, live, logs, metrics, progress
from analysis.cli import main
from analysis.exp import Saved, read_runs
from analysis.timeline import read_timeline

T = 1_795_244_000.0


def write_journal(exp, *events):
    exp.mkdir(exist_ok=True)
    (exp / "run").mkdir(exist_ok=True)
    (exp / "out").mkdir(exist_ok=True)
    lines = [json.dumps({"t": T + t, "event": event, **fields}) for t, event, fields in events]
    (exp / "journal.jsonl").write_text("\n".join(lines) + '\n{"t": 17952')


def started(run_id, rank, **more):
    return {"id": run_id, "attempt": 1, "rank": rank, "host": "node7", **more}


@pytest.fixture
def job(tmp_path):
    """A job at work: one RUN done, one failed, one to be tried again, two running, one waiting, one skipped."""
    exp = tmp_path / "EXP 7"
    events = [
        (0, "job_started", {"upf": "upf.json", "dflts": None, "procs": 3, "runs": 7}),
        (0, "run_skipped", {"id": "A", "reason": "done in EXP000"}),
        (1, "run_started", started("B", 1)),
        (1, "run_started", started("C", 2)),
        (101, "run_done", started("B", 1, seconds=100.0, value={"status": "ok", "epochs": 2})),
        (101, "run_started", started("D", 1)),
        (
            111,
            "run_failed",
            started("C", 2, final=True, message="OOM: killed\nby 9", log="out/out-002.txt", seconds=110),
        ),
        (111, "run_started", started("E", 2)),
        (121, "run_failed", started("E", 2, final=False, message="flaky", log="out/out-002.txt")),
        (121, "run_started", started("F", 2)),
    ]
    write_journal(exp, *events)
    (exp / "turbine.log").write_text("STARTED:           2026-11-21 07:04:51\nWALLTIME:          00:08:00\n")
    begin = "RUNNER INFO  run_tensorflow(): pkg.run() ...\n"
    before = begin + "Epoch 9/9\nrun_tensorflow(): pkg.run() done.\n"
    (exp / "out" / "out-001.txt").write_text(before + begin + "Epoch 1/4\nEpoch 2/4\n")
    (exp / "out" / "out-002.txt").write_text(before + begin)
    (exp / "lock.json").write_text("{}")
    return exp


def test_live_view(job, capsys):
    now = T + 151
    view = live.look(job)
    assert live.frame(job, view, now) == [
        f"EXP 7  {job}",
        "[#################.......................] 3/7 RUNs: 1 done, 1 skipped, 1 failed, 2 running, 2 waiting",
        "at work for 0:02:31, 23.8 RUNs/h, about 0:02:40 left",
        "walltime: 0:05:29 left: enough",
        "",
        "2 of 2 workers busy:",
        "  rank 1     node7        D                epoch 2/4 for 0:00:50",
        "  rank 2     node7        F                before its first epoch for 0:00:30",
        "",
        "last errors of 2:",
        "  C: OOM: killed  (out/out-002.txt)",
        "  E: flaky  (out/out-002.txt)",
    ]
    (job / "turbine.log").write_text("WALLTIME:          00:04:00\n")
    assert "walltime: 0:01:29 left: NOT enough, restart the EXP afterwards" in live.frame(job, view, now)
    for text in ("1-01", "1-01:00", "1-01:00:00", "25:00:00"):
        (job / "turbine.log").write_text(f"WALLTIME:          {text}\n")
        assert "walltime: 24:57:29 left: enough" in live.frame(job, view, now)
    assert command("progress.sh", job, "--watch", "--once")[0] == f"EXP 7  {job}"
    (job / "lock.json").unlink()
    lines = command("progress", "--watch", job)
    assert "3/7 RUNs: 1 done, 1 skipped, 1 failed, 2 interrupted, 0 running, 2 waiting" in lines[1]
    assert "was killed; restart EXP 7 by its name" in lines[2] and not any("rank" in line for line in lines)
    assert command("progress.sh", job)[-1].startswith("STOP: no exit code")


def test_a_job_in_the_queue_was_not_killed(tmp_path, capsys):
    exp = tmp_path / "EXP000"
    submitted = {"jobid": "77.pbs", "site": "aurora", "job": 1, "chain": 1, "upf": "a.upf", "dflts": "mine.json"}
    queued = [(0, "exp_created", {"restart": None}), (1, "job_submitted", submitted)]
    write_journal(exp, *queued)
    (exp / "a.upf").write_text('{"id": "A"}\n{"id": "B"}\n')
    (exp / "mine.json").write_text('{"epochs": 3}')
    text = "job 77.pbs was submitted to aurora and has not begun"
    lines = list(progress.summary(exp))
    assert lines[-1] == f"WAIT: {text}" and f"JSON: {exp / 'mine.json'}" in lines
    view = live.look(exp)
    assert view.ended is None and f"{text}" in live.frame(exp, view, T)[2]
    assert [run.status for run in read_runs(exp)] == ["waiting"] * 2
    write_journal(exp, *queued, (2, "job_stopped", {"code": 2, "reason": "a.upf:1: epochs must be"}))
    (exp / "turbine.log").write_text("EXIT CODE:         2\n")
    assert list(progress.summary(exp))[-1] == "STOP: exit code 2: a.upf:1: epochs must be"
    assert [line.split("] ")[-1] for line in live.frame(exp, live.look(exp), T)[1:]] == [
        "0/2 RUNs: 0 running, 2 waiting",
        "ended with exit code 2: a.upf:1: epochs must be",
    ]
    write_journal(exp, *queued)
    (exp / "turbine.log").unlink()
    (exp / "lock.json").write_text("{}")
    os.utime(exp / "lock.json", (T, T))
    assert list(progress.summary(exp))[-1].startswith("STOP:"), "it was killed before it had begun"


def test_runs_of_pytorch_models_count_too(job):
    for log in (job / "out").iterdir():
        log.write_text(log.read_text().replace("run_tensorflow", "run_pytorch"))
    assert {"NEWs: 4", "DONE: 2"} <= set(progress.summary(job))
    assert [(work.run, work.epoch) for work in live.look(job).works] == [("D", 2), ("F", None)]


def test_before_the_first_run_is_done_its_epochs_tell():
    states = {"A": "running", "B": "running"}
    view = live.View(
        4, 2, T, states=states, works=[live.Work("A", 1, None, T, 3, 10), live.Work("B", 2, None, T, 1, 10)]
    )
    assert view.eta(T + 60) == pytest.approx((2 * (300 - 60) + 2 * 300) / 2), "3/10: two epochs of 30 s are over"
    view.works[0].epoch = 1
    assert view.eta(T + 60) is None
    view = live.View(
        2, 2, T, None, {"A": "done", "B": "running"}, [40.0], [live.Work("B", 1, None, T, 4, 5)], whole=[40.0]
    )
    assert view.eta(T + 30) == pytest.approx(10), "as long as the one that is done"
    assert view.eta(T + 60) == pytest.approx(40), "it has taken longer, and two of its five epochs are left"


def test_epochs_of_jobs_before_took_no_time_in_this_one(job):
    """They made the time left that much shorter: after each restart the walltime was enough."""
    began = "run_tensorflow(): pkg.run() ...\n"
    (job / "out" / "out-001.txt").write_text(began + "Epoch 19/20\n")
    events = [(0, "job_started", {"procs": 2, "runs": 3}), (0, "run_started", started("B", 1))]
    write_journal(job, *events)
    assert live.look(job).eta(T + 60) is None
    for noise in ("", f"{'.' * live.job.TAIL_BYTES}\n"):  # the RUN's beginning is, and is not, in the tail of its log
        (job / "out" / "out-001.txt").write_text(f"{began}Epoch 19/20\n{noise}Epoch 20/20\n")
        view = live.look(job)
        assert view.eta(T + 60) == pytest.approx(60 + 2 * 20 * 60), "its last epoch, and two RUNs of 20"
    done = started("B", 1, seconds=120.0, value={"status": "ok", "epochs": 20}, epoch_seconds=None)
    write_journal(job, *events, (120, "run_done", done), (120, "run_started", started("C", 1)))
    (job / "out" / "out-001.txt").write_text(f"{began}Epoch 1/20\nEpoch 2/20\n")
    assert live.look(job).eta(T + 180) == pytest.approx(19 * 60 + 20 * 60), "B says nothing of whole RUNs"


def test_timeline(job):
    timeline = read_timeline(job, T + 151, {})
    assert [(s.rank, s.run, s.start - T, s.end - T, s.status) for s in timeline.spans] == [
        (1, "B", 1, 101, "done"),
        (2, "C", 1, 111, "failed"),
        (2, "E", 111, 121, "failed"),
        (1, "D", 101, 151, "running"),
        (2, "F", 121, 151, "running"),
    ]
    assert timeline.utilization() == pytest.approx((150 + 150) / (2 * 151))
    _, at_work = timeline.at_work()
    assert at_work.max() == 2 and at_work[-1] == 0
    (job / "lock.json").unlink()
    assert read_timeline(job, T + 9999, {}).end == T + 121, "a killed job ends with its last event"


def test_a_job_begins_when_it_has_left_the_queue(tmp_path):
    write_journal(
        tmp_path / "EXP000",
        (0, "exp_created", {"restart": None}),
        (1, "job_submitted", {"jobid": "77.pbs", "site": "aurora"}),
        (36_000, "job_started", {"procs": 2, "runs": 1}),
        (36_001, "run_started", started("A", 1)),
        (39_601, "run_done", started("A", 1, seconds=3600.0)),
        (39_602, "job_stopped", {"code": 0}),
    )
    timeline = read_timeline(tmp_path / "EXP000", T + 40_000, {})
    assert (timeline.start - T, timeline.end - T) == (36_000, 39_602)
    assert timeline.utilization() == pytest.approx(3600 / 3602)


def test_a_single_score_is_no_epoch(tmp_path):
    """An IMPROVE-style model returns {"val_loss": 0.1}: history.txt holds one value, but there was no epoch."""
    run = tmp_path / "EXP000" / "run" / "A"
    run.mkdir(parents=True)
    (run / "result.txt").write_text("0.1\n")
    for history, epochs in (({"val_loss": [0.1]}, None), ({"loss": [0.2], "val_loss": [0.1]}, 1), ({"mse": [1, 2]}, 2)):
        (run / "history.txt").write_text(json.dumps(history))
        assert read_runs(tmp_path / "EXP000")[0].epochs == epochs


numbers = st.lists(st.tuples(*[st.integers(0, 20).map(lambda n: n / 20)] * 2), min_size=2, max_size=40)


@given(numbers)
def test_metrics_agree_with_scipy(pairs):
    true, pred = (np.array(values) for values in zip(*pairs))
    found = metrics.scores(true, pred)
    constant = np.ptp(true) == 0 or np.ptp(pred) == 0
    assert (found["pcc"] is None) == (found["scc"] is None) == constant == ("reason" in found)
    assert (found["r2"] is None) == (np.ptp(true) == 0)
    assert found["mse"] == pytest.approx(np.mean(np.subtract(true, pred) ** 2), abs=1e-12)
    if not constant:
        assert found["pcc"] == pytest.approx(stats.pearsonr(true, pred)[0], abs=1e-6)
        assert found["scc"] == pytest.approx(stats.spearmanr(true, pred)[0], abs=1e-6)
    hits, beta = np.sum((true < 0.5) & (pred < 0.5)), 2.0
    if hits:
        precision, recall = hits / np.sum(pred < 0.5), hits / np.sum(true < 0.5)
        expected = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
        assert metrics.fbeta(true, pred, 0.5, beta) == pytest.approx(expected)


def test_metrics_that_are_not_defined_say_why():
    none, one = np.empty(0), np.array([0.5])
    assert metrics.scores(none, none) == {**dict.fromkeys(metrics.IMPROVE), "reason": "no rows"}
    assert metrics.scores(one, one) == {**dict.fromkeys(metrics.IMPROVE), "mse": 0.0, "rmse": 0.0, "reason": "one row"}
    assert metrics.fbeta(one, one) is None and metrics.mae_poly(none, none, 6) is None
    found = metrics.scores(np.array([0.1, 0.2]), np.array([0.3, 0.3]))
    assert found["pcc"] is None and found["r2"] == pytest.approx(-9) and found["reason"] == "pred of 2 rows constant"


@given(
    st.lists(st.sampled_from([b"Epoch", b"warning", *(b"%d/9 [=>" % n for n in range(9))]), max_size=60),
    st.integers(2, 9),
)
def test_shrink_keeps_the_ends_of_each_series(lines, one_in):
    """Against the rule, applied to each series as a whole."""
    expected, series, previous = [], [], None
    for line in [*lines, b"end"]:
        if b"/" in line:
            series.append(line)
            continue
        inner = range(3, max(3, len(series) - 3))
        kept = {*range(3), *range(len(series) - 3, len(series)), *(n for n in inner if (n + 1) % one_in == 0)}
        expected += [text for place, text in enumerate(series) if place in kept]
        series = []
        if line != previous:
            expected.append(line)
            previous = line
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "ONE_IN", one_in)
        assert list(logs.shrink([*lines, b"end"])) == expected


def test_a_log_that_grew_is_shrunk_again(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "BLOCK", 7)  # lines that span blocks
    log = tmp_path / "out-0.txt"
    log.write_bytes(b"\x1b[31mred\x1b[0m line\r\n\n  1/9 [=>\b\b\b\rlast, unfinished")
    assert command("shrink-logs", tmp_path)[0].startswith("1 of 1 logs")
    assert (tmp_path / "summary-0.txt").read_bytes() == b"red line\n  1/9 [=>\nlast, unfinished\n"
    assert command("shrink-logs", tmp_path)[1] == "1 had not changed"
    with log.open("ab") as file:
        file.write(b" no more\n")
    command("shrink-logs", tmp_path)
    assert (tmp_path / "summary-0.txt").read_bytes().endswith(b"last, unfinished no more\n")


def test_a_disk_that_is_full_is_one_line_with_the_file(tmp_path, monkeypatch, capsys):
    """A write does not say which file; and who removes logs that have no summary has neither."""

    def full(lines):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logs, "shrink", full)
    (tmp_path / "out-0.txt").touch()
    assert main(["shrink-logs", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{tmp_path}/summary-0.txt: No space left on device"
    assert said[1:] == ["shrink-logs.sh: no new summary of 1 log"]
    assert [path.name for path in tmp_path.iterdir()] == ["out-0.txt"]


@pytest.mark.parametrize(
    ("losses", "pattern"),
    [
        ([3, 2], "TOO_SHORT"),
        ([4, 3, 2, 1], "EARLY_TERMINATION"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], "STILL_IMPROVING"),
        ([9, 5, 3, 2, 1, 2, 3, 4, 5], "DIVERGING"),
        ([9, 5, 3, 2, 1, 1, 1, 1, 1], "NATURAL_CONVERGENCE"),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1.2, 1, 1.2, 1, 1.2, 1, 1.2, 1], "PLATEAUED"),
        ([9, 5, 3, 2, 1.5, 1.2, *(1 - 0.0008 * n for n in range(12))], "NATURAL_CONVERGENCE"),
        ([2 - 0.01 * n for n in range(100)] + [1 - 0.0008 * n for n in range(50)], "PLATEAUED"),
        ([9, 5, 3, 2, 1.5, 1.2, *(1 - 0.002 * n for n in range(6))], "STILL_IMPROVING"),
    ],
)
def test_patterns_of_convergence(losses, pattern):
    assert convergence.pattern_of(losses) == pattern


def test_index_of_exps(tmp_path):
    for number in (2, 10):
        original_exp.make(tmp_path / f"EXP{number}", 3, 5, 5, epochs=1)
    (tmp_path / "other").mkdir()
    rows = json.loads("\n".join(command("index", tmp_path, "--json")))
    assert [(row["EXP"], row["DFLTS"], row["PROCS"], row["done"]) for row in rows] == [
        ("EXP2", "dflts-e20-a6.json", "65", "3"),
        ("EXP10", "dflts-e20-a6.json", "65", "3"),
    ]
    scores = [json.loads(path.read_text())["mse"] for path in tmp_path.glob("EXP2/run/*/test_scores.json")]
    assert rows[0]["best mse"] == min(scores) and rows[0]["median mse"] == sorted(scores)[1]
    path = tmp_path / "EXP10/run/RUN001/test_scores.json"
    path.write_text('{"mse": NaN, "rmse": Infinity}')
    text = "\n".join(command("runs", tmp_path / "EXP10", "--json"))
    assert "NaN" not in text and "Infinity" not in text
    left = [row["test_mse"] for row in json.loads(text) if row["test_mse"] is not None]
    row = json.loads("\n".join(command("index", tmp_path, "--json")))[1]
    assert len(left) == 2 and (row["best mse"], row["median mse"]) == (min(left), pytest.approx(sum(left) / 2))


def test_tables(tmp_path, capsys):
    names = ["b", "a", "c"]
    frame = pd.DataFrame(
        {"improve_chem_id": pd.Categorical(["b", None, "a", "b", "c"], categories=["a", "b", "c", "unused"])}
    )
    frame.to_parquet(tmp_path / "rsp.parquet")
    assert command("list_drugs.py", tmp_path / "rsp.parquet") == [f"{n:03} {name}" for n, name in enumerate(names)]
    assert command("list_drugs.py", "--index", 2, tmp_path / "rsp.parquet") == ["002 c"]
    assert main(["list_drugs", "--index", "3", str(tmp_path / "rsp.parquet")]) == 2
    assert capsys.readouterr().err == "list_drugs.py: index 3 out of range: there are 3 drugs, numbered from 0\n"

    command("mk_pq.py", 5, "JW", tmp_path / "made.parquet", "--seed", 1)
    made = pd.read_parquet(tmp_path / "made.parquet")
    assert made.columns.tolist() == ["improve_sample_id", "improve_chem_id", "auc", "study"] and len(made) == 5
    assert command("show_pq.py", tmp_path / "made.parquet") == str(made).splitlines()
    command("cat_pq.py", tmp_path / "all.parquet", *[tmp_path / "made.parquet"] * 3)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "all.parquet"), pd.concat([made] * 3, ignore_index=True))
    size = (tmp_path / "all.parquet").stat().st_size
    lines = command("stat_pq.py", tmp_path / "all.parquet")
    assert lines[0].startswith(str(tmp_path)) and lines[2:] == [f"\tbytes: {size:12,}", f"\trows:  {15:12,}"]
    short = "\n".join(command("stat_pq", "-l", "-d", tmp_path / "rsp.parquet"))
    assert short.startswith(f"{tmp_path}") and short.endswith(f"rows:  {5:12,} drug: b drug: a drug: c")
    [row] = json.loads("\n".join(command("stat_pq", "--json", "-d", tmp_path / "rsp.parquet")))
    assert (row["rows"], row["drugs"]) == (5, names)
    assert command("stat_pq", "-v", tmp_path / "made.parquet")[-2:] == ["\tauc: double", "\tstudy: string"]
    capsys.readouterr()
    made[["auc"]].to_parquet(tmp_path / "auc.parquet")
    for arguments, message in (
        (["list_drugs", f"{tmp_path}/auc.parquet"], f"{tmp_path}/auc.parquet has no column improve_chem_id"),
        (["mk_pq", "-1", "x", f"{tmp_path}/new.parquet"], "ROWS is -1: it must be 0 or more"),
    ):
        assert main(arguments) == 2 and capsys.readouterr().err == f"{arguments[0]}.py: {message}\n"
    for arguments in (["cat_pq", "all", "made"], ["cat_pq", "new", "made", "rsp"], ["mk_pq", "1", "x", "all"]):
        assert main([arguments[0], *(str(tmp_path / f"{a}.parquet") if len(a) > 2 else a for a in arguments[1:])]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum("exists: refusing to overwrite" in line for line in errors) == 2
    assert "other columns or types" in errors[-2] and not (tmp_path / "new.parquet").exists()
    (tmp_path / "no.parquet").write_text("x")
    assert main(["show_pq", str(tmp_path / "no.parquet")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_wait_for_a_restart_is_no_training(tmp_path):
    """Epochs of a minute each, a day in the queue after the second, and then only every other epoch is saved."""
    day = 86400.0
    times = [(1, 0.0, True), (2, 60.0, False), (3, 60 + day, True), (5, 180 + day, False)]
    [run], _ = convergence.converged({tmp_path / "A": [Saved(epoch, 0.1, time, first) for epoch, time, first in times]})
    assert (run.epoch_minutes, run.hours) == (1.0, 0.05)
