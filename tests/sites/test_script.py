"""The batch script of every site, as people read it.

UPDATE_GOLDEN=1 writes the files anew, to be reviewed as a diff.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fake_scheduler import directives, install
from job import Workplace
from swiftpy.errors import UserError
from swiftpy.sites.script import render
from swiftpy.sites.settings import settings_of
from swiftpy.sites.site import load_site

GOLDEN = Path(__file__).parent / "golden"
#: 779 workers, which the study of 770 drugs would use: the PPN of each site decides the rest.
SIZE = {"PROCS": "780", "PROJECT": "mine", "WALLTIME": "06:00:00"}
SITES = {"aurora": "pbs", "polaris": "pbs", "pbs": "pbs", "frontier": "slurm", "perlmutter": "slurm", "slurm": "slurm"}
SITES["flux"] = "flux"
#: PBS starts a job without the environment that it was submitted in.
CARRIED = {"TMP_ORIGINAL": "/local/original", "SOFTWARE_SOURCE": "env.tar.zst", "STAGE_KEEP": "1"}
CARRIED["TF_NUM_INTRAOP_THREADS"] = "7"


@pytest.fixture
def here(tmp_path):
    (tmp_path / "my jobs").mkdir()
    workplace = Workplace(tmp_path / "my jobs")
    workplace.env = {k: v for k, v in workplace.env.items() if k not in ("PROCS", "PPN", "PYTHONPATH")}
    workplace.write([{"id": "A"}, {"id": "B"}])
    return workplace


def dry_run(here, site, *options, **env):
    command = [sys.executable, "-m", "swiftpy.sites", site, "upf.json", "dflts.json", "--dry-run", *options]
    return subprocess.run(
        command, cwd=here.root, env={**here.env, **SIZE, **env}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("site", SITES)
def test_golden(here, site):
    (here.root / "env.tar.zst").touch()
    chain = () if load_site(site).no_chain else ("--chain", "3")
    result = dry_run(here, site, *chain, "--timeout=-1", **(CARRIED if site == "pbs" else {}))
    assert result.returncode == 0, result.stderr
    assert here.exps() == []
    found = directives(SITES[site], result.stdout)
    assert str(here.exp(0) / "output.txt") in found.values()
    assert subprocess.run(["bash", "-n"], input=result.stdout, text=True).returncode == 0
    text = result.stdout.replace(str(here.root), "/home/me/my jobs").replace(
        sys.executable, "/home/me/.venv/bin/python"
    )
    text = re.sub(r"MODEL_PYTHON_DIR=.*", "MODEL_PYTHON_DIR=/home/me/models", text)
    golden = GOLDEN / f"{site}.sh"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()


def test_a_job_says_where_its_settings_come_from(here):
    """In a batch job all of them came from the environment."""
    script = dry_run(here, "pbs", QUEUE="mine", SWIFTPY_SCRIPT_SETTINGS="QUEUE").stdout.partition("\nexec ")[0]
    exports = subprocess.run(["bash"], input=f"{script}\nenv -0", capture_output=True, text=True).stdout
    job = settings_of(load_site("pbs"), dict(line.split("=", 1) for line in exports.split("\0") if line))
    sources = {name: setting.source for name, setting in job.items()}
    assert (sources["QUEUE"], sources["PPN"]) == ("cfg-sys-1.sh or main script", "site pbs")
    assert (sources["PROCS"], sources["MODEL_RETURN"]) == ("environment", "default")


def test_the_environment_of_a_job(here):
    """PYTHONPATH replaced what `module load` had put there; the user's value of a site's variable was ignored."""
    setup = 'setup = ["export PYTHONPATH=/from/a/module"]\n[environment]\nONE = "site"\nTWO = "site"'
    (here.root / "mine.toml").write_text(f'scheduler = "pbs"\nlaunch = ["x"]\n{setup}\n[settings]\nPPN = "2"\n')
    script = dry_run(here, "./mine.toml", PYTHONPATH="/my own:/$HOME", ONE="user").stdout
    before, start, _ = script.partition("\nexec ")
    assert start
    said = subprocess.run(["bash"], input=f'{before}\necho "$PYTHONPATH|$ONE|$TWO"', capture_output=True, text=True)
    assert said.stdout.endswith("/my own:/$HOME:/from/a/module|user|site\n"), said.stderr
    without = before.replace("export PYTHONPATH=/from/a/module", "unset PYTHONPATH")
    said = subprocess.run(["bash"], input=f'{without}\necho "$PYTHONPATH"', capture_output=True, text=True)
    assert said.stdout == "/my own:/$HOME\n", "an empty part of it would be the working directory"


def written(name, output, **env):
    """The script that a site's job gets, and its directives as the scheduler reads them."""
    site = load_site(name)
    settings = settings_of(site, {**SIZE, **env})
    text = render(site, settings, output, {}, Path("/a $b"), [["true"]])
    return text, directives(SITES[name], text)


def test_directives_mean_what_the_user_wrote(tmp_path):
    """Slurm puts the job's id where %j is in a path; no scheduler takes a job's name with a blank in it."""
    output = tmp_path / "100%j it's $HOME" / "my EXP+1" / "output.txt"
    for name, option in {"slurm": "o", "pbs": "o", "flux": "output"}.items():
        text, said = written(name, output)
        assert said[option] == str(output)
        assert said["N" if option == "o" else "job_name"] == "my-EXP-1"
        assert "\ncd '/a $b' || exit 1\n" in text
        done = subprocess.run(["bash"], input=text, capture_output=True, text=True)
        assert done.returncode == 1 and "/a $b" in done.stderr, "a node without the folder runs nothing"
    assert "/100%%j it" in written("slurm", output)[0] and "%%" not in written("pbs", output)[0]


def test_a_walltime_is_a_number_in_the_unit_of_the_scheduler_or_left_to_it(tmp_path):
    for name, option, time in (("pbs", "limit", 90), ("slurm", "limit", 5400), ("flux", "time_limit", "5400s")):
        said = written(name, tmp_path / "EXP000/output.txt", WALLTIME="90")[1][option]
        assert (said if isinstance(said, int) else said.group()) == time
    unlimited = tmp_path / "unlimited.toml"
    unlimited.write_text('scheduler = "slurm"\nlaunch = ["x"]\ndirectives = ["--time={WALLTIME}", "--nodes={NODES}"]\n')
    site = load_site(str(unlimited))
    settings = settings_of(site, {"PROCS": "4", "PPN": "2"})
    text = render(site, settings, tmp_path / "EXP000/output.txt", {}, tmp_path, [["true"]])
    assert "--nodes=2" in text and "--time" not in text


def test_the_server_takes_no_node_where_it_has_a_slot(tmp_path):
    """780 workers fill 65 nodes of 12."""
    said = written("aurora", tmp_path / "EXP000/output.txt", PROCS="781")[1]
    assert said["select"].split(":")[0] == "65"


def test_all_settings_that_are_missing_are_said_at_once(tmp_path):
    site = replace(load_site("slurm"), required=("QUEUE", "PROJECT"))
    with pytest.raises(UserError) as caught:
        render(site, settings_of(site, {}), tmp_path / "output.txt", {}, tmp_path, [["true"]])
    said = [f"{name} is not set, and slurm needs it: export {name}=..." for name in ("QUEUE", "PROJECT")]
    assert str(caught.value).splitlines() == said


@pytest.mark.parametrize("name", ["QUEUE", "PROJECT"])
@pytest.mark.parametrize("blank", [" ", "\t", "\n"])
def test_a_name_with_a_blank_would_end_its_directive(tmp_path, name, blank):
    with pytest.raises(UserError, match=f"(?s){name}=a.b .environment. has a blank"):
        written("slurm", tmp_path / "EXP000/output.txt", **{name: f"a{blank}b"})


def test_what_is_wrong_is_said_before_anything_is_made(here):
    assert "PROJECT is not set, and aurora needs it" in dry_run(here, "aurora", PROJECT="").stderr
    assert "PROCS=1 (environment)" in dry_run(here, "slurm", PROCS="1").stderr
    assert "SOFTWARE_SOURCE=env.tar: there is no file" in dry_run(here, "pbs", SOFTWARE_SOURCE="env.tar").stderr
    assert "PPN=0 (environment)" in dry_run(here, "slurm", PPN="0").stderr
    too_many = dry_run(here, "perlmutter", "--plan", PPN="5").stderr
    assert too_many.startswith("PPN=5 (environment): a node of perlmutter has 4 devices: to share them, use a copy")
    assert "WALLTIME=soon (environment)" in dry_run(here, "slurm", WALLTIME="soon").stderr
    assert "colon" in dry_run(here, "pbs", CANDLE_DATA_DIR="out:put").stderr
    broken = dry_run(here, "slurm", CANDLE_DATA_DIR="out\nput").stderr
    assert broken.endswith("EXP000/output.txt': a directive ends with its line: set CANDLE_DATA_DIR\n")
    said = dry_run(here, "aurora", "--chain", "2").stderr
    assert said == "QUEUE=debug (site aurora) takes no jobs that follow each other, as --chain makes: set QUEUE\n"
    assert dry_run(here, "aurora", "--chain", "2", QUEUE="capacity").returncode == 0
    assert "site local has no scheduler" in dry_run(here, "local").stderr
    here.write([{"id": "A", "epochs": "many"}])
    result = dry_run(here, "slurm")
    assert result.returncode == 2 and result.stderr.startswith("upf.json:1: epochs must be")
    assert "Traceback" not in result.stderr and here.exps() == []


def test_the_plan_says_what_the_servers_slot_saves(here):
    slot = "the server has a CPU slot of its own, which saves"
    ends = {"780": f"for 779 workers; {slot} a device; PROCS=781 would use all", "781": f"{slot} a node"}
    for procs, end in ends.items():
        result = dry_run(here, "aurora", "--plan", PROCS=procs)
        line = result.stdout.splitlines()[-1]
        assert line.startswith("65 nodes with 780 devices for ") and line.endswith(end), result.stderr
    last = dry_run(here, "slurm", "--plan", PROCS="10").stdout.splitlines()[-1]
    assert last == "3 nodes with 12 places for 9 workers; the server takes a worker's place; PROCS=12 would use all"
    last = dry_run(here, "local", "--plan").stdout.splitlines()[-1]
    assert last == "2 to run on 779 workers: 1 wave", "and no rank was started for it"


def test_what_the_scheduler_refuses_leaves_nothing_behind(here, tmp_path):
    path = f"{install(tmp_path / 'fake')}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "swiftpy.sites", "slurm", "upf.json", "dflts.json"]
    env = {**here.env, **SIZE, "PATH": path, "PROJECT": "nobody"}
    result = subprocess.run(command, cwd=here.root, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stderr == "slurm did not take the job: no such project: nobody\n"
    assert here.exps() == []
    nothing = str(tmp_path / "nothing")  # this machine may have a scheduler of its own
    result = subprocess.run(command, cwd=here.root, env={**env, "PATH": nothing}, capture_output=True, text=True)
    assert "sbatch is not installed here" in result.stderr and here.exps() == []
