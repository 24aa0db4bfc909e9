"""What is found out before anything is created, in one process."""

import contextlib
import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from swiftpy.core.task import Seat
from swiftpy.errors import UserError
from swiftpy.experiment import markers
from swiftpy.experiment.exp import create
from swiftpy.experiment.journal import Journal
from swiftpy.experiment.lock import Lock
from swiftpy.experiment.restart import Decision
from swiftpy.experiment.spec import RunSpec
from swiftpy.runtime.call import resolve
from swiftpy.runtime.layout import Layout
from swiftpy.runtime.output import Console
from swiftpy.sites.settings import PATHS, settings_of
from swiftpy.sites.site import load_site
from swiftpy.upf.establish import establish, user
from swiftpy.upf.options import parse
from swiftpy.upf.prepare import Intent, _queued_after, _refuse_queued, explain, parameters, understand
from swiftpy.upf.task import compare

# What was seed 0 by default, or by the user's file of defaults, is 7 now.
RUNNER = """
def run(params): ...
def with_defaults(sets, data_dir): return [{"seed": 7, **params} for params in sets]
def compare(old, new, done): return ("refuse", f"seed {old['seed']} -> {new['seed']}")
"""


def lead_of(workers=(), **parts):
    """The lead of a job with these workers; of one that was not started, such as a plan, without."""
    return SimpleNamespace(layout=SimpleNamespace(workers=workers), **parts)


def test_a_user_without_a_name_is_called_by_number(monkeypatch):
    """A container that was started with a number which is not in its passwd."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert user() == f"uid{os.getuid()}"


@pytest.mark.parametrize(("setting", "written"), [("", "-1"), ("-1", "-1"), ("3600", "3600"), ("0.5", "0.5")])
def test_the_time_limit_is_written_as_it_is_given(tmp_path, setting, written):
    """parameters.txt said timeout=-1.0."""
    spec = RunSpec("A", 1, {}, tmp_path)
    settings = settings_of(load_site("local"), {"BENCHMARK_TIMEOUT": setting})
    assert repr(parameters(spec, parse(["upf.json"]), settings)["timeout"]) == written
    if setting:
        assert repr(parameters(spec, parse(["upf.json", f"--timeout={setting}"]), settings)["timeout"]) == written


@pytest.mark.parametrize(("option", "limit"), [([], 60), (["--timeout=5"], 5), (["--timeout=-1"], -1)])
def test_the_time_limit_on_the_command_line_holds_whatever_the_files_say(tmp_path, option, limit):
    """It did nothing, and said nothing, where DFLTS or UPF had one."""
    settings = settings_of(load_site("local"), {"BENCHMARK_TIMEOUT": "7"})
    spec, options = RunSpec("A", 1, {"timeout": 60}, tmp_path), parse(["upf.json", *option])
    assert parameters(spec, options, settings)["timeout"] == limit
    said = []
    lead = lead_of([1], console=SimpleNamespace(line=said.append))
    explain(Intent(options, load_site("local"), settings, [spec], [], None), lead)
    assert f"time limit of a RUN: {'none' if limit < 0 else f'{limit} s'}" in said


def test_the_plan_says_what_the_servers_slot_saves_without_a_scheduler_too(tmp_path):
    (tmp_path / "mine.toml").write_text('launch = ["x"]\nserver_slot = true\n[settings]\nPROCS = "3"\nPPN = "2"\n')
    said = []
    lead = lead_of(console=SimpleNamespace(line=said.append))
    for name, slot in ((str(tmp_path / "mine.toml"), True), ("local", False)):
        site = load_site(name)
        explain(Intent(parse(["upf.json"]), site, settings_of(site, {}), [], [], None), lead)
        assert ("the server has a CPU slot of its own" in said[-1]) == slot


def test_a_restart_may_have_another_time_limit():
    pairs = [({"a": 1, "timeout": 60}, {"a": 1, "timeout": 5}, None), ({"a": 1}, {"a": 2, "timeout": 5}, None)]
    answers = [("resume", "not finished"), ("refuse", "its parameters differ: a")]
    assert compare("json:dumps", pairs) == answers  # a runner that offers no compare


@pytest.mark.parametrize("setting", ["an hour", "nan", "inf"])
def test_a_time_limit_that_is_no_number(tmp_path, setting):
    settings = settings_of(load_site("local"), {"BENCHMARK_TIMEOUT": setting})
    with pytest.raises(UserError, match=f"BENCHMARK_TIMEOUT={setting} .environment.: give a number of seconds"):
        parameters(RunSpec("A", 1, {}, tmp_path), parse(["upf.json"]), settings)


def test_checks_know_the_settings_of_the_sites_file(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text('launch = ["x"]\n[settings]\nPPN = "1"\nMODEL_PYTHON_DIR = "models"\n')
    (tmp_path / "models").mkdir()
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_PYTHON_DIR", raising=False)
    seen = []
    lead = lead_of(call_in_child=lambda name, *arguments, env=None: seen.append(env))
    understand(parse(["upf.json", "--site", "./mine.toml"]), lead)
    assert seen[0]["MODEL_PYTHON_DIR"] == str(tmp_path / "models")


@pytest.mark.parametrize(
    ("workers", "value", "source"), [(0, "4", "site local"), (3, "4", "site local"), (2, "3", "launcher")]
)
def test_in_a_job_procs_is_what_was_started(tmp_path, monkeypatch, workers, value, source):
    """It said PROCS 4 of a job that mpiexec -n 3 had started, also to the RUNs, and to who reads turbine-env.txt."""
    monkeypatch.delenv("PROCS", raising=False)
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    lead = lead_of(range(workers), call_in_child=lambda *_, env: [])
    procs = understand(parse([str(tmp_path / "upf.json")]), lead).settings["PROCS"]
    assert (procs.value, procs.source) == (value, source)


def test_an_expid_that_is_taken_is_refused_before_the_plan_is_made(tmp_path, monkeypatch):
    """--plan and --dry-run ended with 0, and the job then with 2. A batch job's own EXP is there, of course."""
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    monkeypatch.setenv("CANDLE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("EXPID", "mine")
    exp = create(tmp_path / "unorun/Output", "mine")
    lead = lead_of(call_in_child=lambda *_, env: [])
    with pytest.raises(UserError, match="Output/mine exists already: choose another EXPID"):
        understand(parse([str(tmp_path / "upf.json"), "--plan"]), lead)
    understand(parse([str(tmp_path / "upf.json"), "--exp", str(exp.root)]), lead)


def test_a_mistake_in_dflts_is_said_of_dflts(tmp_path):
    (tmp_path / "upf.json").write_text('{"id": "A"}\n{"id": "B"}\n')
    (tmp_path / "dflts.json").write_text('{\n"epochs": -1}')
    lead = lead_of(call_in_child=lambda *_, env: [(0, "epochs must be more"), (1, "epochs must be more")])
    with pytest.raises(UserError, match=r"^\S+dflts.json:2 \(for \S+upf.json:1 and 1 more line\): epochs must"):
        understand(parse([str(tmp_path / "upf.json"), str(tmp_path / "dflts.json")]), lead)


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """The working directory has upf.json and EXP000, where its RUN A has left a checkpoint and parameters.txt."""
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLE_DATA_DIR", "out")
    monkeypatch.setenv("MODEL_NAME", "m")
    old = create(tmp_path / "out" / "m" / "Output")
    with Journal(old.journal) as journal:
        journal.write("job_started", upf=old.copy_inputs(tmp_path / "upf.json", None)[0], dflts=None)
    (old.run_dir("A") / "ckpts").mkdir(parents=True)
    (old.run_dir("A") / "ckpts" / "model.h5").write_text("m")
    (old.run_dir("A") / "parameters.txt").write_text("seed=0\n")


def test_a_restart_compares_defaults_too(tmp_path, monkeypatch, unfinished):
    (tmp_path / "runner_with_defaults.py").write_text(RUNNER)
    monkeypatch.syspath_prepend(tmp_path)
    lead = lead_of(call_in_child=lambda name, *arguments, env: resolve(name)(*arguments))
    with pytest.raises(UserError, match="RUN A cannot go on from EXP000: seed 0 -> 7"):
        understand(parse(["upf.json", "--restart", "EXP000", "--task", "runner_with_defaults:run"]), lead)


def test_what_the_runner_offers_is_called_in_child_processes_alone(unfinished):
    """Rank 0 imported its module for `compare`, also without a restart: it may load TensorFlow, or end in sys.exit."""
    answers = {"check": [], "with_defaults": [{"id": "A"}], "compare": [("resume", "the child says so")]}
    asked = []

    def call_in_child(function, *arguments, env):
        asked.append(function.removeprefix("swiftpy.upf.task:"))
        return answers[asked[-1]]

    task, lead = ["--task", "no_module_of_this_process:run"], lead_of(call_in_child=call_in_child)
    assert understand(parse(["upf.json", *task]), lead).decisions == [Decision("A", "new", "")]
    assert asked == ["check"]
    decisions = understand(parse(["upf.json", *task, "--restart", "EXP000"]), lead).decisions
    assert decisions == [Decision("A", "resume", "the child says so")]
    assert asked[1:] == ["check", "with_defaults", "compare"]


@contextlib.contextmanager
def nobody():
    """Root may read everything."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


CLOSED = ["", "run", "markers", "journal.jsonl", "upf.json", "markers/A.json", "run/A"]
CLOSED += [f"run/B/{name}" for name in ("", "ckpts", "parameters.txt", "result.txt")]


@pytest.mark.parametrize("closed", CLOSED)
def test_a_colleagues_exp_that_may_not_be_read_whole(monkeypatch, closed):
    """With umask 077. It was a traceback; or what could not be seen was taken for absent, and trained anew."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is root's alone
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("CANDLE_DATA_DIR", folder)
        monkeypatch.setenv("MODEL_NAME", "m")
        exp = create(Path(folder, "m", "Output"))
        for name in ("A/result.txt", "B/result.txt", "B/parameters.txt", "B/ckpts/model.h5"):
            (exp.run / name).parent.mkdir(parents=True, exist_ok=True)
            (exp.run / name).touch()
        Path("upf.json").write_text('{"id": "A"}\n{"id": "B"}\n')
        markers.write(exp, "A", {"id": "A"}, {"status": "ok"}, 1.0)
        with Journal(exp.journal) as journal:
            journal.write("job_started", upf=exp.copy_inputs(Path("upf.json"), None)[0], dflts=None)
        options = parse(["upf.json", "--restart", "EXP000", "--task", "json:dumps"])
        lead = lead_of(call_in_child=lambda name, *arguments, env: resolve(name)(*arguments))
        with nobody():
            assert [decision.verdict for decision in understand(options, lead).decisions] == ["skip", "resume"]
        (exp.root / closed).chmod(0)
        with nobody(), pytest.raises(UserError) as refused:
            understand(options, lead)
        (exp.root / closed).chmod(0o755)
    assert re.fullmatch(rf"{exp.root / closed}.*: Permission denied(: to restart EXP000 you.*)?", str(refused.value))


@pytest.mark.parametrize("name", [*PATHS, "SOFTWARE_SOURCE", "SWIFTPY_SITES"])
def test_what_lies_in_a_closed_directory(monkeypatch, name):
    """A colleague's, of mode 0700: a traceback, and for `local` an aborted job."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "upf.json").write_text('{"id": "A"}\n')
        closed = Path(folder, "closed")
        (closed / "x").mkdir(parents=True)
        closed.chmod(0)
        for named in (f"{closed}/x", *([closed] if name in ("DATA_SOURCE", "MODEL_PYTHON_DIR") else [])):
            monkeypatch.setenv(name, str(named))
            with nobody(), pytest.raises(UserError, match=f"{name}[=:].*closed.*: Permission denied") as refused:
                understand(parse([f"{folder}/upf.json"]), lead_of())
            assert len(refused.value.lines) == 1
        closed.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("DATA_SOURCE", "/nowhere", "=/nowhere (environment): there is no such directory"),
        ("MODEL_PYTHON_DIR", "/nowhere/UNO", "=/nowhere/UNO (environment): there is no such directory"),
        ("SOFTWARE_SOURCE", "~nosuchuser/env.tar", "=~nosuchuser/env.tar: there is no file of this name"),
        ("SOFTWARE_SOURCE", 300 * "x", ": File name too long"),  # two lines of a script that ran into each other
    ],
)
def test_what_a_setting_names_and_is_not_there(tmp_path, monkeypatch, name, value, problem):
    """Another model of the same name, such as our Uno, was trained in the place of the user's."""
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}.*{re.escape(problem)}"):
        understand(parse([str(tmp_path / "upf.json")]), lead_of())


def test_variables_in_the_directory_of_the_model_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", str(tmp_path))
    monkeypatch.setenv("MODEL_PYTHON_DIR", "$MINE")
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    understand(parse([str(tmp_path / "upf.json")]), lead_of(call_in_child=lambda *arguments, env: None))


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_of_an_exp_is_not_taken_for_none(tmp_path, name):
    """`./upf-uno-heds.sh local upf.json dflts.json "$EXP"` where EXP is not set trained every RUN again."""
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    with pytest.raises(UserError, match="the EXP to restart is empty: give its name, or leave it out to start anew"):
        understand(parse([str(tmp_path / "upf.json"), "--restart", name]), lead_of())


@pytest.mark.parametrize("option", ["--fresh", "--after=7.pbs"])
def test_what_is_said_of_a_restart_needs_one(tmp_path, option):
    """Both were ignored, and a forgotten --restart trained every RUN again."""
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    with pytest.raises(UserError, match=f"{option.partition('=')[0]} is for a restart: name the EXP"):
        understand(parse([str(tmp_path / "upf.json"), option]), lead_of())


@pytest.mark.parametrize(
    ("over", "ended", "refusal"),
    [
        (None, "", "pbs cannot be asked here whether it will: cancel it, and say that it is gone with --after 7.pbs"),
        (False, "", "has not begun: cancel it first"),
        (None, "7.pbs", None),
        (True, "", None),
    ],
)
def test_a_job_that_may_wait_in_the_queue(tmp_path, over, ended, refusal):
    lead = lead_of(call_in_child=lambda name, scheduler, jobid: over)
    old = create(tmp_path)
    with Journal(old.journal) as journal:
        journal.write("job_submitted", jobid="7.pbs", site="aurora", scheduler="pbs")
    if refusal:
        with pytest.raises(UserError, match=refusal):
            _refuse_queued(old, ended, lead)
        lock = Lock(old)  # it runs, and has yet to write job_started: the refusal is that of the lock
        _refuse_queued(old, ended, lead)
        lock.release()
        with Journal(old.journal) as journal:
            journal.write("job_started")
    _refuse_queued(old, ended, lead)


def test_a_successor_in_the_queue_is_named(tmp_path):
    old = create(tmp_path)
    begun, waits = create(tmp_path, None, old), create(tmp_path, None, old)
    for exp, events in ((begun, ("job_submitted", "job_started")), (waits, ("job_submitted",))):
        with Journal(exp.journal) as journal:
            for event in events:
                journal.write(event, jobid="7")
    assert list(_queued_after(old, tmp_path)) == ["EXP002 goes on from EXP000 as well: its job 7 has not begun"]
    assert list(_queued_after(begun, tmp_path)) == []


def restart_of_a(tmp_path, monkeypatch):
    """A restart of EXP000, which has finished RUN A."""
    monkeypatch.setenv("CANDLE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL_NAME", "m")
    old = create(tmp_path / "m" / "Output")
    old.run_dir("A").mkdir()
    (tmp_path / "upf.json").touch()
    specs, decisions = [RunSpec("A", 1, {}, tmp_path)], [Decision("A", "skip", "finished")]
    options = parse([str(tmp_path / "upf.json")])
    site = load_site("local")
    return Intent(options, site, settings_of(site, os.environ), specs, decisions, old)


def test_of_two_restarts_that_look_at_once_the_later_one_takes_its_exp_back(tmp_path, monkeypatch):
    """Both found nobody before either had made its EXP."""
    intent = restart_of_a(tmp_path, monkeypatch)
    intent.decisions[:] = [Decision("A", "new", "")]
    parent = intent.old.root.parent
    Lock(create(parent, None, intent.old))
    with pytest.raises(UserError, match="EXP001 goes on from EXP000 now, with RUN A: a job on"):
        establish(intent, None)
    assert sorted(path.name for path in parent.iterdir()) == ["EXP000", "EXP001"]


@pytest.mark.parametrize("event", ["job_started", "run_skipped"])
def test_a_disk_that_is_full_when_a_job_begins_is_one_line_and_leaves_no_exp(tmp_path, monkeypatch, event):
    """What was carried over stayed on the full disk, with a lock; for the skipped RUNs it was a traceback."""
    intent, write = restart_of_a(tmp_path, monkeypatch), Journal.write

    def full(journal, what, **fields):
        if what == event:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(journal, what, **fields)

    monkeypatch.setattr(Journal, "write", full)
    parent = intent.old.root.parent
    lead = SimpleNamespace(layout=Layout(["here"], {1: Seat(0)}), console=Console())
    with pytest.raises(UserError, match=f"^{parent}: No space left on device: the job cannot start$"):
        establish(intent, lead)
    assert [path.name for path in parent.iterdir()] == ["EXP000"]


def test_what_every_rank_imports_to_look_and_to_run():
    """Ten thousand ranks do, from one file system."""
    code = "import sys, swiftpy.upf.preflight, swiftpy.upf.task; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    rank_0s = ("swiftpy.experiment", "swiftpy.sites", "swiftpy.upf.prepare", "swiftpy.runtime.job")
    assert not [name for name in names if name.startswith(rank_0s)]


def test_a_current_directory_that_is_gone_is_one_line(tmp_path, monkeypatch):
    """Another terminal has removed it: there was a traceback, and `No such file or directory` without a name."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="the current directory is gone: cd to it again if it was made anew"):
        understand(parse(["/nowhere/upf.json"]), lead_of())
