"""The leaders' schedule under the virtual clock of benchmarks/staging_model.py, with more nodes than ranks here."""

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind our own: both have a simulator

import staging_model

from swiftpy.runtime.stage import stream

rates = st.sampled_from([1e8, 1e9, 1e10])


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 4), rates, rates, rates)
def test_every_node_gets_every_chunk_in_about_the_predicted_time(nodes, chunks, readers, client, link, disk):
    """`Cluster.run` asserts that all have all. The formula leaves out pauses, and waiting for a chunk's turn."""
    readers = min(readers, nodes)
    size = chunks * staging_model.CHUNK
    seconds = staging_model.simulate(nodes, size, readers, client, link, disk, chunks)[0]
    formula = staging_model.formula(nodes, size, readers, client, link, disk)
    pauses = 2 * stream.PAUSE * (chunks + nodes.bit_length())
    assert seconds < 1.5 * formula + pauses


def test_with_links_as_slow_as_the_disks_neither_stands_idle():
    """There are buffers enough for a chunk's way down the tree."""
    rate, chunks = 2e9, 128
    for nodes in (4, 30, 200):
        _, each = staging_model.simulate(nodes, chunks * staging_model.CHUNK, 4, rate, rate, rate, chunks)
        assert each[1] < 1.01 * staging_model.CHUNK / rate
