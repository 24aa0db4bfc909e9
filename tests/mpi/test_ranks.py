"""Ranks that exchange messages, agree, and bring data to nodes: each rank runs each test."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from mpi4py import MPI

from hooks.leader import StagingError, stage_data
from swiftpy.core.events import RecallAnswered, TaskFinished
from swiftpy.errors import TaskError
from swiftpy.runtime import mpi
from swiftpy.runtime.mpi import World
from swiftpy.runtime.order import Order
from swiftpy.runtime.transport import SERVER

pytestmark = pytest.mark.mpi(min_size=3)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture
def shared(world, tmp_path_factory):
    """One directory for all ranks, and one for each that stands for its node's own disk."""
    root = Path(world.broadcast(str(tmp_path_factory.mktemp("job")) if world.rank == 0 else None))
    (root / f"node{world.rank}").mkdir()
    world.gather(None)
    return root


def until_message(transport):
    while (message := transport.recv(1.0)) is None:
        pass
    return message


def test_layout(world):
    assert world.size == MPI.COMM_WORLD.size and world.rank == MPI.COMM_WORLD.rank
    assert world.gather(world.local_rank) == list(range(world.size)), "one machine is one node"
    assert world.leader == 0 and (world.leaders is not None) == (world.rank == 0)


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


def test_events_arrive_as_what_they_are(world):
    """Also where the other rank has been asleep for a while, or is about to sleep."""
    error = TaskError("exception", "boom", rank=1)
    finished = TaskFinished(world.rank, 1, 1, b"value", 0.5, 3, ((2, error),))
    order = Order(5, 2, "m:f", b"payload", timeout=1.0, gang=(1, 2))
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
            group = world.group((1, 2))
            assert group.allgather(world.rank) == [1, 2]
            group.Free()


def stage(world, shared, **env):
    """Every rank stands for the leader of a node."""
    os.environ["TMP_ORIGINAL"] = str(shared / f"node{world.rank}" / "original")
    stage_data(MPI.COMM_WORLD, {"DATA_SOURCE": str(shared / "source"), "USER": "me", **env})
    return {path.name: path.read_bytes() for path in Path(os.environ["TMP_ORIGINAL"]).iterdir()}


def make_source(world, shared, **files):
    if world.rank == 0:
        (shared / "source").mkdir(exist_ok=True)
        for name, data in files.items():
            (shared / "source" / f"{name}.parquet").write_bytes(data)
    world.gather(None)


def test_staging_brings_all_files_to_all_nodes_and_again_only_what_changed(world, shared):
    files = {"empty": b"", "small": b"abc", "large": os.urandom(1) * (33 << 20)}
    files = world.broadcast(files)
    make_source(world, shared, **files)
    expected = {f"{name}.parquet": data for name, data in files.items()}
    assert stage(world, shared) == expected
    before = {p.name: p.stat().st_mtime_ns for p in Path(os.environ["TMP_ORIGINAL"]).iterdir()}
    make_source(world, shared, small=b"xyz")
    assert stage(world, shared) == expected | {"small.parquet": b"xyz"}
    after = {p.name: p.stat().st_mtime_ns for p in Path(os.environ["TMP_ORIGINAL"]).iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["small.parquet"]


def test_one_node_that_cannot_ends_it_on_all_with_its_reason(world, shared):
    make_source(world, shared, small=b"abc")
    if world.rank == 1:
        (shared / "node1" / "original").write_text("in the way")
    with pytest.raises(StagingError, match=r"node1/original: File exists"):
        stage(world, shared)
    assert not list((shared / "node2").glob("original/*"))


def test_a_source_without_tables(world, shared):
    with pytest.raises(StagingError, match=r"holds no \*\.parquet"):
        stage(world, shared, DATA_SOURCE=str(shared))
