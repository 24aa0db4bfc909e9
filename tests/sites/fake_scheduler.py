"""qsub, sbatch and their like as one small program: jobs really run, and at their deadline really are killed.

`install(folder)` makes `folder/bin` with one link per command, and `folder/jobs` for what they remember. A job runs
`bash SCRIPT` in a session of its own. At its limit it gets what the real scheduler sends (PBS: TERM to everything;
Slurm: what --signal asks for), and a minute later every process of the job is killed with SIGKILL, whatever session it
has gone to. FAKE_PAUSES in the environment of the submission makes both independent of how fast this machine is: job
number K is at its limit when one of its RUNs has made `paused-K`, does nothing from then on but what its batch script
does, so that it cannot end by itself, and is killed when that has said whether there is a successor. With FAKE_HOLD in
the environment of the submission a job stays in the queue until it is deleted.

Directives are parsed strictly: an option that the fake does not know is refused, as a typo would be.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("qsub", "qstat", "qdel", "sbatch", "squeue", "scancel")
NOTICE = 60.0
PREFIXES = {"pbs": "#PBS ", "slurm": "#SBATCH ", "flux": "# flux: "}


def install(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in COMMANDS:
        link = folder / "bin" / name
        link.write_text(f"#!{sys.executable}\n" + Path(__file__).read_text())
        link.chmod(0o755)
    return folder / "bin"


class Refuse(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _duration(text):
    if not re.fullmatch(r"\d+:\d\d:\d\d", text):
        raise ValueError(f"walltime {text}")
    hours, minutes, seconds = map(int, text.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _pbs(arguments):
    parser = Refuse(allow_abbrev=False)
    for option in ("-A", "-q", "-N", "-o"):
        parser.add_argument(option)
    parser.add_argument("-j", choices=["oe"])
    parser.add_argument("-k", choices=["doe"])
    parser.add_argument("-r", choices=["n"])
    parser.add_argument("-l", action="append", default=[])
    found = vars(parser.parse_args(arguments))
    for item in found.pop("l"):
        name, _, value = item.partition("=")
        if name not in ("select", "place", "walltime", "filesystems") or not value:
            raise ValueError(f"-l {item}")
        found[name] = value
    if not re.fullmatch(r"[1-9]\d*(:(ncpus|mpiprocs|ngpus)=\d+|:system=\w+)*", found.get("select", "1")):
        raise ValueError(f"select={found['select']}")
    found["limit"] = _duration(found["walltime"]) if "walltime" in found else None
    return found


def _slurm(arguments):
    parser = Refuse(allow_abbrev=False)
    for option in ("account", "partition", "qos", "constraint", "job-name", "output", "signal"):
        parser.add_argument(f"--{option}")
    for option in ("nodes", "ntasks-per-node", "gpus-per-node"):
        parser.add_argument(f"--{option}", type=int)
    parser.add_argument("--open-mode", choices=["append"])
    parser.add_argument("--no-requeue", action="store_true")
    parser.add_argument("--time", type=_duration)
    found = vars(parser.parse_args(arguments))
    if found["signal"] and not re.fullmatch(r"B:TERM@\d+", found["signal"]):
        raise ValueError(f"--signal={found['signal']}")
    return {**found, "o": found["output"].replace("%%", "%"), "limit": found["time"], "N": found["job_name"]}


def _flux(arguments):
    parser = Refuse(allow_abbrev=False)
    for option in ("bank", "queue", "job-name", "output"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--exclusive", action="store_true")
    parser.add_argument("--time-limit", type=re.compile(r"\d+s").fullmatch)
    return vars(parser.parse_args(arguments))


def directives(scheduler, text):
    """What the script's directives say; ValueError if one is unknown, malformed, or comes after the first command."""
    arguments, prefix, over = [], PREFIXES[scheduler], False
    for line in text.splitlines()[1:]:
        if line.startswith(prefix):
            if over:
                raise ValueError(f"after the first command: {line}")
            arguments += shlex.split(line.removeprefix(prefix))
        elif line and not line.startswith("#"):
            over = True
    return {"pbs": _pbs, "slurm": _slurm, "flux": _flux}[scheduler](arguments)


# -- the commands ------------------------------------------------------------------------------------------------


def main(jobs, name, arguments):
    if arguments[0] == "run":
        return run(jobs, int(arguments[1]), json.loads((jobs / f"{arguments[1]}.json").read_text()))
    if name in ("qsub", "sbatch"):
        return submit(jobs, "pbs" if name == "qsub" else "slurm", arguments)
    number = arguments[-1].partition(".")[0]
    if name in ("qdel", "scancel"):
        (jobs / f"{number}.deleted").touch()
        return 0
    job = json.loads((jobs / f"{number}.json").read_text())
    if (jobs / f"{number}.ended").exists() or ("started" not in job and (jobs / f"{number}.deleted").exists()):
        if name == "qstat":
            print(f"qstat: {arguments[-1]} Job has finished, use -x or -H", file=sys.stderr)
        return 35 if name == "qstat" else 0
    if name == "squeue":
        print("RUNNING" if "started" in job else "PENDING")
        return 0
    limit = f"    Resource_List.walltime = {job['walltime']}\n" if job.get("walltime") else ""
    began = f"    stime = {time.ctime(job['started'])}\n" if "started" in job else ""
    print(f"Job Id: {arguments[-1]}\n    job_state = {'R' if began else 'Q'}\n{limit}{began}")
    return 0


def submit(jobs, scheduler, arguments):
    *options, script = arguments
    after = [re.search(r"afterany:(\d+)", option) for option in options]
    try:
        found = directives(scheduler, Path(script).read_text())
    except ValueError as error:
        print(f"{scheduler}: illegal: {error}", file=sys.stderr)
        return 1
    if found.get("A") == "nobody" or found.get("account") == "nobody":
        print("no such project: nobody", file=sys.stderr)
        return 1
    number = 1 + len(list(jobs.glob("*.json")))
    limit = float(found["limit"] or 300)
    job = {**found, "script": script, "after": [m[1] for m in after if m], "limit": limit, "scheduler": scheduler}
    (jobs / f"{number}.json").write_text(json.dumps(job))
    # A process of its own, without the mark of the job in which sbatch may have been called: it outlives that job.
    env = {name: value for name, value in os.environ.items() if name != "FAKE_JOB"}
    null = subprocess.DEVNULL
    runner = [sys.executable, sys.argv[0], "run", str(number)]
    subprocess.Popen(runner, env=env, stdin=null, stdout=null, stderr=null, start_new_session=True)
    print(number if scheduler == "slurm" else f"{number}.fake-pbs")
    return 0


def run(jobs, number, job):
    while "FAKE_HOLD" in os.environ or not all((jobs / f"{before}.ended").exists() for before in job["after"]):
        if (jobs / f"{number}.deleted").exists():
            return
        time.sleep(0.05)
    job["started"] = time.time()
    (jobs / f"{number}.json").write_text(json.dumps(job))
    mark = f"FAKE_JOB={jobs}/{number}"
    env = {k: os.environ[k] for k in ("HOME", "USER", "LANG", "FAKE_PAUSES") if k in os.environ}
    env |= dict([mark.split("=", 1)])
    if job["scheduler"] == "pbs":
        env |= {"PBS_JOBID": f"{number}.fake-pbs", "PATH": "/usr/bin:/bin"}
    else:
        env = {**os.environ, **env, "SLURM_JOB_ID": str(number)}
        if job["time"]:
            env["SLURM_JOB_END_TIME"] = str(int(time.time() + job["limit"]))
    with Path(job["o"]).open("ab") as output:
        process = subprocess.Popen(
            ["bash", job["script"]], env=env, stdout=output, stderr=output, start_new_session=True
        )
    end = time.monotonic() + job["limit"]
    notice = end - (float(job["signal"].partition("@")[2]) if job.get("signal") else 0)
    told = stopped = False
    while process.poll() is None and time.monotonic() < end + NOTICE:
        if not told and "FAKE_PAUSES" in os.environ and list(Path(job["o"]).parent.glob(f"run/*/paused-{number}")):
            notice, stopped = time.monotonic(), True
            for pid in set(marked(mark)) - {process.pid}:
                send(pid, signal.SIGSTOP)
        deleted = (jobs / f"{number}.deleted").exists()
        if not told and (time.monotonic() >= notice or deleted):
            told = True
            end = min(end, time.monotonic()) if deleted else end
            for pid in [process.pid] if job["scheduler"] == "slurm" else marked(mark):
                send(pid, signal.SIGTERM)
        if stopped and "successor" in Path(job["o"]).read_text():
            break
        time.sleep(0.05)
    killed = process.poll() is None
    while left := marked(mark):
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)
    (jobs / f"{number}.ended").write_text("killed" if killed else str(process.wait()))


def marked(mark):
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    program = Path(sys.argv[0]).absolute()
    sys.exit(main(program.parent.parent / "jobs", program.name, sys.argv[1:]))
