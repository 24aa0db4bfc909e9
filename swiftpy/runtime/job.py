"""The runtime's front door: bring up the ranks, prepare, run the hooks, serve or work, and end with one exit code.

Every step that can fail on one rank alone ends with all ranks knowing the outcome, so that nobody waits for ever.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swiftpy.core.task import Seat
from swiftpy.errors import StoppedError, UserError
from swiftpy.runtime.call import payload_of
from swiftpy.runtime.executors import InlineExecutor, IsolatedExecutor
from swiftpy.runtime.hooks import Hooks
from swiftpy.runtime.layout import Layout
from swiftpy.runtime.order import Order
from swiftpy.runtime.output import Console, redirect
from swiftpy.runtime.preflight import Found, complaints
from swiftpy.runtime.server import JobClient, Server
from swiftpy.runtime.signals import StopRequest
from swiftpy.runtime.spawner import Spawner
from swiftpy.runtime.transport import SERVER
from swiftpy.runtime.worker import Worker

#: Seconds in which a rank has looked at its environment, however cold the file system with TensorFlow: else it hangs.
_LONGEST_LOOK = 1200.0

if TYPE_CHECKING:
    from swiftpy.core.scheduler import Scheduler
    from swiftpy.runtime.mpi import World


@dataclass(frozen=True)
class JobSpec:
    """What every rank must know before tasks start; rank 0 makes it.

    `outputs` are the files of the ranks' stdout and stderr; if empty, they go where the launcher takes them. `env` is
    added to the environment of the tasks, and `local_env` to that of the n-th rank of a node. `folder`, if given,
    takes the place of the current directory where isolated tasks look for modules. `hooks` are names, see
    `swiftpy.runtime.hooks`. `grace` is that of `Server`; in `walltime` seconds from `prepare` on the whole job will be
    killed. `preflight` names a function, with its arguments, that every rank calls, see `preflight`. `groups` are those
    of `Layout`; if they are `traced`, they say which worker made which calls.
    """

    outputs: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    hooks: tuple[str, ...] = ()
    grace: float = 60.0
    walltime: float = math.inf
    local_env: tuple[Mapping[str, str], ...] = ({},)
    preflight: tuple[Any, ...] = ()
    groups: Mapping[int, Mapping[int, Seat]] = field(default_factory=dict)
    traced: bool = False

    def server_of(self, worker: int) -> int:
        """The rank of the server that a worker works for."""
        return next((server for server, workers in self.groups.items() if worker in workers), SERVER)


class Lead:
    """What the runtime offers an application on rank 0."""

    def __init__(self, layout: Layout, console: Console, spawner: Spawner, stop: StopRequest) -> None:
        self.layout = layout
        self.console = console
        self.stop = stop  # an application, too, may ask for an early end
        self.spawner = spawner

    def call_in_child(
        self, function: str, *args: Any, env: Mapping[str, str] | None = None, limit: float = math.inf
    ) -> Any:
        """Call a function by name in a child process of its own, so that what it imports or breaks is not ours.

        `env` is added to the child's environment. Returns its result; a failure, or that there is no answer within
        `limit` seconds, is raised as UserError, because the function is user's code or reads user's data.
        """
        executor = IsolatedExecutor(self.spawner, self.layout.hosts[0], SERVER, dict(env or {}), 2)
        try:
            return self.call(executor, self.console.line, function, *args, limit=limit)
        finally:
            executor.close()

    def call(
        self,
        executor: IsolatedExecutor,
        say: Callable[[str], None],
        function: str,
        *args: Any,
        limit: float = math.inf,
    ) -> Any:
        """The result of a call by name; `say` gets the traceback of a failure, which is raised as UserError.

        So is that it takes longer than `limit` seconds.
        """
        executor.start(Order(0, 1, function, payload_of(*args)))
        give_up_at = time.monotonic() + limit
        while (outcome := executor.poll()) is None:
            if self.stop.reason is not None:  # it may hang, such as in a file system
                executor.kill()
            if time.monotonic() > give_up_at:
                executor.kill()  # its end is not waited for: in a file system that hangs, no signal ends it
                raise UserError(f"{function} did not answer within {limit:.0f} s: an import or a file system may hang")
            time.sleep(0.005)
        self.go_on()
        if outcome.error is not None:
            if outcome.error.traceback:
                say(outcome.error.traceback.rstrip())
            raise UserError(f"{function} failed: {outcome.error.message}")
        assert outcome.answer is not None
        return pickle.loads(outcome.answer.value)[0]

    def go_on(self) -> None:
        """Raises StoppedError if a signal has asked the job to end, which shall not make anything any more."""
        if self.stop.reason is not None:
            raise StoppedError(f"{self.stop.reason}: ended before anything was begun")


class Application(JobClient, Protocol):
    """A client of the engine that is started with mpiexec. It lives on rank 0."""

    def prepare(self, lead: Lead) -> JobSpec:
        """Check everything, create what must exist. Raises UserError or SystemExit to end the job here."""
        ...

    def serve(self, server: Server, scheduler: Scheduler) -> None:
        """Let the server run the tasks; called when the hooks are done, and returns when the workers were stopped."""
        ...

    def failed(self, reasons: list[str]) -> int:
        """The hooks failed, for these reasons; returns the exit code."""
        return 1

    def finish(self) -> int:
        """All tasks are resolved; returns the exit code."""
        ...


def run(
    make: Callable[[], Application], join: Callable[[Worker], None] = lambda worker: None, ranks_per_node: int = 0
) -> int:
    """Run the application that `make` makes on rank 0; returns this rank's exit code (rank 0's is the job's).

    `join` is called on each worker before it takes tasks. `ranks_per_node` is that of `World`.
    """
    console = Console()
    spawner = Spawner()  # before MPI is initialized
    stop = StopRequest()
    stop.install()
    try:
        from swiftpy.runtime import mpi
    except (ImportError, RuntimeError) as exception:
        print(f"no usable MPI: {exception}; on a machine without its own: pip install mpich", file=sys.stderr)
        return UserError.exit_code
    mpi.end_job_on_uncaught()
    try:
        world = mpi.World(ranks_per_node)
        lead = Lead(_layout(world), console, spawner, stop)
        application = make() if world.rank == SERVER else None  # what it imports, workers need not wait for
        prepared = world.broadcast(_prepare(application, lead) if application is not None else None)
        if isinstance(prepared, int):
            return prepared if world.rank == SERVER else 0
        return _take_part(application, join, world, lead, prepared)
    except SystemExit as end:
        # No excepthook hears of it, and the other ranks would wait for ever. A script called random.py, where the user
        # stands, is imported in the place of Python's, by some ranks only, and finds arguments that are not its own.
        raise RuntimeError("what was imported ends the program: give scripts other names than modules have") from end


def _layout(world: World) -> Layout:
    # With a server slot, the first rank of each node has no device: it is the server, or nothing but a leader. Rank 0
    # says for all whether there are slots: some launchers hand the environment to the ranks of its own node alone.
    ranks = world.gather((world.host, world.node, world.local_rank, "SWIFTPY_SERVER_SLOT" in os.environ))
    slots = ranks[SERVER][3]
    works = [rank != SERVER and not (slots and place == 0) for rank, (_, _, place, _) in enumerate(ranks)]
    workers = {rank: Seat(node) for rank, (_, node, _, _) in enumerate(ranks) if works[rank]}
    return Layout([host for host, *_ in ranks], workers)


def _take_part(
    application: Application | None, join: Callable[[Worker], None], world: World, lead: Lead, spec: JobSpec
) -> int:
    """All that follows when every rank knows that the job is to be: this rank's part of it, and its exit code."""
    killed_at = time.monotonic() + spec.walltime
    output = redirect(Path(spec.outputs[world.rank])) if spec.outputs else 1
    if world.rank != SERVER:
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), 0)  # the launcher's pipe never ends: what reads in a task would wait for ever
    hooks = Hooks(world, spec.hooks, spec.grace)
    reasons = hooks.run(spec.env)
    works = world.rank in lead.layout.workers and world.rank not in spec.groups
    isolated = None
    if works:
        env = _environment(world, spec, hooks.env)
        os.environ.update(env)  # for tasks that run in the rank itself
        isolated = IsolatedExecutor(lead.spawner, world.host, world.rank, env, output, spec.folder)
    reasons = reasons or _look(world, lead, spec, hooks.env, isolated, killed_at)
    # What is there by now stays, so the collector need not go through it: neither while a program makes futures by the
    # hundred thousand, nor, several times, when Python ends.
    gc.freeze()
    code, clean = 0, True
    if application is not None:
        if reasons:
            code = application.failed(reasons)
        else:
            code, clean = _serve(application, world, lead, spec, killed_at)
    elif not reasons and world.rank in spec.groups:
        from swiftpy.runtime.groupserver import GroupServer

        group = spec.groups[world.rank]
        GroupServer(world.transport, group, lambda: lead.stop.reason, time.monotonic, not spec.traced).run()
    elif not reasons and isolated is not None:
        inline = InlineExecutor(world.host, world.rank, world.communicator)
        worker = Worker(world.transport, inline, isolated, lambda: lead.stop.reason, spec.server_of(world.rank))
        join(worker)
        worker.run()
    hooks.finish(together=clean)
    if not clean:
        world.abort(code=code)
    world.meet()  # asleep until rank 0 has finished, which inside MPI_Finalize would cost a core
    return code


def _serve(application: Application, world: World, lead: Lead, spec: JobSpec, killed_at: float) -> tuple[int, bool]:
    """Rank 0's part: the exit code, and whether all workers have stopped."""
    from swiftpy.core.scheduler import Scheduler

    scheduler = Scheduler(lead.layout.workers, lead.layout.groups)
    left = killed_at - time.monotonic()  # hooks may have taken minutes of it
    server = Server(world.transport, scheduler, application, lead.stop, spec.grace, time.monotonic, left)
    application.serve(server, scheduler)
    return application.finish(), server.clean


def _prepare(application: Application, lead: Lead) -> JobSpec | int:
    """What `application.prepare` says, or the exit code if it does not want to go on."""
    try:
        return application.prepare(lead)
    except UserError as error:
        for line in error.lines:
            print(line, file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # argparse: --help, or a usage error
        return end.code if isinstance(end.code, int) else 0


def _look(
    world: World,
    lead: Lead,
    spec: JobSpec,
    hooked: Mapping[str, str],
    executor: IsolatedExecutor | None,
    killed_at: float,
) -> list[str]:
    """Let every rank look at its environment; every rank learns what is wrong anywhere.

    Workers look in the very child that will run their tasks, so that what it imports is imported once. Others look
    with what the hooks made of the environment, too: software that was staged need not be in the one that starts ranks.
    """
    if not spec.preflight:
        return []
    look, left = spec.preflight, killed_at - time.monotonic()
    limit = min(_LONGEST_LOOK, left / 2)  # or a node that hangs would cost the walltime, and nobody would hear of it
    try:
        if executor is not None:
            problems, facts = lead.call(executor, print, *look, limit=limit)
        else:
            problems, facts = lead.call_in_child(*look, env={**spec.env, **hooked}, limit=limit)
    except UserError as error:
        problems, facts = error.lines, {}
    return complaints(world.gather(Found(world.node, world.rank, problems, facts)))


def _environment(world: World, spec: JobSpec, hooked: Mapping[str, str]) -> dict[str, str]:
    """What tasks find in their environment on this rank, besides what the rank itself was started with."""
    return {
        **spec.env,
        **hooked,
        **spec.local_env[world.local_rank % len(spec.local_env)],
        "ADLB_RANK_SELF": str(world.rank),
        "ADLB_RANK_LEADER": str(world.leader),
        "PALS_LOCAL_RANKID": os.environ.get("PALS_LOCAL_RANKID", str(world.local_rank)),
        "SWIFTPY_CORES": str(world.cores),
        "PYTHONUNBUFFERED": "1",  # or the last lines of a killed task would be lost
    }
