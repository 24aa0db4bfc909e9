"""Where an EXP comes from: `turbine.log`, `jobid.txt`, `turbine-env.txt`, as users' scripts read them."""

import re
from collections.abc import Mapping

from swiftpy.experiment.exp import Exp
from swiftpy.experiment.files import replace_text

_SECRET_NAME = re.compile("TOKEN|PASSW|SECRET|CREDENTIAL|KEY", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_MASK = "****"


def log(exp: Exp, settings: Mapping[str, object]) -> None:
    """Append `KEY:` padded to 19 columns and the value to turbine.log, one line each.

    At submission: SCRIPT, JOB, COMMAND, TURBINE_OUTPUT, HOSTNAME, SUBMITTED, PROCS, NODES, PPN,
    TURBINE_WORKERS, ADLB_SERVERS, WALLTIME; later STARTED, and at the end MPIEXEC TIME, EXIT CODE,
    COMPLETED.
    """
    with exp.log.open("a", encoding="utf-8") as file:
        for key, value in settings.items():
            file.write(f"{key + ':':<19}{_one_line(str(value))}\n")


def write_jobid(exp: Exp, jobid: str) -> None:
    """Write the scheduler's full job id to jobid.txt."""
    replace_text(exp.jobid, f"{jobid}\n")


def write_environment(exp: Exp, environ: Mapping[str, str]) -> None:
    """Write the job's environment to turbine-env.txt, sorted, one variable a line, without secrets.

    Masked are values of variables whose name looks like a secret's, and user and password in any URL
    (`http_proxy=http://me:pw@proxy`): EXPs are shared, and `export.sh` packs this file.
    """
    lines = (f"{name}={_masked(name, value)}\n" for name, value in sorted(environ.items()))
    replace_text(exp.environment, "".join(lines))


def _masked(name: str, value: str) -> str:
    if value and _SECRET_NAME.search(name):
        return _MASK
    return _PASSWORD_IN_URL.sub(_MASK, _one_line(value))


def _one_line(text: str) -> str:
    """An exported shell function has many lines, and a value that is not UTF-8 has surrogates."""
    return text.encode(errors="backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")
