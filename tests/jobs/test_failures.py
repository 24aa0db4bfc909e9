"""RUNs that die in every way, in one job: each costs itself alone, and a restart runs them alone."""

import re

import pytest

from job import journal, processes_in

WAYS = {
    "raise": "RuntimeError: the model does not like this drug",
    "exit": "its process exited with code 3",
    "segfault": "SIGSEGV",
    "hang": "time limit of 2 s",
    "kill": "SIGKILL",
    "memory": "MemoryError",
}


def test_six_ways_to_die_cost_six_runs(workplace):
    runs = [{"id": f"GOOD{i}"} for i in range(3)]
    runs[1:1] = [{"id": way.upper(), "do": way, **({"timeout": 2} if way == "hang" else {})} for way in WAYS]
    workplace.write(runs)
    result = workplace.run("--retries", "0", procs=4)
    assert result.returncode == 3, result.stdout + result.stderr
    exp = workplace.exp(0)
    events = journal(exp)
    done = {e["id"] for e in events if e["event"] == "run_done"}
    assert done == {"GOOD0", "GOOD1", "GOOD2"}
    failed = {e["id"]: e for e in events if e["event"] == "run_failed"}
    for way, reason in WAYS.items():
        event = failed[way.upper()]
        assert event["final"] and reason in event["message"]
        assert event["rank"] in (1, 2, 3) and event["host"]
        log = (exp / event["log"]).read_text()
        assert f"of {way.upper()}\n" in log, "the RUN's last output is in the log that is named"
        line = next(line for line in result.stdout.splitlines() if line.startswith(f"{way.upper()} failed:"))
        assert reason in line and event["log"] in line and f"rank {event['rank']} on" in line
    assert 'raise RuntimeError("the model does not like this drug")' in (exp / failed["RAISE"]["log"]).read_text()
    assert "Segmentation fault" in (exp / failed["SEGFAULT"]["log"]).read_text()
    assert processes_in(workplace.root) == []

    before = snapshot(exp)
    workplace.write([{"id": run["id"]} for run in runs], name="mended.json")
    plan = workplace.run("--restart", "EXP000", "--plan", upf="mended.json").stdout
    assert len(re.findall(r"^GOOD\d +skip ", plan, re.M)) == 3
    assert len(re.findall(r"^[A-Z]+ +(new|resume) ", plan, re.M)) == 6, plan
    assert workplace.exps() == [exp]
    result = workplace.run("--restart", "EXP000", upf="mended.json")
    assert result.returncode == 0, result.stdout + result.stderr
    started = {e["id"] for e in journal(workplace.exp(1)) if e["event"] == "run_started"}
    assert started == {way.upper() for way in WAYS}
    assert all(workplace.epochs(1, run["id"]) == [1, 2, 3] for run in runs)
    assert snapshot(exp) == before


def test_a_metric_that_no_model_returns_is_said_at_the_end_of_the_job(workplace):
    """The only warning was in out/, of a job with "2 done" and exit code 0 whose results were all nan."""
    workplace.write([{"id": "A"}, {"id": "B"}])
    result = workplace.run(MODEL_RETURN="val_los")
    assert result.returncode == 0, result.stdout + result.stderr
    said = [line for line in result.stdout.splitlines() if "MODEL_RETURN=" in line]
    assert len(said) == 1
    assert re.search(r"[AB] and 1 more: the model returned no number for MODEL_RETURN=val_los; its metrics: .", said[0])


def snapshot(exp):
    return {p.relative_to(exp): (p.read_bytes(), p.stat().st_mtime_ns) for p in exp.rglob("*") if p.is_file()}


def test_a_retry_succeeds_and_goes_on_from_the_checkpoint(workplace, tmp_path):
    """Dies in epoch 3 whenever there is no second attempt: the file that it leaves tells the attempts apart."""
    model = tmp_path / "once_baseline_keras2.py"
    model.write_text(
        "from toy_baseline_keras2 import *\nimport toy_baseline_keras2 as toy\n"
        "def run(params):\n"
        "    first = not Path('tried').exists()\n    Path('tried').touch()\n"
        "    return toy.run({**params, 'at': 3, 'do': 'exit' if first else 'train'})\n"
    )
    workplace.write([{"id": "A", "model_name": "once"}])
    result = workplace.run(procs=2, MODEL_PYTHON_SCRIPT=str(model), PYTHONPATH=workplace.env["MODEL_PYTHON_DIR"])
    assert result.returncode == 0, result.stdout + result.stderr
    kinds = [(e["event"], e.get("final")) for e in journal(workplace.exp(0)) if e["event"].startswith("run_")]
    assert kinds == [("run_started", None), ("run_failed", False), ("run_started", None), ("run_done", None)]
    assert workplace.epochs(0, "A") == [1, 2, 3]


def test_the_persistent_child_is_reused_and_replaced_only_after_a_failure(workplace, tmp_path):
    model = tmp_path / "pid_baseline_keras2.py"
    model.write_text(
        "import os\nfrom toy_baseline_keras2 import *\nimport toy_baseline_keras2 as toy\n"
        "def run(params):\n    Path('pid').write_text(str(os.getpid()))\n    return toy.run(params)\n"
    )
    runs = [{"id": "A"}, {"id": "B"}, {"id": "C", "do": "raise"}, {"id": "D"}, {"id": "E"}]
    workplace.write(runs, {"model_name": "pid"})
    workplace.run(
        "--retries",
        "0",
        procs=2,
        MODEL_PYTHON_SCRIPT=str(model),
        PYTHONPATH=workplace.env["MODEL_PYTHON_DIR"],
    )
    pids = [(workplace.exp(0) / "run" / run["id"] / "pid").read_text() for run in runs]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4]


def test_inline_runs_in_the_rank(workplace):
    workplace.write([{"id": "A"}, {"id": "B", "do": "raise"}])
    result = workplace.run("--inline", "--retries", "0", procs=2)
    assert result.returncode == 3
    assert workplace.epochs(0, "A") == [1, 2, 3]


@pytest.mark.parametrize(("end", "said"), [("sys.exit()", "a table"), ("sys.exit('no table')", "SystemExit: no table")])
def test_a_summary_that_exits_changes_nothing(workplace, end, said):
    """The other ranks waited for rank 0 for ever."""
    (workplace.root / "mine.py").write_text(f"import sys\ndef table(exp):\n    print('a table')\n    {end}\n")
    workplace.write([{"id": "A"}])
    result = workplace.run("--summary", "mine:table", procs=2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert said in result.stdout
    exp = workplace.exp(0)
    assert journal(exp)[-1]["event"] == "job_stopped" and not (exp / "lock.json").exists()


ODD = """
import pathlib, sys
def run(params):
    pathlib.Path("apart").mkdir(exist_ok=True)
    pathlib.Path("apart/unseen.py").write_text("class Score:\\n    def __str__(self): return '0.25'\\n")
    sys.path.append("apart")
    import numpy, unseen
    more = {"TUPLE": {(1, 2): 3}, "WORD": {"epochs": "three"}, "SKIP": {"status": "skip"}}
    more["OBJECT"] = {"epochs": numpy.int64(4), "x": unseen.Score()}
    return {"status": "ok", **more.get(params["id"], {})}
"""


def test_what_a_run_returns_costs_that_run_alone(workplace):
    """A key that is no JSON, a class that rank 0 cannot import, or no reason to skip, ended the whole job."""
    (workplace.root / "odd.py").write_text(ODD)
    workplace.write([{"id": name} for name in ("TUPLE", "WORD", "OBJECT", "SKIP", "LAST")])
    result = workplace.run("--task", "odd:run", "--retries", "0", procs=2)
    assert result.returncode == 3, result.stdout + result.stderr
    ended = {e["id"]: e for e in journal(workplace.exp(0)) if e["event"] in ("run_done", "run_failed", "run_skipped")}
    assert {name for name, event in ended.items() if event["event"] == "run_failed"} == {"TUPLE", "WORD"}
    assert ended["LAST"]["event"] == "run_done" and ended["SKIP"]["event"] == "run_skipped"
    assert "JSON cannot hold: keys must be str" in ended["TUPLE"]["message"]
    assert "epochs 'three': a number or None was expected" in ended["WORD"]["message"]
    assert ended["OBJECT"]["value"] == {"status": "ok", "reason": "", "epochs": 4, "x": "0.25"}


def test_a_run_that_its_pre_module_skips_is_not_finished(workplace):
    """It was, for good: the pre module was never asked again. One that has a result needs no more."""
    (workplace.root / "gate.py").write_text(
        "from pathlib import Path\n"
        "def pre_run(params):\n"
        "    if params['id'] == 'HAD':\n        Path('result.txt').write_text('0.5')\n"
        "    return 2 if params['id'] == 'HAD' or not Path('../../../../../../open').exists() else 1\n"
    )
    workplace.write([{"id": "HAD"}, {"id": "LATER"}], {"pre_module": "gate"})
    result = workplace.run(procs=2)
    assert "\n0 done, 2 skipped, 0 failed, 0 left" in result.stdout, result.stdout + result.stderr
    end = journal(workplace.exp(0))[-1]
    assert (result.returncode, end["done"], end["skipped"]) == (0, 0, 2)
    (workplace.root / "open").touch()
    result = workplace.run("--restart", "EXP000", procs=2)
    assert "\n1 done, 1 skipped, 0 failed, 0 left" in result.stdout, result.stdout + result.stderr
    assert workplace.epochs(1, "LATER") == [1, 2, 3]
