"""`python -m swiftpy.sim`: how a job would go, and whether one server is enough for it."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import random
import sys
from array import array
from pathlib import Path

from swiftpy.arguments import number, whole
from swiftpy.core.task import Kind, Seat
from swiftpy.errors import BAD_INPUT, DONE, SOME_FAILED, STOPPED_EARLY, UserError
from swiftpy.sim.conditions import Conditions, Faults
from swiftpy.sim.groups import make_cluster
from swiftpy.sim.run import Result, simulate
from swiftpy.sim.work import durations, work

RANKS_PER_NODE = 8

_seconds = number("a number of seconds from 0 on", lambda value: value >= 0)
_share = number("a share from 0 to 1", lambda value: 0 <= value <= 1)

_EPILOG = """\
examples:
  python -m swiftpy.sim --workers 100000 --tasks 1000000 --seconds lognormal:60:0.5
  python -m swiftpy.sim --workers 96 --tasks 700 --seconds EXP003/journal.jsonl --fail 0.01 --retries 1
  python -m swiftpy.sim --workers 1000 --tasks 100000 --shape chains:100 --seconds exp:0.01 --handling 20e-6
  python -m swiftpy.sim --workers 20000 --servers 40 --tasks 200000 --seconds exp:0.1 --handling 20e-6

exit codes: 0 every task is done; 2 bad input; 3 some failed; 4 stopped early
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; argparse ends with SystemExit on --help and on usage errors."""
    parser = argparse.ArgumentParser(
        prog="python -m swiftpy.sim",
        description="Simulate a job: the real scheduler and server loop, a virtual clock, and workers that take given"
        " or measured times, fail, hang, die and come back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--workers", type=whole(1), default=1000, metavar="N", help="how many (1000)")
    add(
        "--servers",
        type=whole(1),
        default=1,
        metavar="K",
        help="as many servers share the workers (1: rank 0 has them)",
    )
    add("--tasks", type=whole(1), default=10000, metavar="N", help="how many (10000)")
    add(
        "--seconds",
        default="1",
        metavar="S",
        help="what a task takes: 10, or 5:20 (uniform), exp:10 (mean), lognormal:10:0.5 (median, sigma), or a file with"
        " measured times: a number in each line, or the journal.jsonl of an EXP (1)",
    )
    add(
        "--shape",
        default="independent",
        help="independent; chains:L, each task needs the one before; fans:W, W tasks, one that needs them all, W that"
        " need it, ...; parallel:K, each task on K workers at once (independent)",
    )
    add("--gathered", type=whole(1), default=1024, metavar="N", help="tasks submitted as one run; 1 as UPF does (1024)")
    add("--retries", type=whole(0), default=0, metavar="N", help="try a failed task again N times (0)")
    add("--fail", type=_share, default=0.0, metavar="P", help="share of tasks that fail")
    add("--die", type=_share, default=0.0, metavar="P", help="share of tasks during which their worker is lost")
    add("--back", type=_seconds, default=math.inf, metavar="S", help="... and is there again S seconds later (never)")
    add("--hang", type=_share, default=0.0, metavar="P", help="share of tasks that hang")
    add("--stuck", type=_seconds, default=math.inf, metavar="S", help="... for S seconds (for ever)")
    add("--late", type=_share, default=0.0, metavar="P", help="share of workers that come up to 100 s late")
    add("--latency", type=_seconds, default=0.0, metavar="S", help="how long a message is on its way (0)")
    add(
        "--handling",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="what the server needs for each message, in the job's time (0: infinitely fast; see docs/simulator.md)",
    )
    add("--grace", type=_seconds, default=60.0, metavar="S", help="what tasks get to end before the walltime (60)")
    add("--walltime", type=_seconds, default=math.inf, metavar="S", help="when the job is killed (never)")
    add("--seed", type=int, default=0, metavar="N", help="another seed, another history (0)")
    add("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Simulate and print; returns the exit code."""
    options = parse(arguments)
    gc.disable()  # a million small objects without cycles: looking for some takes a third of the time
    seats = {rank: Seat(f"node{rank // RANKS_PER_NODE}") for rank in range(1, options.workers + 1)}
    try:
        seconds = _durations(options)
        todo = work(options.shape, seconds, Kind("task", retries=options.retries), options.gathered)
        _check_sizes(options, todo.ranks)
    except UserError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    faults = Faults(options.fail, options.die, options.hang, options.late, options.back, options.stuck)
    if faults.hang and faults.stuck == options.walltime == math.inf:
        print("--hang needs --stuck or --walltime: without, the job never ends", file=sys.stderr)
        return BAD_INPUT
    conditions = Conditions(faults, options.seed, options.latency, options.handling)
    cluster = make_cluster(seats, options.servers, seconds, conditions)
    result = simulate(cluster, seats, todo, options.grace, options.walltime)
    if options.json:
        figures = dataclasses.asdict(result)
        print(json.dumps({**figures, "server_per_call": result.server_per_call, "most_workers": result.most_workers}))
    else:
        print(describe(result))
    return SOME_FAILED if result.failed else STOPPED_EARLY if result.left else DONE


def _durations(options: argparse.Namespace) -> array[float]:
    """How long each task takes: drawn as --seconds says, or from the durations in a file of this name."""
    try:
        found = durations(options.seconds, options.tasks, options.seed)
    except (ValueError, ArithmeticError):
        known = _measured(Path(options.seconds))
        found = array("d", random.Random(options.seed).choices(known, k=options.tasks))
    if not (min(found) >= 0 and 0 < sum(found) < math.inf):
        raise UserError(f"--seconds {options.seconds}: times are finite, and not all 0")
    return found


def _measured(path: Path) -> list[float]:
    """The durations in a file: a number in each line, or an EXP's journal."""
    try:
        lines = path.read_text().split("\n")
    except OSError as error:
        raise UserError(f"{path} is neither a duration (see --help) nor a file with some: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file: a number of seconds in each line was expected") from None
    found = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if isinstance(value, dict):
                if value.get("event") == "run_done":
                    found.append(float(value["seconds"]))
            else:
                found.append(float(value))
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{path}:{place}: a number of seconds was expected, or an event of a journal") from None
    if not found:
        raise UserError(f"{path}: there are no durations in it")
    return found


def describe(result: Result) -> str:
    """The figures for people."""
    r = result
    return "\n".join(
        (
            f"tasks       {r.done:,} done, {r.failed:,} failed, {r.left:,} left; sent {r.attempts:,} times to"
            f" {r.workers:,} workers",
            f"makespan    {r.makespan:,.6g} s, {r.makespan / r.bound:.3f} times the lower bound of {r.bound:,.6g} s",
            f"workers     {r.busy:.2%} busy; tail, from the last start: {r.tail:,.4g} s ({r.tail / r.makespan:.1%})",
            f"server      {1e6 * r.server_per_call:.1f} us of CPU for a task, {r.messages / r.calls:.2f} messages;"
            f" {r.calls / r.server:,.0f} tasks/s",
            f"            load {r.server / r.makespan:.3%}: enough for {r.most_workers:,.0f} workers with such tasks",
            f"simulation  {r.wall:.1f} s ({r.cpu:.1f} s of CPU), {r.memory:,.0f} MB",
        )
    )


def _check_sizes(options: argparse.Namespace, ranks: int) -> None:
    """Raise UserError if there are too few workers."""
    if options.servers > options.workers:
        raise UserError(f"--servers {options.servers}: there are only {options.workers} workers")
    group = -(-options.workers // options.servers)
    if ranks > group:
        raise UserError(f"--shape {options.shape} wants {ranks} workers of one server, of which there are {group}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
