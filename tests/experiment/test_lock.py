import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trees

from swiftpy.errors import UserError
from swiftpy.experiment import lock
from swiftpy.experiment.exp import create
from swiftpy.experiment.lock import Lock, holder, refuse_if_alive

TAKE = """
import sys, time
from pathlib import Path
from swiftpy.experiment.exp import Exp
from swiftpy.experiment.lock import Lock
Lock(Exp(Path(sys.argv[1])), "77.pbs")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def exp(tmp_path):
    return create(tmp_path)


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def edit(exp, **fields):
    exp.lock.write_text(json.dumps({**json.loads(exp.lock.read_text()), **fields}))


def test_a_living_process_is_refused_and_a_killed_one_told_also_as_a_zombie(exp, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TAKE, exp.root], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"taken\n"
        os.utime(exp.lock, (1, 1))  # stopped for long, but there: the process counts, not the heartbeat
        with pytest.raises(UserError, match=f"in use by job 77.pbs on .* .pid {process.pid}."):
            refuse_if_alive(exp, tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert "job 77.pbs" in refuse_if_alive(exp, tmp_path)  # nobody has waited for it: a zombie
    process.wait()
    process.stdout.close()
    assert not holder(exp, tmp_path).alive


def test_a_later_process_with_the_same_number_is_not_the_owner(exp, tmp_path):
    Lock(exp)
    assert holder(exp, tmp_path).alive
    later = subprocess.Popen(["sleep", "60"])
    edit(exp, pid=later.pid)
    alive = holder(exp, tmp_path).alive
    later.kill()
    later.wait()
    assert not alive


@pytest.mark.parametrize("machine", ["another boot", ""])
def test_elsewhere_the_heartbeat_decides(exp, tmp_path, machine, monkeypatch):
    if not machine:  # neither side has a /proc
        monkeypatch.setattr(lock, "_machine", str)
    monkeypatch.setattr(lock, "BEAT_S", 3600)  # none between what follows
    Lock(exp, "78")
    edit(exp, machine=machine, host="node2", pid=1)
    assert holder(exp, tmp_path).alive
    os.utime(exp.lock, (time.time() - 61, time.time() - 61))
    state = holder(exp, tmp_path)
    assert not state.alive and state.age > 60
    assert "job 78 on node2" in refuse_if_alive(exp, tmp_path)


def test_where_nothing_can_be_written_this_machines_clock_judges(exp, monkeypatch):
    """As with --plan, for the EXP of somebody else."""
    unwritable = Path("/proc/self")
    monkeypatch.setattr(lock, "BEAT_S", 3600)
    Lock(exp, "78")
    edit(exp, machine="another boot")
    assert holder(exp, unwritable).alive
    os.utime(exp.lock, (5, 5))
    assert not holder(exp, unwritable).alive


@pytest.mark.parametrize("content", ["", '{"host": "node2"}', "[]"])
def test_a_damaged_lock_is_judged_by_its_heartbeat(exp, tmp_path, content):
    """A node that goes down leaves the name of a file, and none of its content."""
    exp.lock.write_text(content)
    with pytest.raises(UserError, match="in use by a job whose lock cannot be read"):
        refuse_if_alive(exp, tmp_path)
    os.utime(exp.lock, (5, 5))
    assert "was left by a job whose lock cannot be read" in refuse_if_alive(exp, tmp_path)


def test_it_beats_by_itself_until_it_is_released(exp, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    before = set(threading.enumerate())
    held = Lock(exp)
    [beating] = set(threading.enumerate()) - before
    for _ in range(2):
        os.utime(exp.lock, (5, 5))
        wait_for(lambda: exp.lock.stat().st_mtime > 5)
    away = exp.lock.rename(exp.root / "away")
    time.sleep(0.1)
    away.rename(exp.lock)  # the file system was away: no reason to stop
    os.utime(exp.lock, (5, 5))
    wait_for(lambda: exp.lock.stat().st_mtime > 5)
    held.release()
    beating.join(60)
    assert not beating.is_alive()


def test_released_it_is_nobodys(exp, tmp_path):
    Lock(exp).release()
    assert holder(exp, tmp_path).owner is None
    assert refuse_if_alive(exp, tmp_path) is None
    assert trees.names(tmp_path) == [exp.id]  # looking leaves nothing behind


def test_one_that_cannot_be_removed_does_not_end_its_job(exp, monkeypatch):
    """All RUNs were done, and the last word of the job was a traceback, with exit code 1."""
    held = Lock(exp)

    def read_only(path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    held.release()
    assert exp.lock.exists()


def test_a_job_that_is_known_to_be_over_is_dead_whatever_its_heartbeat(exp, tmp_path):
    """A successor starts seconds after its predecessor was killed on another node."""
    Lock(exp, "77.pbs")
    edit(exp, machine="another boot")
    with pytest.raises(UserError, match=r"in use by job 77.pbs"):
        refuse_if_alive(exp, tmp_path, "76.pbs")
    assert "job 77.pbs" in refuse_if_alive(exp, tmp_path, "77.pbs")
