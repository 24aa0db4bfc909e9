"""The launcher, and the settings with their sources."""

import mmap
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from test_stop import trained, wait_for

from job import journal, processes_in
from swiftpy.errors import UserError
from swiftpy.sites.launch import remove_segments, supervise, warn_of_crashes
from swiftpy.sites.settings import benchmark_timeout, procs, settings_of, walltime
from swiftpy.sites.site import load_site


def launch(workplace, *arguments, **env):
    return subprocess.Popen(
        [sys.executable, "-m", "swiftpy.sites", *arguments],
        cwd=workplace.root,
        env={**workplace.env, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def heard(job):
    """Returns when rank 0 has had a signal."""
    guard = threading.Timer(100, job.kill)
    guard.start()
    assert any(": no new RUNs; " in line for line in job.stdout)
    guard.cancel()


def test_a_launcher_whose_script_is_killed_before_it_has_asked_to_end_with_it_ends(tmp_path):
    """What the kernel does then it does not do for a parent that is dead already; here another one is pretended."""
    code = "import os; from swiftpy.sites.launch import supervise; os.getpid = lambda: 1; supervise(['touch', 'begun'])"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert not (tmp_path / "begun").exists()


def test_a_launcher_that_the_system_cannot_run(tmp_path):
    script = tmp_path / "mpiexec"
    script.write_text("#!/gone/python\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match=r"mpiexec cannot be started \(No such file or directory\): load another MPI"):
        supervise([str(script), "-n", "2"])


def test_a_daemon_that_ignores_its_children_or_closes_its_streams_gets_the_exit_code(tmp_path):
    """It was 0 whatever became of the job; and without stdout or stderr no job began, nor an executor's."""
    code = (
        "import os, sys; from signal import *; from swiftpy.sites.launch import supervise; signal(SIGCHLD, SIG_IGN)\n"
        "[os.close(fd) for fd in (1, 2)]; file = open('took the number 1', 'w')\n"
        "sys.exit(supervise(['sh', '-c', 'echo a && echo b >&2 && exit 7']))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 7


def test_the_exit_code_is_the_jobs_and_procs_counts(workplace):
    workplace.write([{"id": "A", "do": "raise"}])
    job = launch(workplace, "local", "upf.json", "dflts.json", "--retries", "0", PROCS="2")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 3
    assert "1 RUNs on 1 workers" in out
    assert [e["procs"] for e in journal(workplace.exp(0)) if e["event"] == "job_started"] == [2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_gently_although_the_whole_process_group_gets_it(workplace, number):
    """As Ctrl-C in a terminal does. A second one, 1 s or more later, kills."""
    workplace.write([{"id": f"R{i}"} for i in range(4)], {"do": "wait", "at": 2})
    job = launch(workplace, "local", "upf.json", "dflts.json", PROCS="2")
    wait_for(lambda: trained(workplace) == 1)
    os.killpg(job.pid, number)
    heard(job)
    (workplace.root / "go-on").touch()
    job.communicate(timeout=60)
    assert job.returncode == 4
    assert [e["id"] for e in journal(workplace.exp(0)) if e["event"] == "run_done"] == ["R0"]


def test_kill_9_of_the_launcher_ends_the_job(workplace):
    workplace.write([{"id": "A", "epoch_seconds": 120}])
    job = launch(workplace, "local", "upf.json", "dflts.json", PROCS="2")
    wait_for(lambda: (workplace.exp(0) / "run" / "A" / "ckpts").exists())
    job.kill()
    job.wait(60)
    wait_for(lambda: not processes_in(workplace.root))


def test_a_second_signal_kills(workplace):
    workplace.write([{"id": "A", "epoch_seconds": 120}])
    job = launch(workplace, "local", "upf.json", "dflts.json", PROCS="2")
    wait_for(lambda: (workplace.exp(0) / "run" / "A" / "ckpts").exists())
    os.killpg(job.pid, signal.SIGINT)
    heard(job)
    time.sleep(1.1)
    os.killpg(job.pid, signal.SIGINT)
    job.communicate(timeout=50)  # the grace period has 60 s
    assert job.returncode == 4


STANDINS = {
    "srun": '"$@" & rank=$!\ntrap "kill -KILL $rank; exit 137" TERM\necho $rank >step\nwait $rank',
    "scancel": '[ "$*" = "--signal=TERM 12" ] && kill -TERM $(cat step)',
    "mpiexec": 'OMPI_COMM_WORLD_RANK=0 "$@" & rank=$!\ntrap "kill -KILL $rank; exit 1" TERM\ntouch step\nwait $rank',
    "rank": "trap 'echo told >>told' TERM\ntouch told\nuntil [ $(wc -l <told) = 2 ]; do sleep 0.05; done\nexit 4",
}


@pytest.mark.parametrize(
    ("launcher", "scancel", "code"),
    [("srun", STANDINS["scancel"], 4), ("srun", "exit 1", 137), ("srun", None, 137), ("mpiexec", None, 4)],
)
def test_launchers_that_kill_their_ranks_when_they_are_told_to_end_are_not_told(tmp_path, launcher, scancel, code):
    """Slurm's, whose --signal=B:TERM@90 comes to us, and Open MPI's: the RUNs lost what they had done since their last
    checkpoint."""
    for name, body in {**STANDINS, "scancel": scancel}.items():
        if body is not None:
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
    program = f"import sys; from swiftpy.sites.launch import supervise; sys.exit(supervise(['{launcher}', './rank']))"
    env = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "SWIFTPY_JOBID": "12"}
    job = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=env, start_new_session=True)
    wait_for(lambda: (tmp_path / "step").exists() and (tmp_path / "told").exists() and catches(job.pid, signal.SIGTERM))
    job.terminate()
    if code == 4:
        wait_for(lambda: (tmp_path / "told").read_text() == "told\n")
        job.terminate()  # who insists
    assert job.wait(60) == code


def catches(pid, number):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^SigCgt:\s*(\w+)", status, re.M)[1], 16) >> number - 1 & 1


@pytest.mark.parametrize(("age", "mapped", "stays"), [(0, False, True), (90, True, True), (90, False, False)])
def test_shared_memory_is_removed_that_no_process_maps_or_is_about_to_map(tmp_path, monkeypatch, age, mapped, stays):
    monkeypatch.setattr("swiftpy.sites.launch._SHARED_MEMORY", tmp_path)
    segment = tmp_path / "mpich_shm_1"
    segment.write_bytes(b"x")
    os.utime(segment, (time.time() - age,) * 2)
    with segment.open() as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if mapped else nullcontext():
        remove_segments(older_than=60)
    assert segment.exists() is stays


@pytest.mark.parametrize(("ranks", "said"), [(1, ""), (10**9, "MB left, and 1000000000 ranks may need 5500000000: ")])
def test_too_little_shared_memory_for_the_ranks_is_said_before_they_crash(capsys, ranks, said):
    warn_of_crashes(ranks)
    err = capsys.readouterr().err
    assert said in err and bool(err) is bool(said)


def test_shared_memory_without_a_limit_is_not_too_little(tmp_path, monkeypatch, capsys):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=0", "none", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("a file system can only be mounted as root")
    monkeypatch.setattr("swiftpy.sites.launch._SHARED_MEMORY", tmp_path)
    try:
        warn_of_crashes(4)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert capsys.readouterr().err == ""


def test_usage_when_python_drops_documentation():
    """`python -OO`, or PYTHONOPTIMIZE=2, which a site may set: an empty line was printed."""
    command = [sys.executable, "-OO", "-m", "swiftpy.sites"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "python -m swiftpy.sites local upf-12.json" in result.stdout


def test_a_file_of_ones_own_that_is_called_local(workplace):
    """The ranks read the local.toml that comes with swiftpy in its place."""
    text = 'launch = ["mpiexec", "-n", "{RANKS}"]\nmodules = ["no_such_module"]\n[settings]\nPROCS = "2"\nPPN = "2"\n'
    (workplace.root / "local.toml").write_text(text)
    workplace.write([{"id": "A"}])
    job = launch(workplace, "./local.toml", "upf.json", "dflts.json")
    out, err = job.communicate(timeout=60)
    assert job.returncode == 2 and "no_such_module cannot be imported" in out, out + err


@pytest.mark.parametrize("arguments", [["nowhere", "upf.json"], ["local"]])
def test_bad_command_lines(workplace, arguments):
    job = launch(workplace, *arguments)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "local" in err or "UPF" in err
    assert workplace.exps() == []


def test_who_wins():
    site = load_site("local")
    environ = {"PROCS": "7", "QUEUE": "debug", "SWIFTPY_SCRIPT_SETTINGS": "QUEUE"}
    settings = settings_of(site, environ)
    assert (settings["PROCS"].value, settings["PROCS"].source) == ("7", "environment")
    assert (settings["QUEUE"].value, settings["QUEUE"].source) == ("debug", "cfg-sys-1.sh or main script")
    assert (settings["MODEL_RETURN"].value, settings["MODEL_RETURN"].source) == ("val_loss", "default")
    assert settings["WALLTIME"].value == ""


def test_a_time_limit_must_be_a_number():
    assert benchmark_timeout(settings_of(load_site("local"), {})) == -1
    with pytest.raises(UserError, match="BENCHMARK_TIMEOUT=soon"):
        benchmark_timeout(settings_of(load_site("local"), {"BENCHMARK_TIMEOUT": "soon"}))


@pytest.mark.parametrize(
    ("value", "seconds"), [("", float("inf")), ("90:00", 5400), ("01:00:05", 3605), ("1-00:00:00", 86400)]
)
def test_walltime(value, seconds):
    assert walltime(settings_of(load_site("local"), {"WALLTIME": value})) == seconds


def test_a_walltime_that_is_none():
    with pytest.raises(UserError, match="WALLTIME=tomorrow"):
        walltime(settings_of(load_site("local"), {"WALLTIME": "tomorrow"}))


@pytest.mark.parametrize("value", ["1", "0", "four", "-3"])
def test_procs_must_leave_a_worker(value):
    with pytest.raises(UserError, match="PROCS"):
        procs(settings_of(load_site("local"), {"PROCS": value}))
