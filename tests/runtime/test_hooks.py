"""Hooks by name: what is wrong with one is known before it is run, or ends the job with its reason."""

import os
import signal
import threading
import time

import pytest

from swiftpy.runtime.hooks import Hooks, problems

NOT_RUN = "raise SystemExit('it was run')\n"
FILES = {
    "good.py": "def hook(leaders, env): pass",
    "star.py": "from good import *",
    "needs.py": "import of_the_site\nhook = of_the_site.hook",
    "bad.py": "def hook(leaders, env)\n    pass",
    "late.py": "def hook(leaders, env): pass\nreturn 1",
}
CASES = {
    "good.py": "",
    "good.py:hook": "",
    "good:hook": "",
    "star.py": "",
    "needs.py": "",
    "hooks.leader:stage_data": "",
    "none.py": "there is no file {here}/none.py",
    "hooks.none:x": "there is no module hooks.none",
    "none.none:x": "there is no module none",
    "stage_data": "there is no module stage_data",
    "hooks.leader:stage": "/hooks/leader.py has no stage",
    "hooks.leader": "write it as MODULE:NAME, such as hooks.leader:hook",
    "good.py:x": "{here}/good.py has no x",
    "bad.py:x": "{here}/bad.py:2: expected ':'",
    "late.py": "{here}/late.py:3: 'return' outside function",
}


@pytest.mark.parametrize("name", CASES)
def test_hooks(name, tmp_path, monkeypatch):
    for file, text in FILES.items():
        (tmp_path / file).write_text(NOT_RUN + text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = problems([name])
    if not CASES[name]:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith(f"--hook {name}: ")
        assert CASES[name].format(here=tmp_path) in found[0]


class OneNode:
    """A world of one rank, which notes how it was ended."""

    leaders, node, node_number = object(), "x1", 0

    def __init__(self):
        self.died = threading.Event()

    def gather(self, value, patience=None):
        return [value]

    def share(self, value):
        return value

    def meet(self):
        pass

    def die(self, reason):
        assert reason == "hook hangs.py on x1 did not end when told to: the job is aborted"
        self.died.set()


FAULTS = {
    "import sys\ndef hook(l, e): sys.exit('no licence')": "SystemExit: no licence",
    "raise SystemExit(1)\nhook = print": "SystemExit: 1",
    "def hook(l, e): return ['A']": "it returned ['A']: return a dictionary",
    "def hook(l, e): yield {'A': 1}": "it returned {'A': 1}: that is no name of a variable with",
    "def hook(l, e): return {'A=B': ''}": "it returned {'A=B': ''}: that is no name",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_a_hook_does_wrong_is_the_jobs_reason(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(text)
    [reason] = Hooks(OneNode(), ("wrong.py",), 60.0).run({})
    assert reason.startswith("hook wrong.py failed on x1: ") and FAULTS[text] in reason


@pytest.mark.parametrize(
    ("text", "line"), [("import os\nimport nosuch", 2), ("import json\n\ndef hook(l, e):\n    json.loads('nosuch')", 4)]
)
def test_the_line_of_a_hook_that_failed(text, line, tmp_path, monkeypatch):
    """Also where something that it calls raised."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"failing{line}.py").write_text(text)
    for name in (f"{tmp_path}/failing{line}.py", f"failing{line}:hook"):
        [reason] = Hooks(OneNode(), (name,), 60.0).run({})
        assert reason.startswith(f"hook {name} failed on x1: ") and "\n" not in reason
        assert reason.endswith(f" ({tmp_path}/failing{line}.py:{line})")


def test_a_hook_that_leaves_python_when_it_cleans_up(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaves.py").write_text("def hook(l, e):\n    yield {}\n    raise SystemExit(3)")
    hooks = Hooks(OneNode(), ("leaves.py",), 60.0)
    assert hooks.run({}) == []
    hooks.finish()
    assert "hook leaves.py: cleaning up failed on x1: SystemExit: 3" in capsys.readouterr().err


def test_a_hook_that_waits_for_ranks_that_are_lost_when_it_cleans_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("swiftpy.runtime.hooks.PATIENCE", 0.1)
    (tmp_path / "hangs.py").write_text("def hook(l, e):\n    yield {}\n    e['world'].died.wait(60)")
    world = OneNode()
    hooks = Hooks(world, ("hangs.py",), 60.0)
    assert hooks.run({"world": world}) == []
    hooks.finish(together=False)
    assert world.died.is_set()


@pytest.mark.parametrize(("grace", "signals"), [(0.05, 1), (60.0, 2)])
def test_a_hook_that_hangs_ends_with_the_job_that_is_told_to_end(grace, signals, tmp_path, monkeypatch):
    """At the second signal, or when the grace period after the first is over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("swiftpy.runtime.signals._APART", 0.01)
    (tmp_path / "hangs.py").write_text("def hook(l, e): open('begun', 'w').close(); e['world'].died.wait(60)")
    world = OneNode()
    before = signal.signal(signal.SIGTERM, lambda *_: None)

    def tell():
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        while signals > 1 and not world.died.wait(0.1):  # two that are handled late arrive as one
            os.kill(os.getpid(), signal.SIGTERM)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        assert Hooks(world, ("hangs.py",), grace).run({"world": world}) == [] and world.died.is_set()
    finally:
        telling.join()
        signal.signal(signal.SIGTERM, before)
