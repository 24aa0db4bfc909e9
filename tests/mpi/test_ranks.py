"""Ranks that exchange messages and agree: each rank runs each test."""

import os
import time
from collections import Counter

import pytest
from mpi4py import MPI

from swiftpy.core.events import RecallAnswered, TaskFinished
from swiftpy.errors import TaskError
from swiftpy.runtime import mpi
from swiftpy.runtime.job import _layout
from swiftpy.runtime.mpi import World
from swiftpy.runtime.order import Order
from swiftpy.runtime.store import DataSent, Packed, Reference
from swiftpy.runtime.transport import SERVER

pytestmark = pytest.mark.mpi(min_size=3)


def until_message(transport, seconds=1.0):
    while (message := transport.recv(seconds)) is None:
        pass
    return message


def test_layout(world):
    assert world.size == MPI.COMM_WORLD.size and world.rank == MPI.COMM_WORLD.rank
    assert world.gather(world.local_rank) == list(range(world.size)), "one machine is one node"
    assert world.leader == 0 and (world.leaders is not None) == (world.rank == 0)


def test_rank_0_says_for_all_whether_there_are_server_slots(monkeypatch):
    """The launcher may hand the environment to the ranks of its own node alone; leaders have no device."""
    world = World(ranks_per_node=2)
    if world.rank == SERVER:
        monkeypatch.setenv("SWIFTPY_SERVER_SLOT", "1")
    assert list(_layout(world).workers) == list(range(1, world.size, 2))


def test_cores_are_shared_by_those_that_may_run_on_them(world):
    node = frozenset(range(8))
    assert world.cores == max(1, len(os.sched_getaffinity(0)) // (world.size - 1))
    assert mpi._share([(0, node), (1, node), (2, node), (3, node)], node) == 2, "the server needs none"
    bound = [(rank, frozenset({2 * rank, 2 * rank + 1})) for rank in range(4)]
    assert [mpi._share(bound, cores) for _, cores in bound] == [2, 2, 2, 2]
    assert mpi._share([(7, node), (8, node), *[(rank, node) for rank in range(9, 20)]], node) == 1


def test_messages_keep_their_order_and_large_ones_arrive(world):
    """10 MB is far beyond what MPI sends eagerly: the sender waits until the receiver looks."""
    sizes = [0, 10, 10_000_000, 1]
    if world.rank != SERVER:
        for number, size in enumerate(sizes):
            world.transport.send(SERVER, [world.rank, number, bytes(size)])
        assert until_message(world.transport) == "thanks"
    else:
        seen = {rank: [] for rank in range(1, world.size)}
        for _ in range(len(sizes) * (world.size - 1)):
            rank, number, data = until_message(world.transport)
            assert number == len(seen[rank]) and len(data) == sizes[number]
            seen[rank].append(number)
        for rank in seen:
            world.transport.send(rank, "thanks")
    assert world.transport.recv(0) is None
    world.meet()  # else a rank that looks late finds what rank 0 sends in the next test


class CountsInInts:
    """A communicator of an MPI before 4.0, as if an int had one byte."""

    def __init__(self, comm):
        self._comm = comm

    def __getattr__(self, name):
        return getattr(self._comm, name)

    def Isend(self, buffer, *where):  # noqa: N802
        assert len(buffer[0]) < 128, "OverflowError: value too large to convert to int"
        return self._comm.Isend(buffer, *where)


def test_values_that_are_longer_than_a_message_can_be(world, monkeypatch):
    monkeypatch.setattr(mpi, "_LONGEST", 100)
    monkeypatch.setattr(world.transport, "_comm", CountsInInts(world.transport._comm))
    sent = DataSent(Reference(0, 1), Packed(b"", [bytearray(range(256)), bytearray(100), bytearray(b"end")]))
    if world.rank == SERVER:
        for rank in range(1, world.size):
            world.transport.send(rank, sent)
            assert until_message(world.transport) == ["thanks"]
    else:
        assert until_message(world.transport) == sent
        world.transport.send(SERVER, ["thanks"])


def test_who_looks_seldom_gets_all_that_has_come(world, shared):
    """Files say when: to wait in MPI would take messages in."""
    sent, looks = shared / "sent", []
    if world.rank == 1:
        for number in range(20):
            world.transport.send(SERVER, number)
        sent.touch()
    elif world.rank == SERVER:
        while not sent.exists():
            time.sleep(0.01)
        looks = [world.transport.recv(0) for _ in range(60)]
    world.meet()
    if world.rank == SERVER:
        assert [number for number in looks if number is not None] == list(range(20))
        assert looks[:24].count(None) <= 8, "MPI looks elsewhere, too, but not each time"


def test_messages_that_leave_late_wake_their_receiver(world):
    """There are more than there is room for on their way: the last leave when who took the first may be asleep."""
    count = 3000
    if world.rank == SERVER:
        for number in range(count):
            world.transport.send(1, number)
        assert until_message(world.transport) == "thanks"
    elif world.rank == 1:
        time.sleep(0.3)
        began = time.monotonic()
        assert [until_message(world.transport, 60.0) for _ in range(count)] == list(range(count))
        world.transport.send(SERVER, "thanks")
        assert time.monotonic() - began < 50, "nobody woke it"
    world.meet()


def test_who_waits_for_something_besides_leaves_it_the_core(world, monkeypatch):
    """A worker looked for messages for a while, each time, instead of letting its child begin."""
    yields = []
    monkeypatch.setattr("os.sched_yield", lambda: yields.append(1))
    reader, writer = os.pipe()
    assert world.transport.recv(0.01, [reader]) is None and not yields
    os.write(writer, b"!")
    assert world.transport.recv(10.0, [reader]) is None
    assert world.transport.recv(0.01) is None and yields
    os.close(reader), os.close(writer)


def test_events_arrive_as_what_they_are(world):
    """Also where the other rank has been asleep for a while, or is about to sleep."""
    error = TaskError("exception", "boom", rank=1)
    finished = TaskFinished(world.rank, 1, 1, b"value", 0.5, 3, ((2, error),))
    order = Order(5, 2, "m:f", (None, b"calls", (1, 5)), timeout=1.0, gang=(1, 2))
    if world.rank != SERVER:
        for _ in range(200):
            world.transport.send(SERVER, finished)
            assert until_message(world.transport) == order
        time.sleep(0.2)
        world.transport.send(SERVER, RecallAnswered(world.rank))
    else:
        seen = Counter()
        for _ in range(201 * (world.size - 1)):
            event = until_message(world.transport)
            seen[type(event), event.worker] += 1
            if isinstance(event, TaskFinished):
                assert event.failures == ((2, error),) and event.value == b"value" and event.made == 3
                world.transport.send(event.worker, order)
        assert seen == {(k, r): n for k, n in ((TaskFinished, 200), (RecallAnswered, 1)) for r in range(1, world.size)}


def test_some_ranks_form_a_group_while_others_do_not(world):
    if world.rank in (1, 2):
        for _ in range(3):
            group = world.communicator((1, 2))
            assert group.allgather(world.rank) == [1, 2]
            group.Free()


def test_one_machine_pretends_to_be_several_nodes():
    world = World(ranks_per_node=2)
    assert world.gather((world.node_number, world.leader)) == [(0, 0), (0, 0), (1, 2)]
    assert world.leaders is None if world.rank == 1 else world.leaders.size == 2
    assert world.share(world.rank) == world.leader
    assert len(set(world.gather(world.node))) == 2
