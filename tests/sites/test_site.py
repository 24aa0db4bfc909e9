"""Site files, settings of batch jobs, devices, and what the scheduler says of the time."""

import subprocess
import time
from pathlib import Path

import pytest

from swiftpy.errors import UserError
from swiftpy.experiment.exp import Exp
from swiftpy.sites import schedulers
from swiftpy.sites.settings import benchmark_timeout, environment, local_env, settings_of, size, walltime
from swiftpy.sites.site import NAMES, load_site
from swiftpy.sites.times import clock, seconds
from swiftpy.upf.establish import submission_record


def write(folder, text):
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


def test_a_users_own_site_by_path_and_by_name(tmp_path, monkeypatch):
    file = write(tmp_path, 'launch = ["mpirun", "-np", "{RANKS}"]\n[settings]\nPPN = "6"\n')
    assert load_site(file).launch == ("mpirun", "-np", "{RANKS}")
    with pytest.raises(UserError, match=r"no site 'mine': choose one of aurora, .*slurm, or give a .toml file"):
        load_site("mine")
    monkeypatch.setenv("SWIFTPY_SITES", f"/nowhere:{tmp_path}")
    assert load_site("mine").settings == {"PPN": "6"}
    (tmp_path / "local.toml").write_text('launch = ["mine"]')
    assert load_site("local").launch == ("mine",), "a user's file wins"


def test_a_site_file_as_windows_editors_save_it(tmp_path):
    """As UPF and DFLTS may be; of the byte order mark the parser said `Invalid statement (at line 1, column 1)`."""
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbflaunch = ["mpirun"]\r\n')
    assert load_site(str(tmp_path / "mine.toml")).launch == ("mpirun",)


def test_paths_among_the_settings_are_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("unorun", "debug", "data", "mine.py", "script"):
        (tmp_path / name).mkdir()
    given = {"DATA_SOURCE": "~/data", "MODEL_NAME": "unorun", "QUEUE": "debug", "CANDLE_DEFAULT_MODEL_FILE": "nowhere"}
    settings = settings_of(load_site("local"), {**given, "MODEL_PYTHON_SCRIPT": "mine.py"})
    assert settings["DATA_SOURCE"].value == f"{tmp_path}/data"
    expected = {**given, "DATA_SOURCE": f"{tmp_path}/data", "MODEL_PYTHON_SCRIPT": f"{tmp_path}/mine.py"}
    assert expected.items() <= environment(settings).items(), "folders that are called like a model or a queue"
    module = environment(
        settings_of(load_site("local"), {"MODEL_PYTHON_SCRIPT": "script", "CANDLE_DATA_DIR": "~no-such-user/o"})
    )
    assert (module["MODEL_PYTHON_SCRIPT"], module["CANDLE_DATA_DIR"]) == ("script", "~no-such-user/o")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("launch = 5", "launch must be a list of strings, not 5"),
        ("", "launch is missing"),
        ('launch = ["x"]\nlanch = 1', "unknown key lanch: the keys are scheduler, launch"),
        ('launch = ["x"]\nscheduler = ["pbs"]', "scheduler must be one of pbs, slurm, flux, not ['pbs']"),
        ('launch = ["x"]\nscheduler = "lsf"', "scheduler must be one of pbs, slurm, flux, not 'lsf'"),
        ('launch = ["x"]\ndirectives = ["-q x"]', "directives without scheduler"),
        ('launch = ["x"]\nsetup = ["module load x"]', "setup without scheduler: add scheduler, one of pbs"),
        ('launch = ["x"]\nno_chain = ["debug"]', "no_chain without scheduler"),
        ('launch = ["x"]\nscheduler = "pbs"\nno_chain = "debug"', "no_chain must be a list of strings, not 'debug'"),
        ('launch = ["x", "{NODE}"]', "launch: '{NODE}': there is no {NODE}: use PROCS, PPN, NODES"),
        ('launch = ["{PROCS"]', "expected '}'"),
        ('launch = ["{RANKS!z:q}"]', "there is no {RANKS!z:q}: use PROCS"),
        ('launch = ["x"]\n[environment]\n"A=B" = "1"', "environment: 'A=B' is no name of a variable"),
        ('launch = ["x"]\n[environment]\nMODEL_RETURN = "loss"', "environment.MODEL_RETURN is a setting: write"),
        ('launch = ["x"]\nrequired = ["PROJCT"]', "required must be a list of DATA_SOURCE"),
        ('launch = ["x"]\n[settings]\nPPN = 12', "settings.PPN must be a string, not 12"),
        ('launch = ["x"]\n[settings]\nppn = "12"', "unknown key settings.ppn: the keys are DATA_SOURCE"),
        ('launch = ["x"]\nenvironment = "A=1"', "environment must be a table of strings, not 'A=1'"),
        ('launch = ["x"]\n[devices]\nmasks = ["0"]', "devices.variable is missing"),
        ('launch = ["x"]\n[devices]\nvariable = "V"\nmasks = []', "devices.masks must be a list of strings"),
        ('launch = ["x"]\n[devices]\nvariable = "V"\nmasks = ["0"]\ncount = 1', "belong together"),
        *(
            (
                f'launch = ["x"]\n[devices]\nvariable = "V"\nmasks = ["0"]\nfiles = "f"\ncount = {count}',
                "devices.count must",
            )
            for count in ("0", "true", "'2'", "1.5")
        ),
        ("launch = mpiexec", "line 1"),
    ],
)
def test_what_is_wrong_with_a_site_file(tmp_path, text, problem):
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_site(file)
    assert all(line.startswith(f"{file}: ") for line in caught.value.lines)
    assert problem in str(caught.value)


def settings(site, **environ):
    return settings_of(site, environ)


def test_devices_by_place_on_the_node():
    aurora = load_site("aurora")
    env = local_env(aurora, settings(aurora))
    assert env[0] == {} and [e["ZE_AFFINITY_MASK"] for e in env[1:]] == [str(n) for n in range(12)]
    assert len(local_env(aurora, settings(aurora, PPN="24"))) == 25
    assert local_env(load_site("local"), settings(load_site("local"))) == ({},)


@pytest.mark.parametrize(("name", "value"), [("PPN", "x"), ("PPN", "0"), ("PROCS", "1"), ("PROCS", "x")])
def test_what_is_no_size_of_a_job(name, value):
    given = {"PROCS": "3", "PPN": "2", name: value}
    with pytest.raises(UserError, match=f"^{name}.*: give "):
        size(load_site("local"), settings(load_site("local"), **given))


@pytest.mark.parametrize(
    ("text", "limit"), [("", -1), ("90", 90), ("1.5", 1.5), ("1h", None), ("inf", None), ("nan", None)]
)
def test_the_timeout_of_a_benchmark(text, limit):
    given = settings(load_site("local"), BENCHMARK_TIMEOUT=text)
    if limit is not None:
        assert benchmark_timeout(given) == limit
    else:
        with pytest.raises(UserError, match=rf"^BENCHMARK_TIMEOUT={text} \(environment\): give a number of seconds"):
            benchmark_timeout(given)


@pytest.mark.parametrize("procs", [2, 3, 12, 13, 14, 25, 26, 780, 781])
@pytest.mark.parametrize("site", ["aurora", "slurm"])
def test_every_rank_has_its_place(site, procs):
    """Ranks fill the nodes one after another; counted here rank by rank."""
    site = load_site(site)
    job = size(site, settings(site, PROCS=str(procs), PPN="12"))
    nodes = [min(job.ranks_per_node, job.ranks - n * job.ranks_per_node) for n in range(job.nodes)]
    assert sum(nodes) == job.ranks and all(count > (1 if site.server_slot else 0) for count in nodes)
    workers = job.ranks - (job.nodes if site.server_slot else 1)
    assert workers == procs - 1


@pytest.mark.parametrize(
    ("text", "scheduler", "expected"),
    [
        ("90:00", "", 5400),
        ("01:00:05", "", 3605),
        ("1-00:00:00", "", 86400),
        ("2-12", "slurm", 60 * 3600),
        ("1-01:30", "slurm", 25.5 * 3600),
        ("3600", "pbs", 3600),
        ("60", "slurm", 3600),
        ("60", "flux", 3600),
    ],
)
def test_walltimes_of_pbs_and_slurm(text, scheduler, expected):
    local = load_site("local")
    assert walltime(settings(local, WALLTIME=text), scheduler) == expected
    assert seconds(clock(expected)) == expected


@pytest.mark.parametrize(
    ("site", "text", "written"),
    [
        *(("slurm", "60", "01:00:00"), ("flux", "90", "01:30:00"), ("pbs", "60", "00:01:00")),
        *(("slurm", "1-00:00:00", "24:00:00"), ("local", "1-2", "26:00:00"), ("local", "", "-")),
    ],
)
def test_the_walltime_in_turbine_log_means_one_thing(tmp_path, site, text, written):
    site = load_site(site)
    record = submission_record(settings(site, PROCS="2", WALLTIME=text), site, Exp(tmp_path), "-", 1)
    assert record["WALLTIME"] == written


@pytest.mark.parametrize("text", ["tomorrow", "60", "0:00", "1:2:3:4", "-5"])
def test_what_is_no_walltime(text):
    with pytest.raises(UserError, match=f"WALLTIME={text}"):
        walltime(settings(load_site("local"), WALLTIME=text))


def test_the_time_that_is_left(monkeypatch):
    assert schedulers.seconds_left({}) is None
    monkeypatch.setattr("time.time", lambda: 1.8e9)
    assert schedulers.seconds_left({"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "1800000100"}) == 100
    answers = {
        "squeue": "1-02:03:04",
        "qstat": f"Job Id: 1\n    Resource_List.walltime = 01:00:00\n    stime = {time.ctime(1.8e9 - 600)}\n",
        "flux": "77.5",
    }
    monkeypatch.setattr(schedulers, "_ask", lambda *command: answers[command[0]])
    assert schedulers.seconds_left({"SLURM_JOB_ID": "1"}) == 93784
    assert schedulers.seconds_left({"PBS_JOBID": "1.pbs"}) == 3000
    assert schedulers.seconds_left({"FLUX_URI": "local://"}) == 77.5
    answers["qstat"] = "Job Id: 1\n    job_state = R\n"
    assert schedulers.seconds_left({"PBS_JOBID": "1.pbs"}) is None

    def broken(*command):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(schedulers, "_ask", broken)
    assert schedulers.seconds_left({"PBS_JOBID": "1.pbs"}) is None


@pytest.mark.parametrize(
    ("scheduler", "code", "stdout", "stderr", "over"),
    [
        ("pbs", 0, "Job Id: 1.pbs\n    Job_Name = EXP000\n    job_state = Q\n", "", False),
        ("pbs", 35, "", "qstat: 1.pbs Job has finished, use -x or -H to obtain historical job information", True),
        ("pbs", 153, "", "qstat: Unknown Job Id 1.pbs", True),
        ("pbs", 255, "", "Connection refused\nqstat: cannot connect to server pbs (errno=111)", None),
        ("slurm", 0, "PENDING\n", "", False),
        ("slurm", 0, "", "", True),
        ("slurm", 1, "", "slurm_load_jobs error: Invalid job id specified", True),
        ("slurm", 1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", None),
        ("flux", 0, "SCHED\n", "", False),
        ("flux", 0, "INACTIVE\n", "", True),
        ("flux", 1, "", "JobID f2 unknown", True),
        ("flux", 1, "", "flux-jobs: ERROR: ERROR: Unable to connect to Flux: broker socket was not found", None),
    ],
)
def test_whether_a_job_is_over(monkeypatch, scheduler, code, stdout, stderr, over):
    answer = subprocess.CompletedProcess((), code, stdout, stderr)
    monkeypatch.setattr(schedulers, "_command", lambda *arguments: answer)
    assert schedulers.is_over(scheduler, "1.pbs") is over


@pytest.mark.parametrize(
    ("scheduler", "prints", "jobid"),
    [
        ("slurm", r"12\nwarning after\n", "12"),
        ("slurm", r"sbatch: 3 nodes\n12;cluster\n", "12"),
        ("slurm", r"gr\374n \0342 \342\n12\n", "12"),  # Latin-1
        ("pbs", r"balance: 12.5 hours\n123.pbs-01.site.gov\n2 jobs before it\n", "123.pbs-01.site.gov"),
        ("pbs", r"7[].server\n", "7[].server"),
        ("flux", r"\306\222oWjR\nfailed to write the log\n", "ƒoWjR"),
        ("flux", r"f2oWjR\n", "f2oWjR"),
    ],
)
def test_the_id_of_a_job_between_other_lines(tmp_path, monkeypatch, scheduler, prints, jobid):
    """A warning after it gave the job the id "after"; a byte that is no UTF-8, a traceback for a job that was taken."""
    command(tmp_path, monkeypatch, scheduler, f"printf '{prints}'")
    assert schedulers.submit(scheduler, tmp_path / "script") == jobid


@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "flux"])
def test_a_scheduler_that_prints_no_id(tmp_path, monkeypatch, scheduler):
    command(tmp_path, monkeypatch, scheduler, "echo your job is welcome")
    with pytest.raises(UserError, match=f"{scheduler} printed no job id, but your job is welcome: .* cancel EXP003 if"):
        schedulers.submit(scheduler, tmp_path / "EXP003" / "script")


def command(folder, monkeypatch, scheduler, body):
    """What submits is a shell script."""
    name = {"slurm": "sbatch", "pbs": "qsub", "flux": "flux"}[scheduler]
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_scheduler_that_is_not_here(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert schedulers.is_over("slurm", "1") is None


def test_every_setting_is_documented():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in text] == []
