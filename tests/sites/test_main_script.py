"""upf-uno-heds.sh up to where it hands over to Python; tests/jobs/test_hed.py runs it as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from job import MODELS

SCRIPT = Path(__file__).parents[2] / "upf-uno-heds.sh"


def script(path, *arguments, cwd, **env):
    return subprocess.run(
        [str(path), *arguments], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


def test_help_is_all_of_it_and_on_standard_output(tmp_path):
    result = script(SCRIPT, "--help", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert script(SCRIPT, cwd=tmp_path).returncode == 2
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Run the HED workflow") and lines[-1].startswith("OPTIONS are those of")


@pytest.mark.parametrize("place", ["link", "relative"])
def test_it_finds_its_files_wherever_it_is_called_from(tmp_path, place):
    """A link in ~/bin; and CDPATH, which makes cd print where it goes."""
    link = tmp_path / "heds"
    link.symlink_to(SCRIPT)
    path, cwd = (link, tmp_path) if place == "link" else (f"{SCRIPT.parent.name}/{SCRIPT.name}", SCRIPT.parents[1])
    result = script(path, "local", *"abcd", cwd=cwd, CDPATH=str(SCRIPT.parents[1]))
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "too many arguments: a b c d; there are UPF, DFLTS and EXP, then options"


def test_what_the_sites_file_names_counts(tmp_path):
    """DATA_SOURCE was staged if it was in the environment; MODEL_NAME and CANDLE_DATA_DIR were the script's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    settings = f'[settings]\nPROCS = "4"\nPPN = "2"\nMODEL_PYTHON_DIR = "{MODELS}"\nMODEL_NAME = "toy"\n'
    (tmp_path / "mine.toml").write_text(f'scheduler = "pbs"\nlaunch = ["x"]\n{settings}DATA_SOURCE = "data"\n')
    env = {"PYTHON": sys.executable, "DATA_SOURCE": "", "MODEL_NAME": ""}
    result = script(SCRIPT, "./mine.toml", "upf.json", "--dry-run", cwd=tmp_path, **env)
    assert result.returncode == 0, result.stderr
    assert f"export DATA_SOURCE={tmp_path}/data" in result.stdout and "--hook=hooks.leader:stage_data" in result.stdout


def test_a_hook_in_a_file_is_no_upf_at_the_wrong_place(tmp_path):
    """The demo with a hook was refused as `--plan upf.json` is, where the options come first."""
    (tmp_path / "my_hook.py").write_text("def hook(leaders, env): pass\n")
    settings = f'[settings]\nPROCS = "4"\nPPN = "2"\nMODEL_PYTHON_DIR = "{MODELS}"\nMODEL_NAME = "toy"\n'
    (tmp_path / "mine.toml").write_text(f'scheduler = "pbs"\nlaunch = ["x"]\n{settings}')
    env = {"PYTHON": sys.executable, "MODEL_NAME": ""}
    result = script(SCRIPT, "./mine.toml", "--hook", "my_hook.py", "--dry-run", cwd=tmp_path, **env)
    assert result.returncode == 0, result.stderr
    assert "--hook=my_hook.py" in result.stdout and "demo/upf-8.json" in result.stdout
    result = script(SCRIPT, "./mine.toml", "--plan", "my_hook.py", cwd=tmp_path, **env)
    assert result.returncode == 2 and result.stderr == "my_hook.py: UPF and DFLTS come before the options\n"
