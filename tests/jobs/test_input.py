"""Input that cannot work: every problem named with file and line, exit code 2, and nothing created."""

import json
import subprocess
import sys

import pytest

from job import journal


def refused(result, workplace):
    assert result.returncode == 2, result.stdout + result.stderr
    assert workplace.exps() == []
    assert "Traceback" not in result.stdout + result.stderr
    return result.stderr.splitlines()


def test_all_problems_at_once(workplace):
    workplace.write(
        [
            '{"id": "A"}',
            '{"id": "B",}',
            '{"id": "A"}',
            '{"index": 1}',
            '{"id": "../x"}',
            '{"id": "a/b"}',
            '{"id": "a\\u0000b"}',
            '{"id": 7}',
            '{"id": "N", "x": NaN}',
            '{"id": "B "}',
        ]
    )
    lines = refused(workplace.run(), workplace)
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5", "6", "7", "8", "9", "10"]
    assert all(line.startswith("upf.json:") for line in lines)
    assert "line 1" in lines[1]


def test_what_only_the_model_runner_knows(workplace):
    workplace.write(
        [
            '{"id": "A", "model_name": "nosuch"}',
            '{"id": "B", "pre_module": "nosuch"}',
            '{"id": "C", "epochs": "x"}',
            '{"id": "D", "input_dir": 5, "seed": "s"}',
        ]
    )
    lines = refused(workplace.run(), workplace)
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4", "4"]
    assert "nosuch" in lines[0] and "nosuch" in lines[1] and "epochs" in lines[2]


@pytest.mark.parametrize("program", [["-m", "swiftpy.upf", "upf.json", "dflts.json"], ["-m", "swiftpy", "script.py"]])
def test_a_launcher_that_the_mpi_does_not_know(workplace, program):
    """Each of its processes is rank 0 of one."""
    workplace.write([{"id": "A"}])
    (workplace.root / "script.py").touch()
    command = [sys.executable, *program]
    result = subprocess.run(command, cwd=workplace.root, env=workplace.env, capture_output=True, text=True, timeout=60)
    (line,) = refused(result, workplace)
    assert "one process only" in line and "srun --mpi" in line


def test_missing_files_and_bad_defaults(workplace):
    workplace.write(["{}"])
    (workplace.root / "upf.json").unlink()
    (workplace.root / "dflts.json").write_text('{\n  "epochs": 3,\n  "epochs": 4\n}')
    lines = refused(workplace.run(), workplace)
    assert any("upf.json" in line for line in lines)
    assert any(line.startswith("dflts.json:3: ") for line in lines)


@pytest.mark.parametrize("content", ["\ufeff", "\r\n", "# only a comment\n"])
def test_legal_oddities_run(workplace, content):
    head = "\ufeff" if content == "\ufeff" else "# a comment\n"
    end = "\r\n" if content == "\r\n" else "\n"
    big = json.dumps({"id": "BIG", "note": "x#y" * 350_000})
    text = head + '{"id": "A#1"}   # a remark' + end + end + big + end
    (workplace.root / "upf.json").write_bytes(text.encode())
    (workplace.root / "dflts.json").write_text('{"epochs": 1}')
    result = workplace.run(procs=2)
    assert result.returncode == 0, result.stdout + result.stderr
    assert workplace.epochs(0, "A#1") == workplace.epochs(0, "BIG") == [1]


def test_one_process_is_not_enough(workplace):
    workplace.write(['{"id": "A"}'])
    lines = refused(workplace.run(procs=1), workplace)
    assert "mpiexec -n" in lines[-1]


def test_an_exp_name_that_is_taken(workplace):
    workplace.write(['{"id": "A"}'])
    assert workplace.run(procs=2, EXPID="MINE").returncode == 0
    result = workplace.run(procs=2, EXPID="MINE")
    assert result.returncode == 2 and "MINE" in result.stderr
    assert [exp.name for exp in workplace.exps()] == ["MINE"]


def test_names_that_are_no_names(workplace):
    workplace.write(['{"id": "A"}'])
    assert "EXPID=a/b (environment) contains '/'" in refused(workplace.run(EXPID="a/b"), workplace)[-1]
    assert "MODEL_NAME=../x" in refused(workplace.run(MODEL_NAME="../x"), workplace)[-1]
    assert "DATA_SOURCE=/nowhere" in refused(workplace.run(DATA_SOURCE="/nowhere"), workplace)[-1]
    assert "WALLTIME=soon" in refused(workplace.run(WALLTIME="soon"), workplace)[-1]
    assert "cannot create an EXP" in refused(workplace.run(CANDLE_DATA_DIR="/proc/x"), workplace)[-1]


def test_a_sites_file_that_lacks_what_its_devices_need(workplace):
    workplace.write(['{"id": "A", "epochs": 1}'])
    site = workplace.root / "my.toml"
    site.write_text("launch = ['mpiexec']\n[devices]\nvariable = 'TOY_DEVICE'\nmasks = ['x', 'y']\n")
    assert refused(workplace.run("--site", site), workplace)[-1].startswith("PPN is not set: give a number")
    result = workplace.run("--site", site, PPN="2", procs=2)  # mpiexec says how many ranks there are
    assert result.returncode == 0, result.stdout + result.stderr


def test_restart_that_would_change_the_science_is_refused(workplace):
    workplace.write(['{"id": "A", "epochs": 3}', '{"id": "B", "seed": 3}'])
    assert workplace.run().returncode == 0
    workplace.write(['{"id": "A", "epochs": 5}', '{"id": "B", "seed": 4}'])
    result = workplace.run("--restart", "EXP000")
    assert result.returncode == 2 and len(workplace.exps()) == 1
    assert result.stderr.startswith("upf.json:2: ") and "seed" in result.stderr
    assert workplace.run("--restart", "EXP000", "--fresh").returncode == 0
    assert workplace.epochs(1, "A") == [1, 2, 3, 4, 5]
    times = [e["epoch_seconds"] for n in (0, 1) for e in journal(workplace.exp(n)) if e["event"] == "job_started"]
    assert times[0] == 0 < times[1], "how long an epoch takes is known from the job before"
    assert workplace.epochs(1, "B") == [1, 2, 3]


def test_help_and_usage(workplace):
    workplace.write(["{}"])
    result = workplace.run("--help")
    assert result.returncode == 0 and result.stdout.count("example:") == 1
    assert "--nonsense" in "".join(refused(workplace.run("--nonsense"), workplace))


def test_a_script_that_is_imported_in_the_place_of_a_module_ends_all_ranks(workplace):
    """Called random.py, it ended rank 0 alone; the others waited for ever. Without mpiexec there is but rank 0."""
    script = workplace.root / "random.py"
    script.write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    command = workplace.command(procs=1)[3:]
    ended = subprocess.run(command, cwd=workplace.root, env=workplace.env, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1 and f'File "{script}", line 2' in ended.stderr
    assert "RuntimeError: what was imported ends the program: give scripts other names" in ended.stderr
