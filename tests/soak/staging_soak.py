"""Stop jobs at random moments of their staging, start each again, and compare what is on every node with the source.

    python tests/soak/staging_soak.py [--stops 20] [--nodes 4] [--gigabytes 2] [--files 20000] [--seed 0] [--folder DIR]

In turn a large file, a tree of many small files, and a tar of that tree (zstd). One process of the job is killed, or
mpiexec is told to end (SIGINT, SIGTERM); everything must be over within seconds. After a third of the stops each, a
job is left alone: then every node has the whole source, byte by byte, and nothing besides. Needs `nodes` + 3 times the
size on the disk.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "jobs"), str(Path(__file__).parents[2])]

LONGEST_END = 15.0


def hook(leaders, env):
    """What each leader does, as the hooks of the project do."""
    from hooks.node_local import NodeLocal, setting
    from swiftpy.runtime.group import Group
    from swiftpy.runtime.stage import stage_archive, stage_tree

    source = setting(env, "SOAK_SOURCE")
    place = NodeLocal(setting(env, "SOAK_TARGET"), source)
    began = time.monotonic()
    staged = (stage_tree if source.is_dir() else stage_archive)(leaders, source, place.copy_of)
    Group(leaders).together("use it", lambda: place.use(staged))
    print(f"staged in {time.monotonic() - began:.2f} s", flush=True)
    yield {}
    place.leave(keep=True)


def make_sources(root, size, count):
    chance, buffer = random.Random(0), os.urandom(4 * size // count)
    with (folder(root / "file") / "big").open("wb") as file:
        for _ in range(size >> 22):
            file.write(os.urandom(4 << 20))
    for number in range(count):
        length = chance.randrange(size // count)  # half of the size: it is there twice
        (folder(root / "tree" / f"{number % 200:03d}") / str(number)).write_bytes(buffer[number % 97 :][:length])
    subprocess.run(["tar", "--zstd", "-cf", root / "tree.tar.zst", "-C", root / "tree", "."], check=True)
    return {"file": root / "file", "tree": root / "tree", "archive": root / "tree.tar.zst"}


def folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


class Soak:
    def __init__(self, root, options):
        from job import Workplace

        self.root, self.nodes, self.chance = root, options.nodes, random.Random(options.seed)
        self.place = Workplace(folder(root / "work"))
        self.place.write([{"id": "A"}], {"epochs": 1})
        self.sources = make_sources(root, int(options.gigabytes * 1e9), options.files)
        self.seen, self.ends = Counter(), []

    def start(self, kind):
        variables = {"SOAK_SOURCE": str(self.sources[kind]), "SOAK_TARGET": f"{self.root}/node$SWIFTPY_NODE/copy"}
        (self.place.root / "job.log").unlink(missing_ok=True)
        options = ["--hook", f"{Path(__file__).resolve()}:hook", "--ranks-per-node", "1"]
        return self.place.start(*options, procs=self.nodes, **variables)

    def stop(self, kind, longest):
        """One job that is stopped at some time of its staging; returns its exit code."""
        from job import processes_in

        job = self.start(kind)
        while job.poll() is None and not list(self.root.glob("node*/.copy-*.part-*")):
            time.sleep(0.01)
        time.sleep(self.chance.uniform(0, longest))
        how = self.chance.choice(["killed", "killed", "SIGINT", "SIGTERM"])
        with contextlib.suppress(ProcessLookupError):
            if how == "killed":
                os.kill(self.chance.choice([job.pid, *processes_in(self.place.root)]), signal.SIGKILL)
            else:
                job.send_signal(signal.Signals[how])
        began = time.monotonic()
        code = job.wait(60)
        while processes_in(self.place.root) and time.monotonic() - began < 60:
            time.sleep(0.05)
        self.ends.append(time.monotonic() - began)
        assert self.ends[-1] < LONGEST_END, f"{kind}, {how}: the end took {self.ends[-1]:.1f} s"
        self.seen[f"{how}: exit code {code}"] += 1
        return code

    def finish(self, kind):
        """One job that is left alone; returns the seconds of its staging."""
        code = self.start(kind).wait()
        log = (self.place.root / "job.log").read_text()
        assert code == 0, log
        source = self.sources["tree" if kind == "archive" else kind]
        for number in range(self.nodes):
            node = self.root / f"node{number}"
            link, copy = node / "copy", (node / "copy").resolve()
            assert sorted(node.iterdir()) == sorted([link, copy]), f"left behind: {sorted(node.iterdir())}"
            subprocess.run(["diff", "-r", "-x", ".staged.json", "-x", ".staged.keep", source, copy], check=True)
        out = next((self.place.exps()[-1] / "out").glob("out-*0.txt")).read_text()
        return float(out.partition("staged in ")[2].split()[0])

    def run(self, stops):
        for kind in self.sources:
            longest = self.finish(kind)
            code = 0
            for _ in range(stops // 3):
                if code == 0:  # else on top of what the last has left
                    for node in self.root.glob("node*"):
                        shutil.rmtree(node)
                code = self.stop(kind, longest)
            self.finish(kind)
            for path in (*self.root.glob("node*"), self.place.output):
                shutil.rmtree(path)
            print(f"{kind}: staged in {longest:.1f} s; {dict(self.seen)}", flush=True)
        print(json.dumps({"stops": dict(self.seen), "slowest_end_s": round(max(self.ends), 1)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak ", dir=options.folder) as directory:
        Soak(Path(directory), options).run(options.stops)


if __name__ == "__main__":
    main()
