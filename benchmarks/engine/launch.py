"""How the programs of each system are started."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine import floor, systems
from swiftpy.sites.launch import find_launcher

#: 1,000 trivial tasks from the start of the job to its end.
_MAP = "sum(executor.map(abs, range(1000), chunksize=100))"
_STARTUP = {
    "swiftpy": "import swiftpy\nassert sum(swiftpy.map(abs, range(1000))) == 499500",
    "mpi4py": f"from mpi4py.futures import MPIPoolExecutor\nwith MPIPoolExecutor() as executor: {_MAP}",
    "pool": f"from concurrent.futures import ProcessPoolExecutor as Pool\nwith Pool(WORKERS) as executor: {_MAP}",
    "floor": "from mpi4py import MPI",
}
_STARTUP["mpi4py-spin"] = _STARTUP["mpi4py"]


@dataclass(frozen=True)
class Launch:
    """`module`: what runs the script on all ranks; None for systems that start their own workers."""

    system: type[systems.System]
    mpi: bool = False
    module: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    apart: bool = False  # installed in the environment of the peers


LAUNCHES = {
    "swiftpy": Launch(systems.Swiftpy, mpi=True, module=("-m", "swiftpy")),
    "mpi4py": Launch(systems.Mpi4py, mpi=True, module=("-m", "mpi4py.futures")),
    "mpi4py-spin": Launch(
        systems.Mpi4pySpinning, mpi=True, module=("-m", "mpi4py.futures"), env={"MPI4PY_FUTURES_BACKOFF": "0"}
    ),
    "pool": Launch(systems.ProcessPool),
    "parsl": Launch(systems.Parsl, apart=True),
    "dask": Launch(systems.Dask, apart=True),
    "ray": Launch(systems.Ray, apart=True),
    "floor": Launch(floor.Floor, mpi=True),
}
PEERS = [name for name in LAUNCHES if name not in ("swiftpy", "floor")]


def command(name: str, workers: int, peers_python: str, script: Path, *args: str) -> list[str]:
    """What starts a script under a system."""
    launch = LAUNCHES[name]
    python = [peers_python if launch.apart else sys.executable, *launch.module, str(script), *args]
    if not launch.mpi:
        return python
    return [find_launcher(), "-n", str(workers + 1), *python]


def startup_script(name: str, workers: int) -> str | None:
    """The smallest script that runs 1,000 tasks; None if there is none for this system."""
    script = _STARTUP.get(name)
    return None if script is None else script.replace("WORKERS", str(workers))


def environment_of(name: str, root: Path, peers_python: str) -> dict[str, str]:
    """The environment of a system's processes."""
    python = peers_python if LAUNCHES[name].apart else sys.executable
    paths = {"PYTHONPATH": root, "PATH": Path(python).parent}  # Parsl starts programs that lie beside its Python
    joined = {key: os.pathsep.join([str(path), *filter(None, [os.environ.get(key)])]) for key, path in paths.items()}
    environ = dict(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it would compile our modules at each start, not those of the others
    return {**environ, **LAUNCHES[name].env, **joined, "BENCHMARK_ROOT": str(os.getpid())}
