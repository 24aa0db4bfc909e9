"""Our engine, other task systems and a bare message loop, side by side, case by case, in one run.

    python -m benchmarks.engine [--workers 3] [--peers mpi4py-spin,pool] [--cases bulk,submit] [--json FILE]

Start it in the root of the project. Each case of each system is a job of its own; within a round, all systems run a
case before the next case begins, in an order that changes from round to round. Figures are medians over the rounds.
"vs best peer" and "vs floor" say how many times better ours is. Parsl, Dask and Ray are looked for in another
environment (--peers-python), because what they need conflicts.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engine.cases import CASES
from benchmarks.engine.launch import LAUNCHES, PEERS, command, environment_of, startup_script
from benchmarks.engine.program import MARK
from benchmarks.environment import environment

ROOT = Path(__file__).parents[2]
STARTUP = "startup"
STARTUP_FIGURE = ("1,000 tasks, from start to end", "s")
#: Units of which more is better.
_RATES = {"tasks/s", "hops/s", "MB/s", "/s", "%"}
#: Seconds after which a job is given up.
_LIMIT = 90


class Table:
    """figure -> system -> what was measured in each round."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[str, list[float]]] = {}

    def add(self, figure, system, value):
        self.values.setdefault(figure, {}).setdefault(system, []).append(value)

    def rows(self, names):
        """Lines of a Markdown table."""
        peers = [name for name in names if name in PEERS]
        yield "| " + " | ".join(["figure", *names, "vs best peer", "vs floor"]) + " |"
        yield "|---" * (len(names) + 3) + "|"
        for (figure, unit), measured in self.values.items():
            medians = {name: statistics.median(values) for name, values in measured.items()}
            cells = [f"{medians[name]:,.{_digits(medians[name])}f}" if name in medians else "" for name in names]
            sign = 1 if unit in _RATES else -1
            others = [medians[name] for name in peers if name in medians]
            best = (max if sign == 1 else min)(others, default=None)
            ratios = [_ratio(unit, sign, medians.get("swiftpy"), other) for other in (best, medians.get("floor"))]
            yield "| " + " | ".join([f"{figure} [{unit}]" if unit else figure, *cells, *ratios]) + " |"


def _digits(value):
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def _ratio(unit, sign, ours, other):
    if not unit or not ours or not other:
        return ""
    return f"{(ours / other) ** sign:.2f}"


def run(argv, env):
    """Run a job in a session of its own; what it printed, its exit code, and seconds."""
    began = time.perf_counter()
    job = subprocess.Popen(
        argv, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output = job.communicate(timeout=_LIMIT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGTERM)
        output = job.communicate()[0] + f"\ngiven up after {_LIMIT} s"
    except BaseException:
        os.killpg(job.pid, signal.SIGTERM)
        raise
    return output, job.returncode, time.perf_counter() - began


def measure(name, case, options, directory, table, report):
    """Run one case under one system, and take in its figures."""
    script = Path(__file__).with_name("program.py")
    arguments = [name, str(options.workers), case]
    if case == STARTUP:
        text = startup_script(name, options.workers)
        if text is None:
            return
        script, arguments = directory / f"{name}.py", []
        script.write_text(text)
    argv = command(name, options.workers, options.peers_python, script, *arguments)
    output, code, seconds = run(argv, environment_of(name, ROOT, options.peers_python))
    lines = [line.partition(MARK)[2] for line in output.splitlines() if MARK in line]
    if code or (case != STARTUP and not lines):
        problem = f"{name}, {case}: exit code {code}: {' | '.join(output.strip().splitlines()[-3:])[-500:]}"
        report["problems"].append(problem)
        print(problem, file=sys.stderr)
    elif case == STARTUP:
        table.add(STARTUP_FIGURE, name, seconds)
    else:
        said = json.loads(lines[0])
        report["versions"][name] = said["version"]
        report["load"].append(said["load"][0])
        for figure, unit, value in said["figures"]:
            table.add((figure, unit), name, value)
    print(f"{name:12} {case:10} {seconds:5.1f} s  load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*CASES, STARTUP]
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--peers", default="mpi4py,mpi4py-spin", help=f"of {', '.join(PEERS)}; or all, none")
    parser.add_argument("--cases", default="all", help=f"of {', '.join(known)}; or all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=280, help="start nothing more after so many seconds")
    parser.add_argument("--peers-python", default=sys.executable, help="Python that has parsl, distributed and ray")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    options = parser.parse_args()
    peers = {"all": PEERS, "none": []}.get(options.peers) or options.peers.split(",")
    names = ["swiftpy", *(peer for peer in peers if peer != "none"), "floor"]
    cases = known if options.cases == "all" else options.cases.split(",")
    for name in (*names, *cases):
        if name not in LAUNCHES and name not in known:
            parser.error(f"there is no {name}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    table, began = Table(), time.monotonic()
    report = {**environment("swiftpy", "mpi4py"), "workers": options.workers, "load": [], "problems": []}
    skipped = []
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(options.rounds):
            for case in cases:
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    if case in LAUNCHES[name].system.omits:
                        continue
                    if time.monotonic() - began > options.budget:
                        skipped.append(f"{name} {case} in round {turn + 1}")
                    else:
                        measure(name, case, options, Path(directory), table, report)
    if skipped:
        report["problems"].append(f"no time was left for {len(skipped)} measurements, the first of them {skipped[0]}")
    report["setup"] = {name: LAUNCHES[name].system.setup for name in names}
    report["figures"] = [
        {"figure": figure, "unit": unit, "values": values} for (figure, unit), values in table.values.items()
    ]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    load = report["load"] or [0.0]
    print(f"{options.workers} workers, {report['host']}, {report['cores']} cores, commit {report['commit']}, ", end="")
    print(f"load {min(load):.1f} to {max(load):.1f}, {options.rounds} rounds\n")
    print("\n".join(table.rows(names)))
    print("".join(f"\n{problem}" for problem in report["problems"]))


if __name__ == "__main__":
    main()
