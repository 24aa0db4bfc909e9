"""Staging in whole jobs: whose data a RUN sees, what is left when it is over, and leaders that die."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_stop import kill_9, ranks_of, wait_for

from job import MPIEXEC, Workplace, journal, processes_in

STAGE = ["--hook", "hooks.leader:stage_data"]
MODEL = """
import os, time
from pathlib import Path
def initialize_parameters(): return {"together": 1, "until": ""}
def run(params):
    table = Path(params["input_dir"]) / "rsp_merged.parquet"
    first = table.read_bytes()
    Path("local").write_text(params["input_dir"])
    Path("python").write_text(__import__("sys").executable)
    (Path(params["input_dir"]).parent / "index-000-left-by-a-run").mkdir(exist_ok=True)
    (Path(os.environ["TMPDIR"]) / "__autograph_generated_fileabc.py").touch()
    while len(list(Path("..").glob("*/local"))) < params["together"]: time.sleep(0.02)
    while params["until"] and not Path(params["until"]).exists(): time.sleep(0.02)
    if params.get("die"): os._exit(1)
    if table.read_bytes() != first: raise RuntimeError("the data changed")
    Path("data").write_text(first.decode())
    return {"val_loss": 0.0}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    workplace = Workplace(tmp_path)
    (tmp_path / "reads_train_improve.py").write_text(MODEL)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rsp_merged.parquet").write_text(f"the data of {name}")
    workplace.env |= {
        "MODEL_NAME": "reads",
        "MODEL_PYTHON_DIR": str(tmp_path),
        "TMP_ORIGINAL": str(tmp_path / "node" / "original"),
        "DATA_SOURCE": "one",
    }
    workplace.output = tmp_path / "out" / "reads" / "Output"
    workplace.write([{"id": "A"}], {"input_dir": str(tmp_path / "node" / "original")})
    return workplace


def read_by(place, exp, run="A"):
    return (place.exp(exp) / "run" / run / "data").read_text()


def test_two_jobs_with_one_tmp_original_train_on_their_own_data(place):
    """The RUN of the first reads its table before and after the second has staged another, and ended."""
    go_on = place.root / "go-on"
    place.write(
        [{"id": "A", "until": str(go_on)}], {"input_dir": str(place.root / "node" / "original")}, name="slow.json"
    )
    first = subprocess.Popen(
        place.command(*STAGE, procs=2, upf="slow.json"), cwd=place.root, env=place.env, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: (place.exp(0) / "run" / "A" / "local").exists())
    second = place.run(*STAGE, procs=2, DATA_SOURCE="two")
    assert second.returncode == 0, second.stdout + second.stderr
    go_on.touch()
    assert first.wait(60) == 0
    assert (read_by(place, 0), read_by(place, 1)) == ("the data of one", "the data of two")
    assert list((place.root / "node").iterdir()) == []


def test_runs_that_die_leave_nothing_on_the_node(place):
    place.write([{"id": "A", "die": True}, {"id": "B"}], {"input_dir": "$TMP_ORIGINAL"})
    result = place.run(*STAGE, "--retries", "0", procs=3)
    assert result.returncode == 3
    assert "original-job-EXP000-" in (place.exp(0) / "run" / "A" / "local").read_text()
    assert list((place.root / "node").iterdir()) == []


def test_what_a_killed_job_left_serves_or_goes(place):
    place.write([{"id": "A", "until": "killed"}], {"input_dir": "$TMP_ORIGINAL"})
    job = place.start(*STAGE, procs=2)
    wait_for(lambda: (place.exp(0) / "run" / "A" / "local").exists())
    kill_9([job.pid, *processes_in(place.root)])
    job.wait(60)
    wait_for(lambda: not processes_in(place.root))
    left = sorted(path.name for path in (place.root / "node").iterdir())
    assert len(left) == 3 and left[0] == "original"
    place.write([{"id": "A"}], {"input_dir": "$TMP_ORIGINAL"})
    assert place.run(*STAGE, procs=2).returncode == 0
    out = (place.exp(1) / "out" / "out-000.txt").read_text()
    assert "staged 0 of 1 files" in out and "removed what nobody uses any more: original-job-EXP000" in out
    assert list((place.root / "node").iterdir()) == []


def test_pretended_nodes_have_their_own_copies(place):
    place.write([{"id": f"R{i}", "together": 3} for i in range(3)], {"input_dir": "/tmp/$USER/original"})
    local = str(place.root / "node$SWIFTPY_NODE" / "original")
    result = place.run(*STAGE, "--ranks-per-node", "2", procs=4, TMP_ORIGINAL=local, STAGE_KEEP="1")
    assert result.returncode == 0, result.stdout + result.stderr
    used = {Path((place.exp(0) / "run" / f"R{i}" / "local").read_text()).parents[1].name for i in range(3)}
    assert used == {"node0", "node1"}, "also where users write the place that TMP-ORIGINAL is by default"
    copies = [path.read_text() for path in place.root.glob("node*/original/rsp_merged.parquet")]
    assert copies == ["the data of one"] * 2, "kept, as STAGE_KEEP asks"


def test_a_hook_in_a_file_of_the_users_own(place):
    (place.root / "my hook.py").write_text(
        "def hook(leaders, env):\n"
        "    numbers = leaders.allgather(env['SWIFTPY_NODE'])\n"
        "    yield {'MINE': env['DATA_SOURCE'], 'TMPDIR': '.'}\n"
        "    print('cleaned up', ''.join(numbers))\n"
    )
    place.write([{"id": "A"}], {"input_dir": "$MINE"})
    result = place.run("--hook", "my hook.py", "--ranks-per-node", "1", procs=3)
    assert result.returncode == 0, result.stdout + result.stderr
    outputs = [path.read_text() for path in (place.exp(0) / "out").iterdir()]
    assert len(outputs) == 3 and all("cleaned up 012" in text for text in outputs)


def test_a_hook_that_is_not_there_is_named_before_anything_is_made(place):
    """In a job as on a login node, where a hook must not be run to find that out."""
    (place.root / "good.py").write_text("from mpi4py import MPI\nassert MPI.Is_initialized()\ndef hook(a, b): pass\n")
    submit = [sys.executable, "-m", "swiftpy.upf.submit", "slurm", "upf.json", "dflts.json", "--dry-run", "--hook"]
    env = {**place.env, "PROCS": "2", "PPN": "1", "WALLTIME": "1:00"}
    result = subprocess.run([*submit, "good.py"], cwd=place.root, env=env, capture_output=True, timeout=60)
    assert result.returncode == 0, "it is not run here"
    result = subprocess.run([*submit, "good.py:x"], cwd=place.root, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and result.stderr == f"--hook good.py:x: {place.root}/good.py has no x\n"
    result = place.run("--hook", "hooks.none:x", "--hook", "none.py", procs=2)
    assert result.returncode == 2 and place.exps() == []
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "there is no module hooks.none",
        f"there is no file {place.root}/none.py",
    ]


def test_every_rank_looks_at_what_the_hooks_made_of_its_nodes_environment(place):
    """The module is found on node 0, also by rank 0, which runs no tasks; and not on node 1."""
    (place.root / "staged").mkdir()
    (place.root / "staged" / "special.py").touch()
    (place.root / "site.toml").write_text('launch = ["mpiexec"]\nmodules = ["special"]\n')
    (place.root / "first.py").write_text(
        "def hook(leaders, env): return {} if leaders.rank else {'PYTHONPATH': 'staged:' + env.get('PYTHONPATH', '')}\n"
    )
    place.write([{"id": "A"}], {"input_dir": "one"})
    options = ("--hook", "first.py", "--site", str(place.root / "site.toml"), "--ranks-per-node", "1")
    result = place.run(*options, procs=2, PROCS="2", PPN="1")
    assert result.returncode == 2 and result.stdout.count("cannot be imported") == 1
    assert " node 1 (rank 1): special cannot be imported" in result.stdout


def test_a_hook_that_fails_on_one_node_while_the_others_wait_for_it(place):
    (place.root / "bad.py").write_text(
        "import swiftpy.runtime.hooks\n"
        "swiftpy.runtime.hooks.PATIENCE = 1.0\n"
        "def hook(leaders, env):\n    if leaders.rank == 1: raise OSError('no such fabric')\n    leaders.barrier()\n"
    )
    result = place.run("--hook", "bad.py", "--ranks-per-node", "1", procs=3)
    assert result.returncode != 0
    assert "node 1: OSError: no such fabric" in result.stderr


def test_a_hook_that_fails_on_one_node_does_not_go_on_where_it_did_not(place):
    """Its clean-up would wait for ever for the leader that never got so far."""
    (place.root / "bad.py").write_text(
        "def hook(leaders, env):\n"
        "    if leaders.rank == 1: raise OSError('no such fabric')\n"
        "    try:\n        yield {}\n        leaders.barrier()\n    finally:\n        print('closed')\n"
    )
    result = place.run("--hook", "bad.py", "--ranks-per-node", "1", procs=3)
    assert result.returncode == 2 and "node 1: OSError: no such fabric" in result.stdout
    closed = [path.read_text().count("closed") for path in sorted((place.exp(0) / "out").iterdir())]
    assert closed == [1, 0, 1]


def test_a_hook_that_fails_on_one_node_when_it_cleans_up(place):
    """The others wait for it, and the RUNs are done: the job ends, and not for want of patience with the summary."""
    place.write([{"id": "A"}], {"input_dir": str(place.root / "one")})
    (place.root / "slow.py").write_text("import time\ndef table(exp): time.sleep(7)\n")
    (place.root / "bad.py").write_text(
        "import os, swiftpy.runtime.hooks\n"
        "swiftpy.runtime.hooks.PATIENCE = 1.0 if 'WAITS' in os.environ else 6.0\n"
        "def hook(leaders, env):\n    yield {'TMPDIR': '.'}\n    if leaders.rank == 1: raise OSError('unmounted')\n"
        "    if 'WAITS' in os.environ: leaders.barrier()\n"
    )
    options = ("--hook", "bad.py", "--ranks-per-node", "1", "--summary", "slow:table")
    path = {"PYTHONPATH": f"{place.root}:{place.env.get('PYTHONPATH', '')}"}
    result = place.run(*options, procs=3, **path)
    assert result.returncode == 0 and "aborted" not in result.stderr
    result = place.run(*options, procs=3, WAITS="1", **path)
    assert result.returncode != 0
    line = f"{place.root}/bad.py:5"
    assert f"node 1: OSError: unmounted ({line}); other nodes still wait in the hook after 1 s" in result.stderr
    assert [e["code"] for e in journal(place.exp(1)) if e["event"] == "job_stopped"] == [0]


def test_a_hook_that_hangs_in_mpi_ends_at_the_second_signal(place):
    (place.root / "hangs.py").write_text(
        "def hook(leaders, env):\n    open(f'begun{leaders.rank}', 'w')\n    leaders.recv(source=leaders.rank)\n"
    )
    job = place.start("--hook", "hangs.py", "--ranks-per-node", "1", procs=2)
    wait_for((place.root / "begun1").exists)
    job.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert job.poll() is None
    # The second; and more, where a rank was so late that it heard the first two at once.
    wait_for(lambda: job.send_signal(signal.SIGTERM) or time.sleep(1.2) or job.poll() is not None, 50)
    assert job.wait(0) != 0
    assert " did not end when told to: the job is aborted" in (place.root / "job.log").read_text()


def test_a_leader_is_killed_while_data_arrive_and_the_job_is_started_again(place):
    """At random moments of a stream of 200 MB to three nodes."""
    source = place.root / "one" / "ge_merged_data.parquet"
    with source.open("wb") as file:
        for number in range(50):
            file.write(bytes([number]) * (4 << 20))
    local = str(place.root / "node$SWIFTPY_NODE" / "original")
    go_on = place.root / "go-on"
    place.write([{"id": "A", "until": str(go_on)}], {"input_dir": "$TMP_ORIGINAL"})
    options = [*STAGE, "--ranks-per-node", "1"]
    chance = random.Random(0)

    def arriving():
        return set(place.root.glob("node2/.original-*.part-*/ge_*"))

    for number in range(4):
        left, over = arriving(), place.exp(number) / "run" / "A" / "local"
        job = place.start(*options, procs=3, TMP_ORIGINAL=local)
        wait_for(lambda: ranks_of(place.exp(number)).get(2))
        victim = ranks_of(place.exp(number))[2]
        wait_for(lambda: arriving() - left or over.exists())
        time.sleep(chance.uniform(0, 0.05))
        os.kill(victim, signal.SIGKILL)
        assert job.wait(60) != 0
        wait_for(lambda: not processes_in(place.root))
    go_on.touch()
    result = place.run(*options, procs=3, TMP_ORIGINAL=local, STAGE_KEEP="1")
    assert result.returncode == 0, result.stdout + result.stderr
    for node in range(3):
        kept = place.root / f"node{node}"
        assert len(list(kept.iterdir())) == 2, "the link, and what it leads to"
        assert (kept / "original" / source.name).read_bytes() == source.read_bytes()


def test_a_signal_ends_staging_at_once(place):
    """40 GB would take half a minute to arrive."""
    (place.root / "long.py").write_text(
        "from collections import deque\n"
        "from swiftpy.runtime.group import Group\n"
        "from swiftpy.runtime.stage import stream\n"
        "def hook(leaders, env):\n"
        "    open(f'begun{leaders.rank}', 'w')\n"
        "    stream.broadcast(Group(leaders), 40 * 10**9, lambda offset, view: None, deque(maxlen=0).extend)\n"
    )
    job = place.start("--hook", "long.py", "--ranks-per-node", "1", procs=2)
    wait_for((place.root / "begun1").exists)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 4
    assert "cannot stage: the job was told to end (SIGTERM)" in (place.root / "job.log").read_text()
    assert journal(place.exp(0))[-1]["code"] == 4


def test_workers_run_from_staged_software(place):
    env = place.root / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    site = next(env.glob("lib/python3.*/site-packages"))
    mine = [path for path in sys.path if path.endswith("-packages")] + [str(Path(__file__).parents[2])]
    (site / "all.pth").write_text("\n".join(mine) + "\n")
    subprocess.run([sys.executable, "-m", "swiftpy.cli", "stage", "pack", env, place.root / "e.tar.zst"], check=True)
    for source in ("e.tar.zst", "env"):
        target = str(place.root / "node$SWIFTPY_NODE" / "software")
        variables = {"SOFTWARE_SOURCE": source, "SOFTWARE_TARGET": target}
        options = ["--hook", "hooks.prelaunch:stage_software", *STAGE, "--ranks-per-node", "1"]
        result = place.run(*options, procs=3, **variables)
        assert result.returncode == 0, result.stdout + result.stderr
        number = len(place.exps()) - 1
        python = (place.exp(number) / "run" / "A" / "python").read_text()
        assert python.startswith(str(place.root / "node")) and "/software-" in python
    assert [path for path in place.root.glob("node*/*") if path.name.startswith("software")] == []
    result = place.run("--hook", "hooks.prelaunch:stage_software", procs=2, SOFTWARE_SOURCE="nowhere.tar")
    assert result.returncode == 2 and "SOFTWARE_SOURCE=nowhere.tar: there is no file" in result.stderr
    result = place.run("--hook", "hooks.prelaunch:stage_software", procs=2)
    assert result.returncode == 2 and "SOFTWARE_SOURCE is not set" in result.stdout


def test_software_that_cannot_be_run_where_it_was_staged(place):
    """Such as in a /tmp that is mounted noexec; here the file itself is none that can be run."""
    (place.root / "env" / "bin").mkdir(parents=True)
    (place.root / "env" / "bin" / "python").touch()
    target = str(place.root / "node" / "software")
    options = ["--hook", "hooks.prelaunch:stage_software"]
    result = place.run(*options, procs=2, SOFTWARE_SOURCE="env", SOFTWARE_TARGET=target)
    assert result.returncode == 2
    assert re.search(r"bin/python cannot be run, .* mounted noexec: set SOFTWARE_TARGET .*/node/soft", result.stdout)


REMOTE = """#!/bin/bash
# As ssh would: -x HOST COMMAND...; each host has a network, a name and a local disk of its own.
while [ "${1#-}" != "$1" ]; do shift; done
number=${1##*.}; shift
exec unshare -m -u ip netns exec PREFIX$number bash -c "hostname node$number
mount -t tmpfs -o size=${number}0m tmpfs LOCAL && $*"
"""


@pytest.fixture
def network(tmp_path):
    """Two network namespaces with addresses of their own, and a program that starts processes in them."""
    prefix, bridge = f"sw{os.getpid() % 10000}n", f"sw{os.getpid() % 10000}b"

    def ip(*words, check=True):
        return subprocess.run(["ip", *words], capture_output=True, check=check)

    if (
        os.geteuid() != 0
        or not shutil.which("ip")
        or ip("link", "add", bridge, "type", "bridge", check=False).returncode
    ):
        pytest.skip("network namespaces cannot be made here")
    try:
        ip("addr", "add", "10.213.7.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number in ("1", "2"):
            name = prefix + number
            ip("netns", "add", name)
            ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}v", "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        local = tmp_path / "local disk"
        local.mkdir()
        remote = tmp_path / "remote"
        remote.write_text(REMOTE.replace("PREFIX", prefix).replace("LOCAL", f"'{local}'"))
        remote.chmod(0o755)
        yield local, ["-localhost", "10.213.7.254", "-launcher", "ssh", "-launcher-exec", str(remote)]
    finally:
        for number in ("1", "2"):
            ip("netns", "del", prefix + number, check=False)
        ip("link", "del", bridge, check=False)


def test_nodes_with_networks_and_disks_of_their_own(place, network):
    """Over TCP between two addresses. The first node's disk has 10 MB, the second's 20."""
    local, options = network
    place.write([{"id": f"R{i}", "together": 3} for i in range(3)], {"input_dir": "$TMP_ORIGINAL"})
    place.env["TMP_ORIGINAL"] = str(local / "original")
    hosts = [MPIEXEC, *options, "-hosts", "10.213.7.1,10.213.7.2", "-ppn", "2", "-n", "4"]

    def run():
        command = [*hosts, *place.command(*STAGE)[3:]]
        return subprocess.run(command, cwd=place.root, env=place.env, capture_output=True, text=True, timeout=300)

    result = run()
    assert result.returncode == 0, result.stdout + result.stderr
    assert {e["host"] for e in journal(place.exp(0)) if e["event"] == "run_done"} == {"node1", "node2"}
    assert all(read_by(place, 0, f"R{i}") == "the data of one" for i in range(3))
    (place.root / "one" / "ge_merged_data.parquet").write_bytes(bytes(15_000_000))
    result = run()
    assert result.returncode == 2
    assert "stage_data failed: node1: cannot make" in result.stdout
    assert len(re.findall(r"15\.\d MB are needed, 10\.\d MB are free", result.stdout)) == 1
