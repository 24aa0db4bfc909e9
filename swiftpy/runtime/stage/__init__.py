"""Collective staging: files, trees and archives from a shared file system to every node's local disk, read once.

Called on all leaders, one rank of each node, with their communicator:

    stage_tree(leaders, source, target)         a directory tree, or chosen files of it
    stage_archive(leaders, archive, target)     a tar (plain, gzip, zstd), unpacked while it arrives

Both leave `target` whole and verified on every node, or raise GroupError on every leader.
"""

from swiftpy.runtime.stage.staging import Staged, stage_archive, stage_tree

__all__ = ["Staged", "stage_archive", "stage_tree"]
