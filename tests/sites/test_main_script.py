"""upf-uno-heds.sh up to where it hands over to Python; tests/jobs/test_hed.py runs it as a whole."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from job import MODELS

SCRIPT = Path(__file__).parents[2] / "upf-uno-heds.sh"


def script(path, *arguments, cwd, **env):
    """`env` is added to the environment; what is None in it is not set."""
    env = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    return subprocess.run([str(path), *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


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


@pytest.fixture
def place(tmp_path):
    """A directory with a UPF, and a site that has a scheduler."""
    (tmp_path / "upf.json").write_text('{"id": "A"}\n')
    settings = f'[settings]\nPROCS = "4"\nPPN = "2"\nMODEL_PYTHON_DIR = "{MODELS}"\nMODEL_NAME = "toy"\n'
    (tmp_path / "mine.toml").write_text(f'scheduler = "pbs"\nlaunch = ["x"]\n{settings}')
    return tmp_path


#: Without .venv, and without what the tests' own environment says.
ENV = {"PYTHON": sys.executable, "DATA_SOURCE": "", "MODEL_NAME": ""}


def elsewhere(place, system="", python=None):
    """The script in a directory of its own, with other system settings, and with a .venv that runs `python`."""
    home = place / "elsewhere"
    (home / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(SCRIPT, home)
    (home / "cfg-sys-1.sh").write_text(system)
    if python is not None:
        (home / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{python}\n")
        (home / ".venv" / "bin" / "python").chmod(0o755)
    return home / SCRIPT.name


def test_what_the_sites_file_names_counts(place):
    """DATA_SOURCE was staged if it was in the environment; MODEL_NAME and CANDLE_DATA_DIR were the script's."""
    (place / "data").mkdir()
    with (place / "mine.toml").open("a") as file:
        file.write('DATA_SOURCE = "data"\n')
    result = script(SCRIPT, "./mine.toml", "upf.json", "--dry-run", cwd=place, **ENV)
    assert result.returncode == 0, result.stderr
    assert f"export DATA_SOURCE={place}/data" in result.stdout and "--hook=hooks.leader:stage_data" in result.stdout


def test_a_hook_in_a_file_is_no_upf_at_the_wrong_place(place):
    """The demo with a hook was refused as `--plan upf.json` is, where the options come first."""
    (place / "my_hook.py").write_text("def hook(leaders, env): pass\n")
    result = script(SCRIPT, "./mine.toml", "--hook", "my_hook.py", "--dry-run", cwd=place, **ENV)
    assert result.returncode == 0, result.stderr
    assert "--hook=my_hook.py" in result.stdout and "demo/upf-8.json" in result.stdout
    result = script(SCRIPT, "./mine.toml", "--plan", "my_hook.py", cwd=place, **ENV)
    assert result.returncode == 2 and result.stderr == "my_hook.py: UPF and DFLTS come before the options\n"


def test_a_python_that_is_named_wins_over_the_venv(place):
    """`local` on a login node makes a .venv, which then ran the jobs on the cluster, whatever PYTHON said."""
    path = elsewhere(place, python="exit 1")
    result = script(path, "./mine.toml", "upf.json", "--dry-run", cwd=place, **ENV)
    assert result.returncode == 0, result.stderr
    result = script(path, "./mine.toml", "upf.json", "--dry-run", cwd=place, **{**ENV, "PYTHON": ""})
    assert result.returncode == 2 and f"{path.parent}/.venv/bin/python has no swiftpy" in result.stderr


@pytest.mark.parametrize("options", [[], ["--hook", "hooks.prelaunch:stage_software"]], ids=["", "with its hook"])
def test_the_software_that_is_named_is_staged(place, options):
    """DATA_SOURCE needs no hook; SOFTWARE_SOURCE without one did nothing, and said nothing."""
    (place / "env.tar").touch()
    for source, times in (("env.tar", 1), ("", len(options) // 2)):
        env = {**ENV, "SOFTWARE_SOURCE": source}
        result = script(SCRIPT, "./mine.toml", "upf.json", "--dry-run", *options, cwd=place, **env)
        assert result.stdout.count("--hook=hooks.prelaunch:stage_software") == times, result.stderr


def test_system_settings_count_where_the_environment_has_none(place):
    """From cfg-sys-1.sh and the top of the main script, and the environment, which wins over both."""
    path = elsewhere(place, ': "${PROCS:=7}"\n: "${QUEUE:=of-the-file}"\n')
    path.write_text(path.read_text().replace('# : "${CANDLE_DATA_DIR:=out}"', ': "${CANDLE_DATA_DIR:=mine}"'))
    env = {**ENV, "PROCS": None, "CANDLE_DATA_DIR": None, "QUEUE": "of-the-environment"}
    result = script(path, "./mine.toml", "upf.json", "--plan", cwd=place, **env)
    assert result.returncode == 0, result.stderr
    said = {name: rest for name, *rest in map(str.split, filter(str.strip, result.stdout.splitlines()))}
    assert said["PROCS"] == ["7", *"(cfg-sys-1.sh or main script)".split()]
    assert said["CANDLE_DATA_DIR"] == ["mine", *"(cfg-sys-1.sh or main script)".split()]
    assert said["QUEUE"] == ["of-the-environment", "(environment)"]


def test_the_command_in_the_record_can_be_typed_again(place):
    (place / "my upf.json").write_text('{"id": "A"}\n')
    result = script(SCRIPT, "./mine.toml", "my upf.json", "--dry-run", cwd=place, **ENV)
    said = next(line for line in result.stdout.splitlines() if line.startswith("export SWIFTPY_COMMAND="))
    (command,) = shlex.split(said.partition("=")[2])
    assert shlex.split(command) == [str(SCRIPT), "./mine.toml", "my upf.json", "--dry-run"]
