"""How long 16 GB take to 10,000 nodes: the leaders' real schedule (swiftpy.runtime.stage.stream) under a virtual clock.

    python benchmarks/staging_model.py [--nodes 10000] [--size 16e9] [--readers 4]

Every node runs the code that decides what a leader reads, receives, sends and hands over, and when, with its pauses
between two looks; simulated are what that code calls: the file system, the network, the local disk. No congestion, no
jitter. The first chunks of the stream are simulated on all nodes. Once it flows, every chunk takes as long as the one
before: the rest of 16 GB is extrapolated from the last half, whose two halves are printed, and must agree.
Rates are bytes per second; for the defaults see docs/staging.md.
"""

import argparse
import gc
import heapq
import json
import math
import time
from collections import deque
from functools import partial
from unittest.mock import patch

from environment import environment
from swiftpy.runtime.stage import stream

CHUNK = stream.CHUNK


class Clock:
    """Virtual time: calls what is due, in order."""

    def __init__(self):
        self.now, self._due, self._number = 0.0, [], 0

    def after(self, seconds, action):
        self._number += 1
        heapq.heappush(self._due, (self.now + seconds, self._number, action))

    def run(self):
        while self._due:
            self.now, _, action = heapq.heappop(self._due)
            action()


class Work:
    """One thing after another, each for so many seconds: a reader, a node's sends, a disk."""

    def __init__(self, clock, seconds):
        self._clock, self._seconds, self._waiting, self._busy = clock, seconds, deque(), False

    def add(self, done):
        self._waiting.append(done)
        if not self._busy:
            self._next()

    def _next(self):
        self._busy = bool(self._waiting)
        if self._busy:
            self._clock.after(self._seconds, partial(self._end, self._waiting.popleft()))

    def _end(self, done):
        done()
        self._next()


class Request:
    """A message or a read, which is done at some time."""

    done = False

    def Test(self):  # noqa: N802  # as mpi4py calls it
        return self.done

    is_set = Test


class Node:
    """A node: its schedule, and what that calls; it stands for its `group`, `comm`, `source` and `sink` alike."""

    error, abandoned, consumed = None, False, 0

    def __init__(self, cluster, rank, chunks, roots):
        self.rank, self.size, self.comm, self._cluster = rank, cluster.size, self, cluster
        self._reader, self.link, self._disk = (Work(cluster.clock, seconds) for seconds in cluster.seconds)
        self._woken = False
        source = self if rank in roots else None
        self._schedule = stream.Schedule(self, chunks * stream.CHUNK, roots, source, self)
        self._wake()

    def _wake(self):
        """Something has changed, which the loop sees when it looks next."""
        if not self._woken:
            self._woken = True
            self._cluster.clock.after(stream.PAUSE, self._look)

    def _look(self):
        self._woken = False
        while self._schedule.advance():
            pass

    def done(self, request, view):
        request.done = True
        if view is not None:
            view[0] = stream._DATA
        self._wake()

    def start(self, offset, view):
        request = Request()
        self._reader.add(partial(self.done, request, view))
        return request

    def put(self, piece):
        self._disk.add(self._consumed)

    def _consumed(self):
        self._cluster.ended[self.consumed] = self._cluster.clock.now
        self.consumed += 1
        self._wake()

    def Irecv(self, view, source, tag):  # noqa: N802
        return self._cluster.meet((source, self.rank, tag), self, view)

    def Isend(self, message, dest, tag):  # noqa: N802
        return self._cluster.meet((self.rank, dest, tag), self, None)

    def iprobe(self, tag):
        return False


class Cluster:
    """All nodes, and the messages for which one of two sides is ready so far."""

    def __init__(self, size, chunks, readers, client, link, disk):
        self.clock, self.size = Clock(), size
        #: When the last node had written each chunk, in seconds.
        self.ended = [0.0] * chunks
        self.seconds = (CHUNK / client, CHUNK / link, CHUNK / disk)
        self._one_side = {}
        roots = [index * size // readers for index in range(readers)]
        self._nodes = [Node(self, rank, chunks, roots) for rank in range(size)]

    def meet(self, message, *side):
        request = Request()
        mine, other = (side[0], request, side[1]), self._one_side.pop(message, None)
        if other is None:
            self._one_side[message] = mine
        else:  # a child without a free buffer waits alone: the link sends to others meanwhile
            self._nodes[message[0]].link.add(lambda: [node.done(*end) for node, *end in (mine, other)])
        return request

    def run(self):
        """Until every node has written every chunk."""
        self.clock.run()
        assert all(node.consumed == len(self.ended) for node in self._nodes)


def simulate(nodes, size, readers, client, link, disk, chunks):
    """Seconds for all, and for each chunk once the stream flows: in the third quarter of `chunks`, and the last."""
    count = math.ceil(size / CHUNK)
    chunks = min(chunks, count)
    with patch.object(stream, "CHUNK", 1):  # 10,000 nodes have 560 GB of buffers
        cluster = Cluster(nodes, chunks, readers, client, link, disk)
        gc.freeze()  # millions of buffers live to the end: no collection need look at them
        cluster.run()
    half, quarter, ended = chunks // 2, chunks // 4, cluster.ended
    each = [(ended[n] - ended[n - quarter]) / max(quarter, 1) for n in (half + quarter - 1, chunks - 1)]
    return ended[-1] + (count - chunks) * each[1], each


def formula(nodes, size, readers, client, link, disk):
    """Seconds: the slowest of the streams, and the time that the first chunk takes to the last leaf."""
    sends = 2 if readers == 1 else 1 + (readers % 2) / readers  # of the stream, by the busiest node
    depth = math.ceil(math.log2(nodes + 1)) - 1
    flow = size / min(readers * client, link / sends, disk)
    return flow + CHUNK * (1 / client + 2 * depth / link + 1 / disk)


def each_for_itself(nodes, size, client, servers, disk):
    """Seconds if every node reads all: its own client, or its share of what the file system gives."""
    return size / min(client, servers / nodes, disk)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--nodes", type=int, default=10_000)
    add("--size", type=float, default=16e9)
    add("--readers", type=int, default=4)
    add("--client", type=float, default=2e9, help="one node reading one file (default %(default)g)")
    add("--link", type=float, default=12.5e9, help="one node's sends (default %(default)g)")
    add("--disk", type=float, default=2e9, help="checking and writing on a node (default %(default)g)")
    add("--servers", type=float, default=650e9, help="the whole file system (default %(default)g)")
    add("--chunks", type=int, default=128, help="that are simulated, twice what a node has buffers for (%(default)s)")
    o = parser.parse_args()
    began = time.perf_counter()
    simulated, each = simulate(o.nodes, o.size, o.readers, o.client, o.link, o.disk, o.chunks)
    result = {
        "ours_simulated_s": simulated,
        "ms_per_chunk": 1e3 * each[1],
        "ms_per_chunk_before": 1e3 * each[0],
        "ours_formula_s": formula(o.nodes, o.size, o.readers, o.client, o.link, o.disk),
        "each_for_itself_s": each_for_itself(o.nodes, o.size, o.client, o.servers, o.disk),
        "took_s": time.perf_counter() - began,
    }
    print(json.dumps({**environment(), **vars(o), **{key: round(value, 3) for key, value in result.items()}}, indent=1))


if __name__ == "__main__":
    main()
