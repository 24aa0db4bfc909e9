"""Ranks that exchange messages and agree: each rank runs each test."""

import pytest
from mpi4py import MPI

from swiftpy.runtime.mpi import World
from swiftpy.runtime.transport import SERVER

pytestmark = pytest.mark.mpi(min_size=3)


def until_message(transport):
    while (message := transport.recv(1.0)) is None:
        pass
    return message


def test_layout(world):
    assert world.size == MPI.COMM_WORLD.size and world.rank == MPI.COMM_WORLD.rank
    assert world.gather(world.local_rank) == list(range(world.size)), "one machine is one node"
    assert world.leader == 0 and (world.leaders is not None) == (world.rank == 0)


def test_messages_keep_their_order_and_large_ones_arrive(world):
    """10 MB is far beyond what MPI sends eagerly: the sender waits until the receiver looks."""
    sizes = [0, 10, 10_000_000, 1]
    if world.rank != SERVER:
        for number, size in enumerate(sizes):
            world.transport.send(SERVER, (world.rank, number, bytes(size)))
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


def test_one_machine_pretends_to_be_several_nodes():
    world = World(ranks_per_node=2)
    assert world.gather((world.node_number, world.leader)) == [(0, 0), (0, 0), (1, 2)]
    assert world.leaders is None if world.rank == 1 else world.leaders.size == 2
    assert world.share(world.rank) == world.leader
    assert len(set(world.gather(world.node))) == 2
