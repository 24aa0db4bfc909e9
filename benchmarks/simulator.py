"""For how many workers one server is enough: efficiency of simulated jobs, for tasks that may travel together or not.

    python benchmarks/simulator.py [--group 500] [--handling 15e-6] [--most 1000000] [--json FILE]

Each job is simulated with the real scheduler and server loop under a virtual clock (swiftpy.sim), in which the server
needs HANDLING seconds for each message that it sends or receives. The first figure is the efficiency: the least time
that the tasks could take, divided by what they took, start and end of the job included; the second is how busy the
server (with GROUP, rank 0) was. With GROUP, there is a server for each so many workers. Each worker gets 100 tasks, or
fewer if there would be more than MOST; times are exponentially distributed.
"""

import argparse
import gc
import json
from pathlib import Path

from environment import environment
from swiftpy.core.task import Kind, Seat
from swiftpy.sim.conditions import Conditions
from swiftpy.sim.groups import make_cluster
from swiftpy.sim.run import simulate
from swiftpy.sim.work import durations, work

WORKERS = (100, 1_000, 10_000, 100_000)
SECONDS = (0.001, 0.01, 0.1, 1, 10, 100)


def efficiency(workers, seconds, isolated, options):
    """Of one job, and the server's load."""
    count = min(options.most, 100 * workers)
    times = durations(f"exp:{seconds}", count, seed=0)
    seats = {rank: Seat(f"node{rank // 8}") for rank in range(1, workers + 1)}
    servers = workers // options.group if options.group else 1
    conditions = Conditions(latency=2e-6, handling=options.handling)
    cluster = make_cluster(seats, servers, times, conditions)
    result = simulate(
        cluster, seats, work("independent", times, Kind("task", isolated=isolated), 1 if isolated else 1024)
    )
    assert result.done == count
    return result.bound / result.makespan, min(1.0, result.handlings * options.handling / result.makespan)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handling", type=float, default=15e-6, help="seconds for a message (15e-6)")
    parser.add_argument("--group", type=int, default=0, help="a server for each so many workers (0: only rank 0)")
    parser.add_argument("--seconds", type=float, nargs="+", default=SECONDS, help="mean durations")
    parser.add_argument("--most", type=int, default=1_000_000, help="tasks in a job (1000000)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gc.disable()
    report = {**environment(), "handling": options.handling, "group": options.group, "rows": []}
    for isolated in (False, True):
        print("\n" + ("isolated, one at a time" if isolated else "tasks that may travel together"), flush=True)
        print("| seconds | " + " | ".join(f"{workers:,} workers" for workers in WORKERS) + " |")
        print("|---" * (1 + len(WORKERS)) + "|")
        for seconds in options.seconds:
            cells = []
            for workers in WORKERS:
                share, load = efficiency(workers, seconds, isolated, options)
                report["rows"].append([isolated, seconds, workers, share, load])
                cells.append(f"{share:.0%} ({load:.0%})")
            print(f"| {seconds:g} | " + " | ".join(cells) + " |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
