"""A disk that fills up in the middle of a job: said plainly, nothing lost, and a restart finishes the work."""

import subprocess

import pytest

from job import Workplace, journal


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted as root")
    yield Workplace(disk)
    subprocess.run(["umount", "-l", str(disk)], check=True)


def run_ids(exp, event):
    return {e["id"] for e in journal(exp) if e["event"] == event}


@pytest.mark.parametrize("count", [2, 60], ids=["the RUNs' files fail", "the journal fails too"])
def test_full_disk(small_disk, count):
    runs = [{"id": "FIRST"}, {"id": "BIG", "do": "fill"}, *({"id": f"R{i}"} for i in range(count))]
    small_disk.write(runs)
    result = small_disk.run("--retries", "0", procs=2)
    exp = small_disk.exp(0)
    assert result.returncode == (3 if count == 2 else 4), result.stdout
    assert "No space left on device" in result.stdout
    assert run_ids(exp, "run_done") == {"FIRST"}
    if count == 60:
        assert "journal.jsonl: No space left on device: stopping early" in result.stdout
        assert len(run_ids(exp, "run_started")) < count
    (exp / "run" / "BIG" / "big").unlink()
    small_disk.write([{"id": run["id"]} for run in runs[:4]])
    result = small_disk.run("--restart", "EXP000", "--fresh", procs=2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert run_ids(small_disk.exp(1), "run_skipped") == {"FIRST"}
    assert run_ids(small_disk.exp(1), "run_done") == {run["id"] for run in runs[1:4]}


def test_no_room_for_an_exp(small_disk):
    small_disk.write([{"id": "A"}])
    (small_disk.root / "filler").write_bytes(bytes(500_000))
    with (small_disk.root / "filler2").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(100))
    result = small_disk.run(procs=2)
    assert result.returncode == 2
    assert "No space left on device" in result.stderr and "Traceback" not in result.stderr
