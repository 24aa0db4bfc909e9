"""The runtime's front door: bring up the ranks, prepare, run the hooks, serve or work, and end with one exit code.

Every step that can fail on one rank alone ends with all ranks knowing the outcome, so that nobody waits for ever.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Task
from swiftpy.errors import UserError
from swiftpy.runtime.call import pack
from swiftpy.runtime.executors import Executor, InlineExecutor, IsolatedExecutor
from swiftpy.runtime.hooks import Hooks
from swiftpy.runtime.output import Console, redirect
from swiftpy.runtime.server import Client, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.spawner import Spawner
from swiftpy.runtime.transport import SERVER
from swiftpy.runtime.worker import Worker

if TYPE_CHECKING:
    from swiftpy.runtime.mpi import World

USER_ERROR = 2


@dataclass(frozen=True)
class JobSpec:
    """What every rank must know before tasks start; rank 0 makes it.

    `outputs` are the files of the ranks' stdout and stderr. `env` is added to the environment of the tasks. `hooks`
    are names, see `swiftpy.runtime.hooks`. `grace` and `walltime` are those of `Server`.
    """

    outputs: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    hooks: tuple[str, ...] = ()
    isolated: bool = True
    grace: float = 60.0
    walltime: float = math.inf


@dataclass(frozen=True)
class Layout:
    """Where the ranks are: the host of each rank, and the node of each worker."""

    hosts: list[str]
    workers: dict[int, str]

    @property
    def size(self) -> int:
        """Number of ranks, server included."""
        return len(self.hosts)


class Lead:
    """What the runtime offers an application on rank 0."""

    def __init__(self, layout: Layout, console: Console, spawner: Spawner, stop: StopRequest) -> None:
        self.layout = layout
        self.console = console
        self.stop = stop  # an application, too, may ask for an early end
        self._spawner = spawner

    def call_in_child(self, function: str, *args: Any) -> Any:
        """Call a function by name in a child process of its own, so that what it imports or breaks is not ours.

        Returns its result; a failure is raised as UserError, because the function is user's code or reads user's data.
        """
        executor = IsolatedExecutor(self._spawner, self.layout.hosts[0], SERVER, {}, 2)
        executor.start(Task(0, function, pack(*args)))
        while (outcome := executor.poll()) is None:
            time.sleep(0.005)
        executor.close()
        if outcome.error is not None:
            self.console.line(outcome.error.traceback.rstrip())
            raise UserError(f"{function} failed: {outcome.error.message}")
        assert outcome.value is not None
        return pickle.loads(outcome.value)


class Application(Client, Protocol):
    """A client of the engine that is started with mpiexec. Its methods run on rank 0."""

    def prepare(self, lead: Lead) -> JobSpec:
        """Check everything, create what must exist. Raises UserError or SystemExit to end the job here."""

    def tasks(self) -> Iterable[Task]:
        """The tasks to run; called when the hooks are done."""

    def failed(self, reasons: list[str]) -> int:
        """The hooks failed, for these reasons; returns the exit code."""

    def finish(self) -> int:
        """All tasks are resolved; returns the exit code."""


def run(application: Application, ranks_per_node: int = 0) -> int:
    """Run an application on all ranks; returns this rank's exit code (rank 0's is the job's).

    `ranks_per_node` is that of `World`.
    """
    console = Console()
    spawner = Spawner()  # before MPI is initialized
    stop = StopRequest()
    stop.install()
    try:
        from swiftpy.runtime import mpi
    except (ImportError, RuntimeError) as exception:
        print(f"no usable MPI: {exception}; on a machine without its own: pip install mpich", file=sys.stderr)
        return USER_ERROR
    mpi.end_job_on_uncaught()
    world = mpi.World(ranks_per_node)
    hosts = world.gather((world.host, world.node))
    layout = Layout([host for host, _ in hosts], {r: hosts[r][1] for r in range(1, world.size)})
    lead = Lead(layout, console, spawner, stop)
    prepared = world.broadcast(_prepare(application, lead) if world.rank == SERVER else None)
    if isinstance(prepared, int):
        return prepared if world.rank == SERVER else 0
    spec: JobSpec = prepared
    output = redirect(Path(spec.outputs[world.rank]))
    hooks = Hooks(world, spec.hooks)
    reasons = hooks.run(spec.env)
    if reasons:
        hooks.finish()
        return application.failed(reasons) if world.rank == SERVER else 0
    if world.rank != SERVER:
        executor = _executor(world, {**spec.env, **hooks.env}, spec.isolated, spawner, output)
        Worker(world.transport, executor, lambda: stop.reason).run()
        hooks.finish()
        world.broadcast(None)  # asleep until rank 0 has finished, which inside MPI_Finalize would cost a core
        return 0
    scheduler = Scheduler(layout.workers)
    server = Server(world.transport, scheduler, application, stop, spec.grace, time.monotonic, spec.walltime)
    clean = server.run(application.tasks())
    code = application.finish()
    hooks.finish()
    if not clean:
        world.transport.abort(code)
    world.broadcast(None)
    return code


def _prepare(application: Application, lead: Lead) -> JobSpec | int:
    """What `application.prepare` says, or the exit code if it does not want to go on."""
    try:
        return application.prepare(lead)
    except UserError as error:
        for line in error.lines:
            print(line, file=sys.stderr)
        return USER_ERROR
    except SystemExit as end:  # argparse: --help, or a usage error
        return end.code if isinstance(end.code, int) else 0


def _executor(world: World, given: Mapping[str, str], isolated: bool, spawner: Spawner, output: int) -> Executor:
    env = {
        **given,
        "ADLB_RANK_SELF": str(world.rank),
        "ADLB_RANK_LEADER": str(world.leader),
        "PALS_LOCAL_RANKID": os.environ.get("PALS_LOCAL_RANKID", str(world.local_rank)),
        "PYTHONUNBUFFERED": "1",  # or the last lines of a killed task would be lost
    }
    if not isolated:
        os.environ.update(env)
        return InlineExecutor(world.host, world.rank)
    return IsolatedExecutor(spawner, world.host, world.rank, env, output)
