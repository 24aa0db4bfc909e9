"""Batch jobs that really run, and really are killed at their deadline, under a fake PBS and a fake Slurm."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from test_stop import wait_for

from fake_scheduler import install
from job import MPIEXEC, journal

DIRECTIVES = {
    "pbs": ["-A {PROJECT}", "-q {QUEUE}", "-l select={NODES}", "-l walltime={WALLTIME}", "-k doe", "-r n"],
    "slurm": ["--account={PROJECT}", "--nodes={NODES}", "--time={WALLTIME}", "--no-requeue", "--signal=B:TERM@2"],
}


@pytest.fixture
def submit(workplace):
    """Submits in the workplace to a fake scheduler; `submit.jobs()` waits until all jobs have ended."""
    binaries = install(workplace.root / "fake")
    path = f"{binaries}:{os.environ['PATH']}"

    def command(scheduler, *options, **env):
        site = workplace.root / f"{scheduler}-here.toml"
        setup = f"export PATH={shlex.quote(path)}"
        launch = [str(MPIEXEC), "-n", "{RANKS}"]
        site.write_text(
            f'scheduler = "{scheduler}"\nlaunch = {launch}\nsetup = ["{setup}"]\n'
            f"directives = {DIRECTIVES[scheduler]}\n[settings]\nPROCS = '3'\nPPN = '2'\n"
        )
        return subprocess.run(
            [sys.executable, "-m", "swiftpy.sites", str(site), "upf.json", "dflts.json", "--retries", "0", *options],
            cwd=workplace.root,
            env={**workplace.env, "PATH": path, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def jobs(wait=300):
        folder = workplace.root / "fake" / "jobs"

        def over():
            return {p.stem for p in folder.glob("*.json")} <= {p.stem for p in folder.glob("*.ended")}

        wait_for(over, wait)
        time.sleep(0.3)
        assert over(), "a job was submitted after all others had ended"
        return [(folder / f"{n + 1}.ended").read_text() for n in range(len(list(folder.glob("*.json"))))]

    command.jobs = jobs
    return command


FLUX = """#!/bin/sh
echo "$@" >> "$FAKE_FLUX"
case $* in *getattr*) echo f2B ;; *batch*) echo f3C ;; *timeleft*) echo 3000 ;; esac
"""


def test_the_successor_of_a_job_of_flux_waits_for_it_in_the_parent_instance(workplace):
    """A batch script of Flux has no FLUX_JOB_ID; what submits without --parent does so into the job that ends."""
    workplace.write([{"id": "A"}])
    flux = workplace.root / "bin" / "flux"
    flux.parent.mkdir()
    flux.write_text(FLUX)
    flux.chmod(0o755)
    said = workplace.root / "said"
    env = {**workplace.env, "PATH": f"{flux.parent}:{os.environ['PATH']}", "FAKE_FLUX": str(said)}
    env |= {"PROCS": "2", "PPN": "2", "WALLTIME": "01:00:00"}

    def python(*command, **more):
        command = [sys.executable, "-m", *map(str, command)]
        return subprocess.run(command, cwd=workplace.root, env={**env, **more}, capture_output=True, text=True)

    result = python("swiftpy.sites", "flux", "upf.json", "dflts.json", "--chain", "2")
    assert result.stdout == f"job f3C: {workplace.exp(0)}\n", result.stderr
    crash = ["sh", "-c", "echo in $SWIFTPY_JOBID; exit 9"]
    result = python("swiftpy.upf.batch", workplace.exp(0), "--", *crash, FLUX_URI="local://", SWIFTPY_JOBID="f1A")
    assert result.returncode == 9 and result.stdout.startswith("in f2B\nswiftpy: successor: job f3C"), result.stdout
    batches = [line for line in said.read_text().splitlines() if "batch" in line]
    assert batches[0] == f"batch {workplace.exp(0)}/turbine-flux.sh"
    assert batches[1] == f"--parent batch --dependency=afterany:f2B {workplace.exp(1)}/turbine-flux.sh"


def test_one_job_from_submission_to_end(workplace, submit):
    workplace.write([{"id": "A"}, {"id": "B"}])
    result = submit("pbs", "--dry-run", WALLTIME="00:10:00")
    assert result.returncode == 0, result.stderr
    assert "#PBS -l walltime=00:10:00" in result.stdout and "#PBS -A" not in result.stdout
    assert workplace.exps() == []
    result = submit("pbs", WALLTIME="00:10:00")
    assert result.returncode == 0, result.stderr
    exp = workplace.exp(0)
    assert result.stdout == f"job 1.fake-pbs: {exp}\n"
    (workplace.root / "upf.json").write_text("changed while the job was waiting\n")
    assert submit.jobs() == ["0"]
    assert (exp / "jobid.txt").read_text() == "1.fake-pbs\n"
    events = [e["event"] for e in journal(exp)]
    assert [(e["upf"], e["dflts"]) for e in journal(exp) if e["event"] == "job_submitted"] == [
        ("upf.json", "dflts.json")
    ]
    assert events.count("job_submitted") == events.count("job_started") == 1 and events.count("run_done") == 2
    log = dict(line.split(":", 1) for line in (exp / "turbine.log").read_text().splitlines())
    values = {key: value.strip() for key, value in log.items()}
    assert (values["JOB"], values["PROCS"], values["NODES"], values["PPN"]) == ("1.fake-pbs", "3", "2", "2")
    assert {"SUBMITTED", "STARTED", "EXIT CODE", "COMPLETED"} <= values.keys()
    output = (exp / "output.txt").read_text()
    assert "2 done, 0 skipped" in output and output.count("2 RUNs on 2 workers") == 1
    assert os.access(exp / "turbine-pbs.sh", os.X_OK) and "PBS_JOBID" in (exp / "turbine-env.txt").read_text()
    job = subprocess.run(["bash", exp / "turbine-pbs.sh"], capture_output=True, text=True)
    assert job.returncode == 2 and "restart it by its name" in job.stderr, "a script that the scheduler starts twice"


def test_killed_every_seven_epochs(workplace, submit):
    """20 epochs, the job killed with SIGKILL after each 7th: three jobs, every epoch once, and no fourth."""
    workplace.write([{"id": "A"}], {"epochs": 20, "pause_every": 7})
    assert submit("pbs", "--chain", "9", PROCS="2", FAKE_PAUSES="1").returncode == 0
    assert submit.jobs() == ["killed", "killed", "0"]
    assert workplace.epochs(2, "A") == list(range(1, 21))
    submissions = [e for exp in workplace.exps() for e in journal(exp) if e["event"] == "job_submitted"]
    assert [(e["job"], e["chain"]) for e in submissions] == [(1, 9), (2, 9), (3, 9)]
    assert crashes(workplace) == [0, 0, 0]


def crashes(workplace):
    return [json.loads((exp / "batch.json").read_text())["crashes"] for exp in workplace.exps()]


def test_jobs_that_end_by_themselves_before_their_walltime(workplace, submit):
    """Of 32 s, 11 are kept for ending; the RUNs get no further than epoch 9. It costs neither of them an attempt."""
    workplace.write([{"id": "A"}, {"id": "B"}], {"epochs": 16, "pause_every": 9})
    result = submit("slurm", "--chain", "9", "--grace", "1", WALLTIME="0:00:32")
    assert result.returncode == 0, result.stderr
    ended = submit.jobs()
    assert ended == ["4"] * (len(ended) - 1) + ["0"] and len(ended) > 1
    assert "walltime: no new RUNs" in (workplace.exp(0) / "output.txt").read_text()
    for run in "AB":
        assert workplace.epochs(len(ended) - 1, run) == list(range(1, 17))
    assert not [e for exp in workplace.exps() for e in journal(exp) if e["event"] == "run_failed"]


def test_a_crash_is_charged_and_what_is_cancelled_is_not_continued(workplace, submit, tmp_path):
    """The ranks kill their mpiexec's other ranks: with time left that is a crash, and the third ends the chain."""
    crash = tmp_path / "crash_baseline_keras2.py"
    crash.write_text(
        "import os, signal\nfrom toy_baseline_keras2 import *\n"
        "def run(params):\n    helper = os.getppid()\n"
        "    rank = int(open(f'/proc/{helper}/stat').read().rpartition(')')[2].split()[1])\n"
        "    os.kill(rank, signal.SIGKILL)\n    time.sleep(60)\n"
    )
    workplace.write([{"id": "A"}], {"model_name": "crash"})
    env = {"MODEL_PYTHON_SCRIPT": str(crash), "PYTHONPATH": workplace.env["MODEL_PYTHON_DIR"]}
    assert submit("pbs", "--chain", "9", WALLTIME="01:00:00", PROCS="2", **env).returncode == 0
    ended = submit.jobs()
    assert len(ended) == 3 and "0" not in ended and "killed" not in ended
    assert crashes(workplace) == [0, 1, 2]
    assert "crash 3 of this chain" in (workplace.exp(2) / "output.txt").read_text()

    workplace.write([{"id": "A", "epoch_seconds": 600}])
    assert submit("pbs", "--chain", "9", "--grace", "0", WALLTIME="01:00:00", PROCS="2").returncode == 0
    wait_for(lambda: (workplace.exp(3) / "run" / "A" / "ckpts").exists())
    subprocess.run([workplace.root / "fake" / "bin" / "qdel", "4.fake-pbs"], check=True)
    assert len(submit.jobs()) == 4
    assert "a successor is not wanted" in (workplace.exp(3) / "output.txt").read_text()


def test_a_chain_ends_at_n_and_when_nothing_is_left(workplace, submit):
    workplace.write([{"id": "A"}], {"epochs": 50, "pause_every": 3})
    assert submit("pbs", "--chain", "2", PROCS="2", FAKE_PAUSES="1").returncode == 0
    assert submit.jobs() == ["killed", "killed"]
    assert "job 2 of at most 2" in (workplace.exp(1) / "output.txt").read_text()
    workplace.write([{"id": "A", "do": "raise"}])
    assert submit("pbs", "--chain", "2", PROCS="2").returncode == 0
    assert submit.jobs()[2:] == ["3"], "a finished EXP submits nothing, also when RUNs have failed"
    workplace.write([{"id": "A"}])
    assert submit("pbs", "--chain", "2", "--restart", "EXP002", PROCS="2").returncode == 0
    assert submit.jobs()[3:] == ["0"]


def test_what_waits_in_the_queue_is_not_trained_twice(workplace, submit):
    workplace.write([{"id": "A"}])
    assert submit("pbs", FAKE_HOLD="1").returncode == 0
    result = submit("pbs", "--restart", "EXP000")
    assert result.returncode == 2 and workplace.exps() == [workplace.exp(0)]
    text = "EXP000: its job 1.fake-pbs, submitted to pbs-here, has not begun: cancel it first, or restart"
    assert result.stderr.startswith(text)
    subprocess.run([workplace.root / "fake" / "bin" / "qdel", "1.fake-pbs"], check=True)
    result = submit("pbs", "--restart", "EXP000", "--plan")
    assert result.returncode == 0 and "1 to run" in result.stdout, result.stderr


def test_ctrl_c_while_the_scheduler_takes_the_job(workplace):
    """It has it or not: the EXP stays for it, and the user is told how to find out."""
    workplace.write([{"id": "A"}])
    sbatch = workplace.root / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\ntouch '{workplace.root}/asked'\nexec sleep 60\n")
    sbatch.chmod(0o755)
    env = {**workplace.env, "PATH": f"{sbatch.parent}:{os.environ['PATH']}", "PROCS": "2", "PPN": "2"}
    command = [sys.executable, "-m", "swiftpy.sites", "slurm", "upf.json", "dflts.json"]
    process = subprocess.Popen(command, cwd=workplace.root, env=env, stderr=subprocess.PIPE, text=True)
    wait_for((workplace.root / "asked").exists)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    exp = workplace.exp(0)
    assert said == (
        "interrupted while slurm was taking the job, which may be in the queue:"
        f" if squeue --me does not list EXP000, remove {exp}\n"
    )
    assert process.returncode == 130 and (exp / "turbine-slurm.sh").exists()


def test_a_job_that_never_begins_says_why(workplace, submit):
    """Its data is gone by then; or its script cannot start the ranks."""
    workplace.write([{"id": "A"}])
    (workplace.root / "data").mkdir()
    assert submit("slurm", DATA_SOURCE="data", FAKE_HOLD="1").returncode == 0
    (workplace.root / "data").rmdir()
    subprocess.run([workplace.root / "fake" / "bin" / "scancel", "1"], check=True)  # we run its script ourselves
    exp = workplace.exp(0)
    script = exp / "turbine-slurm.sh"
    for text, reason in (
        (script.read_text(), "there is no such directory"),
        (script.read_text().replace(str(MPIEXEC), "/no/mpiexec"), "/no/mpiexec is not installed"),
    ):
        script.write_text(text)
        (exp / "journal.jsonl").write_text("".join((exp / "journal.jsonl").read_text().splitlines(True)[:2]))
        assert subprocess.run(["bash", script], capture_output=True, env=workplace.env).returncode == 2
        last = journal(exp)[-1]
        assert (last["event"], last["code"]) == ("job_stopped", 2) and reason in last["reason"]
        assert "EXIT CODE:         2\n" in (exp / "turbine.log").read_text()
