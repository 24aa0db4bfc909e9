"""Performance monitors beside a RUN: `perf_top`, `perf_nvidia`, `perf_xpu`, each the seconds between two
samples.

Their output is appended to perf-top.log, perf-nvidia.log, perf-xpu.log in the RUN directory.
"""

import contextlib
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_runner.errors import RunError
from model_runner.values import Rules, wrong

log = logging.getLogger("RUNNER")

# xpu-smi (Intel XPU Manager): all devices; 0 utilization, 1 power, 2 frequency, 5 and 18 memory in % and MiB.
_COMMANDS = {
    "perf_top": ("top", "-b", "-d", "{}"),
    "perf_nvidia": ("nvidia-smi", "--loop={}"),
    "perf_xpu": ("xpu-smi", "dump", "-d", "-1", "-m", "0,1,2,5,18", "-i", "{}"),
}

# A monitor must not outlive its RUN's process, killed or not. The parent-death signal has to be set in the
# new process: `preexec_fn` would run Python between fork and exec, which can deadlock where TensorFlow has
# threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit()
os.execvp(sys.argv[2], sys.argv[2:])
"""


def _is_interval(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and 0 <= float(value or 0) < math.inf
    except (TypeError, ValueError):
        return False


#: What the values must be, also as texts; for who reads them, and for the check before a job.
RULES: Rules = dict.fromkeys(_COMMANDS, (_is_interval, "a number of seconds (0 is off)"))


@contextlib.contextmanager
def monitored(params: Mapping[str, Any], directory: Path) -> Iterator[None]:
    """Run the monitors that `params` asks for until the block ends; a missing program is no error."""
    for _, problem in wrong(params, RULES):
        raise RunError(problem)
    with contextlib.ExitStack() as stack:
        for key, command in _COMMANDS.items():
            seconds = math.ceil(float(params.get(key) or 0))  # nvidia-smi and xpu-smi know no fractions
            if not seconds:
                continue
            if shutil.which(command[0]) is None:
                log.warning("%s: there is no program %s here, going on without it", key, command[0])
                continue
            stack.enter_context(_running([word.format(seconds) for word in command], _log_file(key, directory)))
        yield


def _log_file(key: str, directory: Path) -> Path:
    return directory / (key.replace("_", "-") + ".log")


@contextlib.contextmanager
def _running(command: list[str], output: Path) -> Iterator[None]:
    with output.open("a") as stream:
        stream.write(f"model_runner: start: {time.strftime('%Y-%m-%d %H:%M:%S')}\n\n")
        stream.flush()
        wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        process = subprocess.Popen(
            [*wrapper, *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
