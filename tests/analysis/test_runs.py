import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import live
from analysis.cli import main
from analysis.exp import all_checkpoints, read_runs
from analysis.job import read_journal, unix_time
from analysis.progress import summary
from analysis.runs import print_table, table
from analysis.timeline import read_timeline

SCORES = {"mse": 0.01, "rmse": 0.1, "pcc": None, "scc": 0.5, "r2": 0.75}


def make_run(exp, run_id, epochs=0, result=None, scores=None, partition=None):
    run = exp / "run" / run_id
    run.mkdir(parents=True)
    for number in range(1, epochs + 1):
        info = run / f"ckpts/epochs/{number:03}/ckpt-info.json"
        info.parent.mkdir(parents=True)
        info.write_text("{}")
    if result is not None:
        (run / "result.txt").write_text(result + "\n")
    for part in ("val", "test") if scores else ():
        (run / f"{part}_scores.json").write_text(json.dumps(scores, indent=4))
    if partition:
        (run / "partition.json").write_text(json.dumps(partition))
    return run


def drug(index, name):
    return {"partition": "by_drug", "index": index, "partition_seed": 1, "name": name, "rows": {"train": 8}}


@pytest.fixture
def exp(tmp_path):
    """An EXP of ours with a RUN of each kind; the job was killed."""
    exp = tmp_path / "EXP001"
    make_run(exp, "B", 3, "0.1", SCORES, drug(1, "Drug_1"))
    make_run(exp, "A", 2, None, None, drug(0, "Drug_0"))
    make_run(exp, "failing", 0, "RUN_EXCEPTION", None, drug(2, "Drug_2"))
    make_run(exp, "before", 5, "0.2", SCORES, drug(3, "Drug_3"))
    ids = ["B", "A", "failing", "before", "retry", "never"]
    upf = ["\ufeff# GEN JSONS", "", *(json.dumps({"id": i, "index": n}) for n, i in enumerate(ids))]
    (exp / "upf.json").write_text("\r\n".join(upf) + "  # comment\n")
    events = [
        {"event": "job_started", "upf": "upf.json", "dflts": None, "runs": 6},
        {"event": "run_skipped", "id": "before", "reason": "done in EXP000"},
        {"event": "run_started", "id": "B"},
        {"event": "run_started", "id": "A"},
        {"event": "run_done", "id": "B", "seconds": 3671.4, "value": {"status": "ok", "epochs": 3}},
        {"event": "run_started", "id": "failing"},
        {"event": "run_failed", "id": "failing", "final": True, "message": "ValueError: boom\nin f", "seconds": 2},
        {"event": "run_failed", "id": "retry", "final": False, "message": "killed", "seconds": 1},
        {"event": "of_a_later_version", "id": ["?"]},
        {"event": "run_started", "id": "not in the UPF"},
    ]
    lines = [json.dumps({"t": 1.0, **event}) for event in events]
    (exp / "journal.jsonl").write_text("\n".join(lines) + '\n{"t": 2.0, "event": "run_do')
    return exp


def test_runs_of_our_exp(exp):
    runs = read_runs(exp)
    assert [(run.id, run.status) for run in runs] == [
        ("B", "done"),
        ("A", "interrupted"),
        ("failing", "failed"),
        ("before", "skipped"),
        ("retry", "waiting"),
        ("never", "waiting"),
    ]
    assert [run.epochs for run in runs] == [3, 2, None, 5, None, None]
    assert [run.held_out for run in runs] == ["Drug_1", "Drug_0", "Drug_2", "Drug_3", None, None]
    done = runs[0]
    assert (done.result, done.seconds, done.val, done.index) == ("0.1", 3671.4, SCORES, 1)
    (exp / "lock.json").write_text("{}")
    assert read_runs(exp)[1].status == "running"


@pytest.fixture
def read_only(exp):
    """The EXP on a file system that nobody can write to, such as a snapshot."""
    if subprocess.run(["mount", "--bind", str(exp), str(exp)], capture_output=True).returncode:
        pytest.skip("a file system can only be mounted as root")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(exp)], check=True)
    yield exp
    subprocess.run(["umount", "-l", str(exp)], check=True)


def test_a_result_that_cannot_be_written_is_named_as_the_user_knows_it(read_only, capsys):
    """It was the temporary file of it."""
    assert main(["extract.py", str(read_only)]) == 2
    assert capsys.readouterr().err.endswith(f"extract.py: {read_only}/scores.csv: Read-only file system\n")


def test_a_directory_whose_name_is_not_utf8(exp):
    """progress.sh had a traceback; the name's bytes are on the terminal, and can be read in the file."""
    exp = exp.rename(exp.with_name(os.fsdecode(b"caf\xe9")))
    assert main(["progress.sh", str(exp)]) == 0
    assert r"/caf\udce9" in (exp / "progress.txt").read_text(encoding="utf-8").split("\n")[0]


def test_progress_of_a_job_with_failed_runs(exp):
    with (exp / "journal.jsonl").open("a") as file:
        file.write('\n{"event": "job_stopped", "code": 3, "reason": "all RUNs were resolved", "failed": 1}\n')
    (exp / "turbine.log").write_text("EXIT CODE:         3\nCOMPLETED:         2026-11-21 07:04:51\n")
    assert list(summary(exp))[-2:] == ["STOP: exit code 3: 1 RUN failed", "DONE: 2026-11-21 07:04:51"]


@pytest.mark.parametrize("count", [1, 1000])
def test_a_reader_that_has_seen_enough(tmp_path, count):
    """`epochs.sh D 1 | head`: what is printed waits until the end, or is more than a buffer holds."""
    for number in range(count):
        make_run(tmp_path, f"RUN{number:03}", result="0.1")
    read, write = os.pipe()
    os.close(read)
    call = [sys.executable, "-m", "analysis", "epochs", str(tmp_path)]
    done = subprocess.run(call, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, "Exception" in done.stderr) == (0, False)
    assert len((tmp_path / "epochs.txt").read_text().splitlines()) == count


def test_a_command_without_stdout_does_its_work(tmp_path):
    """As a daemon calls it, which has none: `epochs.sh D >&-`."""
    make_run(tmp_path, "RUN000", result="0.1")
    call = [sys.executable, "-m", "analysis", "epochs", str(tmp_path)]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *call], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert (tmp_path / "epochs.txt").read_text() == "RUN000 0\n"


def test_torn_journals_are_read_up_to_the_tear(exp):
    whole = (exp / "journal.jsonl").read_bytes()
    for size in range(0, len(whole), 7):
        (exp / "journal.jsonl").write_bytes(whole[:size])
        assert len(list(read_journal(exp))) in (whole[:size].count(b"\n"), whole[:size].count(b"\n") + 1)
        read_runs(exp)


def test_runs_of_the_original_system(tmp_path):
    """No journal; index only in parameters.txt; the history of a resumed RUN is short; gaps between ids."""
    exp = tmp_path / "EXP011"
    done = make_run(exp, "RUN000", 20, "0.0021", SCORES)
    (done / "parameters.txt").write_text("[Global Params]\nindex=17\nid='RUN000'\nx=<class>\n[Monitor Params]\n")
    (done / "history.txt").write_text('{"loss": [0.2, 0.1], "val_loss": [0.3, 0.2]}')
    no_checkpoints = make_run(exp, "RUN002", 0, "nan")
    (no_checkpoints / "history.txt").write_text('{"loss": [0.2, 0.1]}')
    make_run(exp, "RUN003", 1)
    torn = make_run(exp, "RUN1000", 0, "RUN_EXCEPTION", SCORES)
    (torn / "val_scores.json").write_text('{"mse": 0.0')
    (torn / "history.txt").write_text("null")
    diverged = make_run(exp, "RUN1001", 0, "RUN_EXCEPTION")
    (diverged / "history.txt").write_text('{"loss": [0.2, 0.1, null]}')
    (exp / "run" / "notes.txt").write_text("of the user")
    runs = read_runs(exp)
    assert [run.id for run in runs] == ["RUN000", "RUN002", "RUN003", "RUN1000", "RUN1001"]
    assert [run.status for run in runs] == ["done", "done", "unfinished", "failed", "failed"]
    assert [run.epochs for run in runs] == [20, 2, 1, None, 2], "the one in which it diverged does not count"
    assert [run.index for run in runs] == [17, None, None, None, None]
    assert (runs[3].val, runs[3].test) == ({}, SCORES)


def test_table(exp, capsys):
    print_table(str(exp))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "RUN      drug    status       epochs  val r2  val mse  test r2  test mse     time  note",
        "B        Drug_1  done              3  0.7500   0.0100   0.7500    0.0100  1:01:11",
        "A        Drug_0  interrupted       2       -        -        -         -        -",
        "failing  Drug_2  failed            -       -        -        -         -  0:00:02  ValueError: boom",
    ]
    assert lines[-2] == "6 RUNs: 2 waiting, 1 done, 1 interrupted, 1 failed, 1 skipped"
    assert lines[-1] == str(exp)


def test_what_a_partition_holds_out(tmp_path):
    """Of a random one nothing, whatever its index; of a RUN that has not begun it is not known."""
    exp = tmp_path / "EXP001"

    def shown():
        return [re.split(" {2,}", line)[1] for line in table(read_runs(exp))]

    make_run(exp, "A")
    assert shown() == ["drug", "-"]
    make_run(exp, "B", partition={"partition": "by_cell", "index": 4, "name": None})
    make_run(exp, "C", partition={"partition": "by_cell", "index": 5, "name": "HeLa"})
    assert shown() == ["cell", "-", "index 4", "HeLa"]
    make_run(exp, "D", partition={"partition": "random", "index": 4, "name": None})
    assert shown() == ["held out", "-", "index 4", "HeLa", "-"]


def test_best_scores_and_runs_done(exp, capsys):
    """More is better of all that is no error; RUN `off` was put off by its pre module, and `lost` failed before."""
    metrics = {"acc": 1, "roc_auc": 1, "scc": 1, "mse": 0, "val_loss": 0, "mae_poly": 0, "RMSE": 0}
    for run, score in (("B", 0.25), ("before", 0.75)):
        (exp / "run" / run / "test_scores.json").write_text(json.dumps(dict.fromkeys(metrics, score)))
    make_run(exp, "off")
    make_run(exp, "lost", result="RUN_EXCEPTION")
    with (exp / "journal.jsonl").open("a") as file:
        file.write(
            "".join(f'\n{{"event": "run_skipped", "id": "{run}", "reason": "later"}}' for run in ("off", "lost"))
        )
    for metric, more in metrics.items():
        assert main(["index", str(exp.parent), "--metric", metric, "--json"]) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert (row[f"best {metric}"], row["done"]) == ((0.25, 0.75)[more], "2")


def test_a_second_attempt_has_no_time_yet(exp):
    events = [("run_failed", {"final": False, "seconds": 9}), ("run_started", {})]
    with (exp / "journal.jsonl").open("a") as file:
        file.writelines("\n" + json.dumps({"event": event, "id": "A", **fields}) for event, fields in events)
    (exp / "lock.json").write_text("{}")
    run = read_runs(exp)[1]
    assert (run.status, run.seconds) == ("running", None)


def test_infinite_scores_are_none(tmp_path, capsys):
    for run, score in (("RUN000", "0.5"), ("RUN001", "-Infinity"), ("RUN002", "NaN")):
        make_run(tmp_path / "EXP001", run)
        (tmp_path / "EXP001/run" / run / "test_scores.json").write_text(f'{{"mse": {score}}}')
    assert main(["extract.py", str(tmp_path / "EXP001")]) == 0
    assert (tmp_path / "EXP001" / "scores.csv").read_text() == "000,0.500000000\n"
    assert capsys.readouterr().err.count("mse is undefined") == 2


def test_checkpoints_that_the_user_keeps_elsewhere(tmp_path, capsys):
    """ckpt_directory is `saved` of RUN A, and a place that is none of the EXP's of B: clean-ckpts keeps off that."""
    exp = tmp_path / "EXP000"
    for name, place in (("A", exp / "run/A/saved"), ("B", tmp_path / "scratch")):
        run = make_run(exp, name, 5)
        (run / "ckpts").rename(place)
        for number in range(1, 6):
            (place / f"epochs/{number:03}/model.h5").write_bytes(b"m" * 1000)
        (place / "best").symlink_to("epochs/001")
        (run / "output").mkdir()
        (run / "output/ckpts").symlink_to(os.path.relpath(place, run / "output"))
    assert [(run.id, run.epochs) for run in read_runs(exp)] == [("A", 5), ("B", 5)]
    capsys.readouterr()
    assert main(["clean-ckpts.sh", str(exp), "2"]) == 0
    out, said = capsys.readouterr()
    assert out.splitlines()[-1] == "removed the models of 2 epochs: freed 2.0 kB"
    assert said == f"1 RUN not looked at: checkpoints outside of the RUN directory ({tmp_path}/scratch)\n"
    assert [path.parent.name for path in sorted(exp.glob("run/A/saved/epochs/*/model.h5"))] == ["001", "004", "005"]
    assert len(list((tmp_path / "scratch").glob("epochs/*/model.h5"))) == 5


def test_models_that_cannot_be_removed_are_said_and_not_counted(tmp_path, capsys, monkeypatch):
    """The one epoch of B, which has no links yet, is its newest."""
    exp = tmp_path / "EXP000"
    for name, epochs in (("A", 3), ("B", 1)):
        make_run(exp, name, epochs)
    for info in exp.glob("run/*/ckpts/epochs/*/ckpt-info.json"):
        info.write_text('{"best_metric_last": 0.5}')
        (info.parent / "model.h5").write_bytes(b"m")
    whole = exp / "run/A/ckpts/epochs/001/model"
    (whole / "variables").mkdir(parents=True)
    unlink = Path.unlink

    def refuse(path, **options):
        if "002" in path.parts:
            raise PermissionError(13, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    for name in ("best", "last"):
        (exp / "run/A/ckpts" / name).symlink_to("epochs/003")
    assert main(["clean-ckpts.sh", str(exp), "1"]) == 2
    out, said = capsys.readouterr()
    assert out.splitlines()[0] == "removed run/A/ckpts/epochs/001 (1 B)" and len(out.splitlines()) == 2
    assert "removed the models of 1 epoch" in out
    assert said.splitlines()[0].endswith("epochs/002/model.h5: Permission denied")
    assert (exp / "run/B/ckpts/epochs/001/model.h5").exists() and not whole.exists()


def test_the_live_view_on_a_terminal_until_the_job_has_ended(exp, capsys, monkeypatch):
    """Each frame is written over the one before; a line that does not fit would move all that follow."""
    (exp / "lock.json").write_text("{}")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setattr("time.sleep", lambda seconds: (exp / "lock.json").unlink())
    assert live.watch(exp, 5.0, once=False) == 0
    _, *frames = capsys.readouterr().out.split("\x1b[H")
    assert len(frames) == 2
    for frame in frames:
        *lines, rest = frame.split("\x1b[K\n")
        assert lines[0] == f"EXP001  {exp}"[:30] and max(map(len, lines)) == 30 and len(lines) < 10
        assert lines[1].startswith("[####") and not any("rank" in line for line in lines), "workers are cut first"
        assert rest == "\x1b[J"


def test_a_timeline_from_checkpoints_begins_with_the_job(tmp_path):
    """Of the original system, after a restart: epochs of the job before are in the RUNs' directories, too."""
    exp = tmp_path / "EXP012"
    for name, rank, hours in (
        ("A", 2, ("07:00", "08:30", "09:30")),
        ("B", 1, ("12:00", "12:20", "12:50", "13:10")),
        ("over", 2, ("05:00", "06:00")),
    ):
        run = make_run(exp, name, len(hours), "0.1")
        (run / "rank.txt").write_text(f"{rank}\n")
        for info, hour in zip(sorted(run.glob("ckpts/epochs/*/ckpt-info.json")), hours, strict=True):
            info.write_text(json.dumps({"timestamp": f"2025-07-17 {hour}:00"}))
    make_run(exp, "waits", 1)
    (exp / "turbine.log").write_text("SUBMITTED: 2025-07-16 08:00:00\nSTARTED: 2025-07-17 08:00:00\n")
    timeline = read_timeline(exp, 0.0, all_checkpoints(exp))
    began = unix_time("2025-07-17 08:00:00")
    hours = [(s.run, s.rank, s.status, (s.start - began) / 3600, (s.end - began) / 3600) for s in timeline.spans]
    assert hours == [("A", 2, "done", 0, 1.5), ("B", 1, "done", pytest.approx(4 - 1 / 3), pytest.approx(5 + 1 / 6))]
    assert timeline.estimated and (timeline.workers, timeline.start) == (2, began)


def test_export_list_makes_nothing_and_the_users_scores_stay(tmp_path, capsys):
    exp = tmp_path / "EXP000"
    make_run(exp, "RUN000", 0, "0.1", SCORES)
    (tmp_path / "secret").write_text("x")
    (exp / "output.txt").symlink_to(tmp_path / "secret")
    before = sorted(exp.rglob("*"))
    assert main(["export.sh", "--list", str(exp)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "EXP000/run/RUN000/test_scores.json" in listed and "EXP000/output.txt" not in listed
    assert sorted(exp.rglob("*")) == before
    (exp / "scores.csv").write_text("mine\n")
    assert main(["export.sh", str(exp)]) == 0
    assert (exp / "scores.csv").read_text() == "mine\n" and (exp / "EXP000.tgz").exists()


def test_looks_that_take_long_are_rare(tmp_path, monkeypatch, capsys):
    """The logs of 780 workers every 2 s, for each who watches: the file system is there for the RUNs."""
    took, now, pauses = iter([0.1, 30.0, 0.0]), [0.0], []

    def look(exp):
        seconds = next(took)
        now[0] += seconds
        return live.View(1, 1, ended=None if seconds else "ended")

    monkeypatch.setattr(live, "look", look)
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live.time, "sleep", pauses.append)
    assert live.watch(tmp_path, 2.0, once=False) == 0
    assert pauses == [2.0, 120.0]
