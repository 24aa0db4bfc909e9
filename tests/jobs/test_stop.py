"""Jobs that are asked to stop, or killed: nothing is lost, nothing goes on in the background."""

import contextlib
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from test_failures import snapshot

from job import journal, processes_in


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def trained(workplace, number=0):
    return sum(len(p.read_text().split()) for p in (workplace.exp(number) / "run").glob("*/epochs.log"))


def ranks_of(exp):
    """The pids of the job's ranks, by the file that each has as its stdout."""
    found = {}
    for out in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = out.readlink()
            command = (out.parent.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if target.parent == exp / "out" and b"swiftpy.upf" in command:
            found[int(target.stem.removeprefix("out-"))] = int(out.parent.parent.name)
    return found


def kill_9(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended with one that was killed before
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_runs_end_and_starts_no_more(workplace, number):
    workplace.write([{"id": f"R{i}"} for i in range(8)], {"do": "wait", "at": 2})
    job = workplace.start(procs=3)
    wait_for(lambda: trained(workplace) == 2)
    job.send_signal(number)
    wait_for(lambda: ": no new RUNs; " in (workplace.root / "job.log").read_text())
    (workplace.root / "go-on").touch()
    assert job.wait(60) == 4
    events = journal(workplace.exp(0))
    assert len([e for e in events if e["event"] == "run_done"]) == 2
    assert events[-1]["event"] == "job_stopped" and events[-1]["left"] == 6
    assert not (workplace.exp(0) / "lock.json").exists()
    assert workplace.run("--restart", "EXP000").returncode == 0
    assert all(workplace.epochs(1, f"R{i}") == [1, 2, 3] for i in range(8))


def test_after_the_grace_period_runs_are_killed_and_can_be_resumed(workplace):
    workplace.write([{"id": "A"}, {"id": "B", "do": "hang", "at": 2}], {"epoch_seconds": 0.3, "epochs": 1000})
    job = workplace.start("--grace", "1", procs=3)
    wait_for(lambda: trained(workplace) >= 3)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 4
    interrupted = {e["id"] for e in journal(workplace.exp(0)) if e["event"] == "run_interrupted"}
    assert interrupted == {"A", "B"}
    assert processes_in(workplace.root) == []
    workplace.write([{"id": "A"}, {"id": "B"}], {"epochs": 50})
    result = workplace.run("--restart", "EXP000", "--fresh")
    assert result.returncode == 0, result.stdout
    assert workplace.epochs(1, "A") == list(range(1, 51))


def test_a_job_ends_by_itself_before_its_walltime(workplace):
    """Of 32 s, 11 are kept for ending, and 2 go to a hook."""
    workplace.write([{"id": f"R{i:02d}"} for i in range(40)], {"epoch_seconds": 0.2})
    (workplace.root / "slow.py").write_text("import time\ndef hook(leaders, env): time.sleep(2)\n")
    result = workplace.run("--grace", "1", "--hook", "slow.py", procs=2, WALLTIME="00:00:32")
    assert result.returncode == 4 and "walltime: no new RUNs" in result.stdout
    events = journal(workplace.exp(0))
    assert max(e["t"] for e in events if e["event"] == "run_started") < events[0]["t"] + 21
    assert {e["event"] for e in events} >= {"run_done", "job_stopped"}
    assert result.stdout.count(" done in ") >= 2


def test_a_living_exp_is_not_restarted(workplace):
    workplace.write([{"id": "A", "epoch_seconds": 600}])
    job = workplace.start("--grace", "0", procs=2)
    wait_for(lambda: (workplace.exp(0) / "run" / "A").exists())
    result = workplace.run("--restart", "EXP000")
    assert result.returncode == 2
    assert f"pid {ranks_of(workplace.exp(0))[0]}" in result.stderr
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 4
    assert len(workplace.exps()) == 1


def test_of_two_restarts_of_one_exp_the_second_is_refused(workplace):
    workplace.write([{"id": "A", "do": "hang", "at": 2}])
    job = workplace.start("--grace", "0", procs=2)
    wait_for(lambda: trained(workplace))
    job.kill()
    job.wait(60)
    wait_for(lambda: not processes_in(workplace.root))
    job = workplace.start("--restart", "EXP000", "--grace", "0", procs=2)
    wait_for(lambda: (workplace.exp(1) / "run" / "A").exists())
    for options in ([], ["--plan"]):
        result = workplace.run("--restart", "EXP000", *options, procs=2)
        assert result.returncode == 2 and len(workplace.exps()) == 2
        assert re.fullmatch(r"EXP001 goes on from EXP000 now, with RUN A: a job on .*", result.stderr.strip())
    workplace.write([{"id": "B"}], name="others.json")
    assert workplace.run("--restart", "EXP000", procs=2, upf="others.json").returncode == 0
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 4


@pytest.mark.parametrize("victim", ["mpiexec", "server", "worker", "everything"])
def test_kill_9_leaves_no_process_behind(workplace, victim):
    workplace.write([{"id": f"R{i}", "do": "hang", "at": 2} for i in range(2)])
    job = workplace.start(procs=3)
    wait_for(lambda: trained(workplace) >= 2)
    ranks = ranks_of(workplace.exp(0))
    assert sorted(ranks) == [0, 1, 2]
    everybody = processes_in(workplace.root)
    victims = {"mpiexec": [job.pid], "server": [ranks[0]], "worker": [ranks[1]], "everything": everybody}
    kill_9(victims[victim])
    job.wait(60)
    wait_for(lambda: not processes_in(workplace.root))


def test_kill_9_at_random_moments_loses_nothing_and_trains_nothing_twice(workplace):
    """The soak in tests/soak does the same with TensorFlow, 20 times."""
    chance = random.Random(0)
    runs = [f"R{i}" for i in range(6)]
    workplace.write([{"id": run} for run in runs], {"epoch_seconds": 0.15})
    restart, old = [], {}
    for number in range(6):
        job = workplace.start(*restart, procs=3)
        wait_for(lambda n=number: workplace.exp(n).exists())
        time.sleep(chance.uniform(0.0, 1.5))
        kill_9([job.pid, *processes_in(workplace.root)])
        job.wait(60)
        wait_for(lambda: not processes_in(workplace.root))
        assert all(snapshot(exp) == files for exp, files in old.items()), "a restart changed an old EXP"
        old[workplace.exp(number)] = snapshot(workplace.exp(number))
        restart = ["--restart", f"EXP{number:03d}"]
    result = workplace.run(*restart, procs=3)
    assert result.returncode == 0, result.stdout + result.stderr
    last = len(old)
    finished = {}
    for exp in [*old, workplace.exp(last)]:
        for event in journal(exp) if (exp / "journal.jsonl").exists() else []:
            if event["event"] == "run_started":
                assert event["id"] not in finished, f"{event['id']} was finished in {finished[event['id']]}"
            if event["event"] == "run_done":
                finished[event["id"]] = exp.name
    for run in runs:
        epochs = workplace.epochs(last, run)
        assert sorted(set(epochs)) == [1, 2, 3]
        assert (workplace.exp(last) / "markers" / f"{run}.json").exists()


def test_a_signal_while_the_input_is_checked(workplace):
    """A user's module may hang there, in a file system or in itself; nothing is made then."""
    (workplace.root / "slow.py").write_text(
        "import time\ndef check(sets, data):\n    open('begun', 'w')\n    time.sleep(600)\n"
        "def pre_run(params): return 1\n"
    )
    workplace.write([{"id": "A"}], {"pre_module": "slow"})
    job = workplace.start(procs=2)
    wait_for((workplace.root / "begun").exists)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 4 and workplace.exps() == []
    assert (workplace.root / "job.log").read_text().splitlines() == ["SIGTERM: ended before anything was begun"]
