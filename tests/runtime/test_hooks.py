"""Hooks by name: what is wrong with one is known before it is run."""

import pytest

from swiftpy.runtime.hooks import problems

NOT_RUN = "raise SystemExit('it was run')\n"
FILES = {
    "good.py": "def hook(leaders, env): pass",
    "star.py": "from good import *",
    "lazy.py": "def hook(leaders, env):\n    import nosuch",
    "tries.py": "try:\n    import nosuch\nexcept ImportError:\n    pass\nhook = print",
    "own.py": "import sys\nsys.path.append('lib')\nimport mine\nhook = mine.hook",
    "bad.py": "def hook(leaders, env)\n    pass",
    "late.py": "def hook(leaders, env): pass\nreturn 1",
    "needs.py": "import os, nosuch.part\ndef hook(leaders, env): pass",
}
CASES = {
    "good.py": "",
    "good.py:hook": "",
    "good:hook": "",
    "star.py": "",
    "lazy.py": "",
    "tries.py": "",
    "own.py": "",
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
    "needs.py": "{here}/needs.py:2: there is no module nosuch",
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
