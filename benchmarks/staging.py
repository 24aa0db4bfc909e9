"""Staging to pretended nodes on this machine, against what one would do without it; prints JSON with ratios.

    python benchmarks/staging.py file       # 2 GB to 4 nodes: ours, 4 concurrent cp, a naive MPI broadcast
    python benchmarks/staging.py tree       # 20,000 files (1 GB) to 4 nodes: ours, 4 concurrent cp -r, only writing
    python benchmarks/staging.py tar        # a 2 GB tar to 2 nodes, unpacked: ours, and its two parts alone; and zstd,
                                            also against `zstd -dc | tar -x` on every node, nothing sent

The candidates alternate, `--rounds` times; figures are medians. `--folder` says where source and nodes are (a disk, or
/dev/shm); it needs five times the size, and the machine nine times in memory. What is written is flushed between the
candidates, outside the times. In the first round, what arrived is compared with the source. On a busy machine, compare
`cpu_s`, the nodes' CPU time.
"""

import argparse
import json
import mmap
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from environment import environment
from swiftpy.runtime.group import Group
from swiftpy.runtime.stage import stage_archive, stage_tree
from swiftpy.runtime.stage.stream import broadcast
from swiftpy.runtime.stage.tree import Entry, TreeReader
from swiftpy.runtime.stage.unpack import Unpacker
from swiftpy.sites.launch import find_launcher

PIECE = 4 << 20
WRITTEN_AT_ONCE = 1 << 20  # as ours


# -- in every rank -----------------------------------------------------------------------------------------------------


def ours_file(leaders, source, node):
    stage_tree(leaders, source.parent, node, [source.name])


def ours_tree(leaders, source, node):
    stage_tree(leaders, source, node)


def ours_tar(leaders, source, node):
    stage_archive(leaders, source, node)


def transport_only(leaders, source, node):
    """Reading and sending as ours does, and no more."""
    node.mkdir()
    size = source.stat().st_size
    reader = TreeReader(source.parent, [Entry(source.name, "file", 0, source.stat().st_mtime_ns, size)])
    broadcast(Group(leaders), size, reader, deque(maxlen=0).extend)


def naive_broadcast(leaders, source, node):
    """Read a piece, broadcast it, write it: nothing overlaps, nothing is checked."""
    node.mkdir()
    with source.open("rb") as file, (node / source.name).open("wb") as out:
        for _ in range(-(-source.stat().st_size // PIECE)):
            out.write(leaders.bcast(file.read(PIECE) if leaders.rank == 0 else None))


def writes_only(leaders, source, node):
    """What no way to bring a tree can do without: making the files, from one buffer in memory."""
    sizes = [(path.relative_to(source), path.stat().st_size) for path in sorted(source.rglob("*")) if path.is_file()]
    buffer = memoryview(os.urandom(WRITTEN_AT_ONCE))
    for folder in {path.parent for path, _ in sizes}:
        (node / folder).mkdir(parents=True, exist_ok=True)
    leaders.barrier()
    began = time.perf_counter()
    for path, size in sizes:
        fd = os.open(node / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        for start in range(0, size, WRITTEN_AT_ONCE):
            os.write(fd, buffer[: size - start])
        os.close(fd)
    return began


def unpack_only(leaders, source, node):
    node.mkdir()
    with source.open("rb", buffering=0) as file:
        Unpacker(node)(iter(lambda: memoryview(file.read(PIECE)), b""))


def in_rank(name, source, nodes):
    from mpi4py import MPI

    leaders, node = MPI.COMM_WORLD, nodes / f"node{MPI.COMM_WORLD.rank}"
    leaders.barrier()
    read, cpu, began = bytes_read(), time.process_time(), time.perf_counter()
    began = globals()[name](leaders, source, node) or began
    ended, cpu = time.perf_counter(), time.process_time() - cpu  # before a barrier, in which ranks spin
    seconds = leaders.allreduce(ended, MPI.MAX) - leaders.allreduce(began, MPI.MIN)
    cpu, read = leaders.allreduce(cpu), leaders.allreduce(bytes_read() - read)
    memory = leaders.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, MPI.MAX)
    if leaders.rank == 0:
        print(json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_MB": memory / 1e6, "read_GB": read / 1e9}))


def bytes_read():
    """By read calls of this process, from whatever."""
    return int(Path("/proc/self/io").read_text().split()[1])


# -- around them -------------------------------------------------------------------------------------------------------


class Ballast:
    """Memory that is held, and let go as the candidate fills the folder's file system.

    On a virtual machine, memory that was free for a second is the host's, and to get it again costs 2 s/GB, several
    times the copying: so a candidate that is somewhat slower than another would lose more and more.
    """

    AHEAD, STEP, PAUSE = 256 << 20, 32 << 20, 5e-3

    def __init__(self, folder, size):
        self._folder, self._size = folder, size
        self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_HUGEPAGE)  # large pages cost nothing to let go
        memoryview(self._memory)[::4096] = b"1" * -(-size // 4096)
        self._thread = threading.Thread(target=self._let_go)

    def __enter__(self):
        self._over, self._at_first = False, self._free()
        self._thread.start()

    def __exit__(self, *error):
        self._over = True
        self._thread.join()
        self._memory.close()

    def _free(self):
        disk = os.statvfs(self._folder)
        return disk.f_bfree * disk.f_frsize

    def _let_go(self):
        gone = 0
        while not self._over:
            used = self._at_first - self._free()
            step = min(used + self.AHEAD, self._size) - gone if used > 0 else 0
            if step >= self.STEP:
                step -= step % self.STEP
                self._memory.madvise(mmap.MADV_DONTNEED, gone, step)
                gone += step
            time.sleep(self.PAUSE)


def ranks(name, source, nodes, count):
    command = [find_launcher(), "-n", str(count), sys.executable, __file__, "rank", name, str(source), str(nodes)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out.splitlines()[-1])  # before it, progress


#: What each node could run for itself: `cp -r`, which is also what it costs if every node reads, and the usual tools.
COMMANDS = {"copies": 'exec cp -r "$0" "$1"', "zstd_tar": 'mkdir "$1" && zstd -dqc "$0" | tar -x -C "$1"'}


def commands(name, source, nodes, count):
    """As many of them at once."""
    began, cpu = time.perf_counter(), cpu_of_children()
    jobs = [subprocess.Popen(["bash", "-c", COMMANDS[name], source, nodes / f"node{n}"]) for n in range(count)]
    if any(job.wait() for job in jobs):
        raise SystemExit(f"{name} failed")
    return {"seconds": time.perf_counter() - began, "cpu_s": cpu_of_children() - cpu}


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check(name, source, node):
    """That a node has what was to be brought to it, byte by byte."""
    file, tree = ["cmp", source, node / source.name], ["diff", "-r", "-x", ".staged.json", source, node]
    compare = {"ours_file": file, "ours_tree": tree}
    if name in compare:
        subprocess.run(compare[name], check=True)


def make_file(path, size):
    path.parent.mkdir()
    with path.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(os.urandom(PIECE))


def make_tree(root, count, size):
    chance, buffer = random.Random(0), os.urandom(4 * size // count)
    for number in range(count):
        folder = root / f"{number % 200:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        length = chance.randrange(2 * size // count)
        (folder / f"{number}.py").write_bytes(buffer[:length])


def make_tar(folder, size):
    """Half of it compresses well, as software does."""
    tree = folder / "tree"
    tree.mkdir()
    for number in range(64):
        part = os.urandom(size // 128)
        (tree / str(number)).write_bytes(part + bytes(len(part)))
    with tarfile.open(folder / "big.tar", "w") as tar:
        tar.add(tree, ".")
    shutil.rmtree(tree)
    subprocess.run(["zstd", "-q", "-T0", str(folder / "big.tar")], check=True)


def alternate(folder, candidates, rounds, count, size):
    """Medians of each candidate: a name of a function above, or of COMMANDS, with its source of about `size` bytes."""
    found, nodes = {title: [] for title in candidates}, folder / "nodes"
    for number in range(rounds):
        for title, (name, source) in candidates.items():
            nodes.mkdir()
            os.sync()
            run = commands if name in COMMANDS else ranks
            with Ballast(folder, count * size):
                found[title].append(run(name, source, nodes, count))
            print(f"{title}: {found[title][-1]}", file=sys.stderr, flush=True)
            for node in nodes.iterdir() if number == 0 else ():
                check(name, source, node)
            subprocess.run(["rm", "-r", nodes], check=True)  # faster than Python
    return {
        title: {key: round(statistics.median(each[key] for each in results), 2) for key in results[0]}
        for title, results in found.items()
    }


def measure(what, folder, rounds, scale):
    if what == "file":
        source = folder / "file" / "big"
        make_file(source, int(2e9 * scale))
        names = {"ours": "ours_file", "cp": "copies", "naive": "naive_broadcast", "transport": "transport_only"}
        candidates = {title: (name, source) for title, name in names.items()} | {
            "writes": ("writes_only", source.parent)
        }
        found = alternate(folder, candidates, rounds, 4, int(2e9 * scale))
        seconds = {title: result["seconds"] for title, result in found.items()}
        seconds["transport_and_writes"] = seconds["transport"] + seconds["writes"]
        ratios = {
            f"ours_to_{other}": seconds["ours"] / seconds[other] for other in ("cp", "naive", "transport_and_writes")
        }
        ratios["GB_per_second_and_node"] = 2 * scale / found["ours"]["seconds"]
        return found, ratios
    if what == "tree":
        make_tree(folder / "tree", int(20_000 * scale), int(1e9 * scale))
        names = {"ours": "ours_tree", "cp": "copies", "writes": "writes_only"}
        candidates = {title: (name, folder / "tree") for title, name in names.items()}
        found = alternate(folder, candidates, rounds, 4, int(1e9 * scale))
        return found, {
            f"ours_to_{other}": found["ours"]["seconds"] / found[other]["seconds"] for other in ("cp", "writes")
        }
    make_tar(folder, int(2e9 * scale))
    tar, zst = folder / "big.tar", folder / "big.tar.zst"
    candidates = {"ours": ("ours_tar", tar), "broadcast": ("ours_file", tar), "unpack": ("unpack_only", tar)}
    candidates |= {"zstd": ("ours_tar", zst), "broadcast_zstd": ("ours_file", zst), "unpack_zstd": ("unpack_only", zst)}
    candidates["tools_zstd"] = ("zstd_tar", zst)
    found = alternate(folder, candidates, rounds, 2, int(2e9 * scale))
    slower = {end: max(found[part + end]["seconds"] for part in ("broadcast", "unpack")) for end in ("", "_zstd")}
    return found, {
        "ours_to_slower_part": found["ours"]["seconds"] / slower[""],
        "zstd_to_slower_part": found["zstd"]["seconds"] / slower["_zstd"],
        "zstd_to_tools": found["zstd"]["seconds"] / found["tools_zstd"]["seconds"],
        "zstd_to_tools_cpu": found["zstd"]["cpu_s"] / found["tools_zstd"]["cpu_s"],
    }


def main():
    if sys.argv[1:2] == ["rank"]:
        in_rank(sys.argv[2], *map(Path, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("file", "tree", "tar"))
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found, ratios = measure(options.what, Path(folder), options.rounds, options.scale)
        disk = subprocess.run(["df", "--output=fstype", folder], capture_output=True, text=True).stdout.split()[-1]
    report = {**environment("mpi4py", "mpich"), "file_system": disk, "rounds": options.rounds, "medians": found}
    print(json.dumps({**report, "ratios": {name: round(value, 2) for name, value in ratios.items()}}, indent=1))


if __name__ == "__main__":
    main()
