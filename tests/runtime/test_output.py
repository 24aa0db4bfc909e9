"""Where ranks' output goes."""

import os
import subprocess
import sys

import pytest

from swiftpy.runtime.output import redirect


def test_a_rank_whose_file_cannot_be_made_prints_where_the_launcher_takes_it(tmp_path, capsys):
    """One rank's traceback ended the job, after its EXP had been made."""
    path = tmp_path / "quota" / "out-001.txt"
    assert redirect(path) == 1
    text = f"{path}: No such file or directory: what this rank prints comes here instead\n"
    assert capsys.readouterr().err == text


def test_an_exception_whose_text_no_terminal_takes_ends_the_job():
    """The other ranks waited for ever."""
    program = r"from swiftpy.runtime import mpi; mpi.end_job_on_uncaught(); raise RuntimeError('gr\xf6\xdfe \udcff')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, timeout=50)
    told = ended.stderr.decode()
    assert "a bug in the engine" in told and "größe \\udcff" in told and "UnicodeEncodeError" not in told


@pytest.mark.parametrize("closes", ["sys.stdout.close(); os.close(1)", "open(1, 'w').close()"])
def test_what_a_task_closed_down_to_the_descriptor_does_not_end_in_the_next_file(tmp_path, closes):
    """It gets the lowest free descriptor. Commands find one as well, or what they print would cost them their task."""
    program = f"""
import os, sys
from swiftpy.runtime.output import flush
{closes}
flush()
data = open("data", "w")
print("said")
sys.stdout.flush()
data.write("kept")
data.close()
assert os.get_inheritable(1)
sys.exit(3 if os.path.samestat(os.fstat(1), os.stat(os.devnull)) else 4)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=50)
    assert ended.returncode == 3 and (tmp_path / "data").read_text() == "kept"


def test_a_bar_for_a_terminal_that_was_closed_does_not_end_the_job():
    """A line did not, but the bar did: BrokenPipeError, and with rank 0 all RUNs."""
    program = r"""
import os
from swiftpy.runtime.output import Console
read, write = os.pipe()
os.dup2(write, 1)
os.close(write)
console = Console()
os.close(read)
console.line("12 RUNs on 3 workers")
console.bar("[....] 0/12 RUNs")
console.bar("[#...] 3/12 RUNs")
os._exit(7)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50)
    assert ended.returncode == 7, ended.stderr.decode()
