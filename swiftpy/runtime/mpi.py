"""The only module that imports MPI.

Importing it initializes MPI, so whatever must exist before that (see `spawner`) is made first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, cast

import mpi4py

mpi4py.rc(thread_level="serialized")

from mpi4py import MPI  # noqa: E402  (the options above only count before this import)

from swiftpy.errors import ENGINE_THREAD  # noqa: E402
from swiftpy.runtime.doorbell import Doorbell  # noqa: E402
from swiftpy.runtime.group import Group  # noqa: E402
from swiftpy.runtime.store import DataSent, Packed, Reference  # noqa: E402
from swiftpy.runtime.transport import Backoff, Transport  # noqa: E402
from swiftpy.runtime.wire import Announced, plain, restored  # noqa: E402

_TAG = 7
#: Of the large parts of a message, which follow it.
_DATA_TAG = 8
#: Bytes of the longest message: an MPI before 4.0, such as Cray's, counts them in an int.
_LONGEST = 1 << 30
#: Of the time that a rank has waited, what it waits on before it looks again, if nobody can wake it: it waits much.
_PAUSES = 1.0
#: Seconds between two looks while a large message waits to be fetched: MPI moves it only when it is called.
_UNFINISHED_PAUSE = 1e-3
#: Seconds that it takes, at most, until what a rank writes is where the job was started. Without, some jobs that were
#: aborted at once said nothing.
_FORWARDING = 0.2
#: Where the job was started, also when this rank's stderr has become a file.
_terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


class MpiTransport(Transport):
    """Messages as pickles over MPI.

    Nothing blocks inside MPI: MPICH spins there, which costs a core, and where ranks share cores it costs them
    milliseconds. A rank that waits looks for 300 us, then sleeps until its doorbell rings; ranks of other nodes cannot
    ring it, so that with several nodes its sleep is short, and grows (see Backoff).
    """

    def __init__(self, comm: MPI.Intracomm, bell: Doorbell, alone: bool) -> None:
        self.rank = comm.rank
        self._comm = comm
        self._bell = bell
        self._alone = alone
        self._unfinished: list[tuple[MPI.Request, int]] = []  # with the receiver
        self._status = MPI.Status()
        self._incoming: list[tuple[Reference, list[bytearray], list[MPI.Request]]] = []

    def send(self, dest: int, message: Any) -> None:
        """See Transport. A large message leaves when its receiver looks; until then it is kept here."""
        if type(message) is DataSent and message.packed is not None:
            self._send_data(dest, message.reference, message.packed)
            return
        request = self._comm.isend(plain(message), dest, _TAG)
        if not self._gone(request, dest):
            self._unfinished.append((request, dest))

    def _gone(self, request: MPI.Request, dest: int) -> bool:
        """Whether a message has left. Its receiver is woken each time: if there was no room on its way before, the
        receiver may have looked, and gone to sleep, before it left."""
        gone = request.Test()
        self._bell.ring(dest)
        return gone

    def _send_data(self, dest: int, reference: Reference, packed: Packed) -> None:
        """The sizes of its parts, and then the parts from where they lie."""
        parts = [packed.data, *packed.buffers]
        self.send(dest, Announced(reference, [len(part) for part in parts]))
        for piece in _pieces(parts):
            self._unfinished.append((self._comm.Isend([piece, MPI.BYTE], dest, _DATA_TAG), dest))

    def _receive_data(self, source: int, announced: Announced) -> None:
        """Begin to: it takes its time, and other messages of the source may be faster."""
        parts = [bytearray(size) for size in announced.sizes]
        requests = [self._comm.Irecv([piece, MPI.BYTE], source, _DATA_TAG) for piece in _pieces(parts)]
        self._incoming.append((announced.reference, parts, requests))

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """See Transport."""
        message = self._look()
        if message is not None or timeout <= 0:
            return message
        now = time.monotonic()
        # What is waited for besides wakes us, and takes longer: to look meanwhile would take the core from it.
        deadline, spin_until = now + timeout, now + (0.0 if also else Backoff.SPIN)
        backoff: Backoff | None = None
        while (now := time.monotonic()) < deadline:
            woken = False
            if now < spin_until:
                os.sched_yield()  # time.sleep(0) takes 50 us and more: the kernel lets timers be late by so much
            else:
                backoff = backoff or Backoff(_PAUSES)
                left = deadline - now
                woken = self._sleep(left if self._alone else min(left, backoff.pause()), also)
            message = self._look()
            if message is not None or woken:
                return message
        return None

    def _sleep(self, seconds: float, also: Sequence[int]) -> bool:
        """Sleep until something may have come; True if something woke us, be it a message, `also`, or `wake`."""
        if self._unfinished or self._incoming:
            seconds = min(seconds, _UNFINISHED_PAUSE)
        self._bell.lie_down()
        try:
            # Twice: see `_probe`.
            came = self._comm.iprobe(MPI.ANY_SOURCE, _TAG) or self._comm.iprobe(MPI.ANY_SOURCE, _TAG)
            return not came and self._bell.sleep(seconds, also)
        finally:
            self._bell.get_up()

    def _look(self) -> Any | None:
        if self._unfinished:
            self._unfinished = [sending for sending in self._unfinished if not self._gone(*sending)]
        for number, (reference, parts, requests) in enumerate(self._incoming):
            if MPI.Request.Testall(requests):
                del self._incoming[number]
                return DataSent(reference, Packed(parts[0], parts[1:]))
        arrived = self._probe() or self._probe()
        if arrived is None:
            return None
        message = restored(arrived.recv())
        if type(message) is Announced:
            self._receive_data(self._status.Get_source(), message)
            return self._look()
        return message

    def _probe(self) -> MPI.Message | None:
        """MPICH looks first, and only then takes in what has come, one message, for the next look: so who looks once
        every 20 ms, because a task computes, must look twice, or gets one message each time."""
        return self._comm.improbe(MPI.ANY_SOURCE, _TAG, self._status)

    def wake(self) -> None:
        """See Transport."""
        self._bell.ring_own()

    def abort(self, code: int) -> None:
        """See Transport."""
        _flush()
        self._comm.Abort(code)


def _pieces(parts: Sequence[bytes | bytearray]) -> Iterator[memoryview]:
    """The parts of a large message as they travel."""
    for part in parts:
        for start in range(0, len(part), _LONGEST):
            yield memoryview(part)[start : start + _LONGEST]


def _let_forward() -> None:
    """Before the job is aborted: the launcher may end without passing on what ranks wrote last, such as why."""
    _flush()
    time.sleep(_FORWARDING)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream: the job shall end all the same
            stream.flush()


def _share(ranks: list[tuple[int, set[int]]], mine: set[int]) -> int:
    """How many of the cores `mine` are one worker's: some launchers bind each rank to its own, others none.

    `ranks`: rank and cores of all ranks of a node. The server, rank 0, leaves its core to the workers.
    """
    workers = sum(1 for rank, cores in ranks if rank and cores & mine)
    return max(1, len(mine) // max(workers, 1))


class World:
    """All ranks of the job: rank 0 is the server, the others are workers; one rank of each node is its leader.

    With `ranks_per_node`, so many ranks that follow each other count as a node, wherever they are: one machine can
    pretend to be several.
    """

    def __init__(self, ranks_per_node: int = 0) -> None:
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size
        self.host: str = MPI.Get_processor_name()
        machine = cast(MPI.Intracomm, self._comm.Split_type(MPI.COMM_TYPE_SHARED))
        node_comm = self._comm.Split(self.rank // ranks_per_node) if ranks_per_node else machine
        self.local_rank: int = node_comm.rank
        mine = os.sched_getaffinity(0)
        near = node_comm.allgather((self.rank, mine, self.host))
        self.leader: int = near[0][0]  # the node's lowest rank
        self._neighbours = Group(node_comm, self.host)
        self.cores: int = _share([(rank, cores) for rank, cores, _ in near], mine)
        token = f"{os.getpid()}-{os.urandom(4).hex()}" if self.rank == 0 else ""
        # Few collectives, each of which says much: where ranks share cores, one takes milliseconds.
        everyone = self._comm.allgather((self.leader, token))
        leaders = sorted({leader for leader, _ in everyone})
        #: The leaders' communicator on a leader, None elsewhere.
        self.leaders: MPI.Comm | None = self.communicator(leaders) if self.local_rank == 0 else None
        #: The node's number among the nodes, and its name.
        self.node_number: int = leaders.index(self.leader)
        self.node: str = f"{self.host} node {self.node_number}" if ranks_per_node else near[0][2]
        self._everyone = Group(self._comm, self.node)
        self.transport = self._make_transport(machine, everyone[0][1])

    def _make_transport(self, machine: MPI.Intracomm, token: str) -> MpiTransport:
        """The ranks of a machine share a page in which each has a byte (see Doorbell)."""
        ranks = MPI.Group.Translate_ranks(machine.group, range(machine.size), self._comm.group)
        self._window = MPI.Win.Allocate_shared(len(ranks) if machine.rank == 0 else 0, comm=machine)
        flags = memoryview(cast(bytearray, self._window.Shared_query(0)[0]))
        bell = Doorbell(token, self.rank, flags, {rank: place for place, rank in enumerate(ranks)})
        return MpiTransport(self._comm.Dup(), bell, alone=len(ranks) == self.size)

    def communicator(self, ranks: Sequence[int]) -> MPI.Intracomm:
        """A communicator of these ranks, which all call this; nobody else has to."""
        return self._comm.Create_group(self._comm.group.Incl(ranks))

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank. Ranks that wait for rank 0 sleep."""
        return self._everyone.broadcast(value)

    def meet(self) -> None:
        """Wait for all ranks, asleep."""
        self._everyone.meet()

    def share(self, value: Any) -> Any:
        """The leader's value, on every rank of its node."""
        return self._neighbours.broadcast(value)

    def gather(self, value: Any, patience: float | None = None) -> list[Any]:
        """Every rank's value, on every rank, in order of rank. See Group.gather."""
        return self._everyone.gather(value, patience)

    def abort(self, reason: str = "", code: int = 2) -> None:
        """End the whole job at once, saying why where it was started, unless that was said."""
        self._say(reason)
        self.transport.abort(code)

    def die(self, reason: str) -> None:
        """The same, from any thread: the one that uses MPI may be in it for ever. The launcher ends the others."""
        self._say(reason)
        os._exit(128 + signal.SIGTERM)

    def _say(self, reason: str) -> None:
        with contextlib.suppress(OSError):
            if reason:
                print(f"swiftpy: {reason}", file=_terminal, flush=True)
        _let_forward()


def end_job_on_uncaught() -> None:
    """An exception that nothing caught ends the whole job; without this the other ranks wait for ever.

    It is told where the job was started, too: by then, stderr is this rank's file.
    """

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, value, trace))
        for stream in (_terminal, sys.stderr):
            with contextlib.suppress(Exception):  # nothing may come between here and the Abort
                print(f"swiftpy: rank {MPI.COMM_WORLD.rank}: a bug in the engine\n{text}", file=stream, flush=True)
        _let_forward()
        MPI.COMM_WORLD.Abort(1)

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread.name != ENGINE_THREAD:  # a task's own
            threading.__excepthook__(args)
        elif args.exc_value is not None:
            hook(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = hook
    threading.excepthook = thread_hook
