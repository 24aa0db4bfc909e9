"""The command line of the UPF application, and the settings that go with it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from swiftpy.arguments import number, whole

_EPILOG = """\
example:
  mpiexec -n 4 python -m swiftpy.upf upf-12.json dflts.json
  mpiexec -n 4 python -m swiftpy.upf upf-12.json dflts.json --restart EXP003
  QUEUE=capacity python -m swiftpy.sites aurora upf-12.json dflts.json --chain 5

exit codes: 0 every RUN is done or skipped; 1 a bug in the engine; 2 bad input, nothing was started;
3 some RUNs failed; 4 stopped early: restart the EXP by its name
"""

_seconds = number("a number of seconds", math.isfinite)
_length = number("a number of seconds from 0 on", lambda value: 0 <= value < math.inf)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; argparse ends with SystemExit on --help and on usage errors."""
    return _parser().parse_args(arguments)


def command_line(options: argparse.Namespace) -> list[str]:
    """The command line that `parse` understands as these options."""
    line = [str(options.upf), *([str(options.dflts)] if options.dflts else [])]
    for action in _parser()._actions:
        value = getattr(options, action.dest, action.default)  # --help is no attribute
        if not action.option_strings or value == action.default:
            continue
        name = action.option_strings[-1]
        if action.nargs == 0:
            line.append(name)
        else:  # `--timeout=-1`, because argparse takes `--timeout -1` for two options
            line += [f"{name}={item}" for item in (value if isinstance(value, list) else [value])]
    return line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swiftpy.upf",
        description="Run one model training for each line of a UPF, merged over the defaults in DFLTS.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("upf", type=Path, metavar="UPF", help="unrolled parameter file: one JSON object per line")
    add("dflts", type=Path, nargs="?", metavar="DFLTS", help="JSON object with what all RUNs share")
    add("--restart", metavar="EXP", help="go on from this EXP (a name or a path); a new EXP is made")
    add("--fresh", action="store_true", help="with --restart: start RUNs anew whose parameters changed")
    add("--plan", action="store_true", help="say what would run, skip, resume and why; run nothing")
    add("--retries", type=whole(0), default=1, metavar="N", help="try a failed RUN again N times (1)")
    add("--timeout", type=_seconds, metavar="S", help="time limit of all RUNs, in seconds, whatever UPF says; -1: none")
    add("--grace", type=_length, default=60.0, metavar="S", help="seconds RUNs get to end when stopped (60)")
    add("--inline", action="store_true", help="run RUNs in the ranks themselves, unprotected")
    add("--progress", choices=("bar", "lines"), default="lines", help="how to show progress (lines)")
    add("--site", default="local", help="site whose file gives settings that nobody else gave (local)")
    add(
        "--hook",
        action="append",
        default=[],
        metavar="HOOK",
        help="run this on each leader first: MODULE:NAME or FILE.py",
    )
    add("--ranks-per-node", type=whole(0), default=0, metavar="N", help="pretend that N ranks each are a node")
    add("--summary", metavar="MODULE:NAME", help="call this with the EXP's path at the end, to print a table")
    add("--task", default="model_runner:run_model", metavar="MODULE:NAME", help="what runs one RUN")
    add("--dry-run", action="store_true", help="on a site with a scheduler: print the batch script, submit nothing")
    add(
        "--chain",
        type=whole(1),
        default=1,
        metavar="N",
        help="... let up to N jobs follow each other, until all is done",
    )
    add("--exp", type=Path, metavar="EXP", help="(batch scripts) run in this EXP, which was made at submission")
    add("--after", default="", metavar="JOB", help="with --restart: this job has ended, even if the EXP looks alive")
    return parser


def ranks_per_node(arguments: list[str]) -> int:
    """What every rank must know before rank 0 reads the command line: --ranks-per-node, 0 if it is not (well) given."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--ranks-per-node", type=whole(0), default=0)
    try:
        return int(parser.parse_known_args(arguments)[0].ranks_per_node)
    except argparse.ArgumentError:
        return 0


def time_limit(value: object) -> float | None:
    """`timeout` in seconds as a limit: None for none (the default, -1, and 0)."""
    return float(value) if isinstance(value, int | float) and value > 0 else None
