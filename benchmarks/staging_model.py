"""How long 16 GB take to 10,000 nodes: the pipeline of swiftpy.runtime.stage.stream, simulated, and the formula.

    python benchmarks/staging_model.py [--nodes 10000] [--size 16e9] [--readers 4]

Simulated chunk by chunk and node by node: readers, links, rings of buffers, local disks. No congestion, no jitter.
Rates are bytes per second; for the defaults see docs/staging.md.
"""

import argparse
import json
import math

import numpy as np

CHUNK, BUFFERS = 2 << 20, 8


def simulate(nodes, size, readers, client, link, disk):
    """Seconds until the last node has written the last chunk."""
    free = np.zeros((BUFFERS, nodes))  # when each ring buffer is free again
    link_free, read_free, written = np.zeros((readers, nodes)), np.zeros(nodes), np.zeros(nodes)
    # A node forwards in about half of the trees, each of which gets its share of the link. One queue for all would
    # let a chunk that comes late, deep in one tree, hold up the next, which the node has from another tree already.
    send, read, write = CHUNK / (link * min(1, 2 / readers)), CHUNK / client, CHUNK / disk
    for chunk in range(math.ceil(size / CHUNK)):
        root = (chunk % readers) * nodes // readers
        have = np.empty(nodes)  # by place in the tree of this chunk's reader
        real = (np.arange(nodes) + root) % nodes
        buffer = free[chunk % BUFFERS][real]
        links = link_free[chunk % readers][real]
        read_free[root] = have[0] = max(read_free[root], buffer[0]) + read
        passed_on = np.zeros(nodes)
        first = 0
        while 2 * first + 1 < nodes:  # a level of the tree after the other
            level = np.arange(first, min(2 * first + 1, nodes))
            for child in (2 * level + 1, 2 * level + 2):
                child = child[child < nodes]
                parent = (child - 1) // 2
                # A child without a free buffer waits alone: the link sends to others meanwhile.
                links[parent] = np.maximum(links[parent], have[parent]) + send
                have[child] = np.maximum(links[parent], buffer[child] + send)
                passed_on[parent] = np.maximum(passed_on[parent], have[child])
            first = 2 * first + 1
        link_free[chunk % readers][real] = links
        written[real] = np.maximum(written[real], have) + write
        free[chunk % BUFFERS][real] = np.maximum(written[real], passed_on)
    return float(written.max())


def formula(nodes, size, readers, client, link, disk):
    """Seconds: the slowest of the streams, and the time that the first chunk takes to the last leaf."""
    sends = 2 if readers == 1 else 1 + (readers % 2) / readers  # of the stream, by the busiest node
    depth = math.ceil(math.log2(nodes + 1)) - 1
    stream = size / min(readers * client, link / sends, disk)
    return stream + CHUNK * (1 / client + 2 * depth / link + 1 / disk)


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
    o = parser.parse_args()
    result = {
        "ours_simulated_s": simulate(o.nodes, o.size, o.readers, o.client, o.link, o.disk),
        "ours_formula_s": formula(o.nodes, o.size, o.readers, o.client, o.link, o.disk),
        "each_for_itself_s": each_for_itself(o.nodes, o.size, o.client, o.servers, o.disk),
    }
    print(json.dumps({**vars(o), **{name: round(value, 1) for name, value in result.items()}}, indent=1))


if __name__ == "__main__":
    main()
