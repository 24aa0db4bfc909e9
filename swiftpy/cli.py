"""The command `swiftpy`: `swiftpy stage pack ENV ARCHIVE`, and `swiftpy --version`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swiftpy import __version__
from swiftpy.errors import BAD_INPUT
from swiftpy.runtime.stage import environment

_JOBS = "Tools for jobs. To start one: mpiexec -n PROCS python -m swiftpy SCRIPT (or swiftpy.upf UPF DFLTS)."
_EXAMPLE = """\
example:
  swiftpy stage pack .venv env.tar.zst
  SOFTWARE_SOURCE=env.tar.zst ./upf-uno-heds.sh SITE UPF DFLTS
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="swiftpy", description=_JOBS)
    parser.add_argument("--version", action="version", version=f"swiftpy {__version__}")
    stage = parser.add_subparsers(required=True, metavar="COMMAND").add_parser("stage", help="bring files to nodes")
    pack = stage.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "pack",
        help="make an archive of a Python environment",
        description="Make an archive of a Python environment that can be unpacked and used at any path.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pack.add_argument("env", type=Path, metavar="ENV", help="a virtual environment, such as .venv")
    pack.add_argument("archive", type=Path, metavar="ARCHIVE", help="NAME.tar.zst, NAME.tar.gz or NAME.tar")
    options = parser.parse_args(arguments)
    try:
        environment.pack(options.env.absolute(), options.archive.absolute(), lambda text: print(text, flush=True))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    for warning in environment.warnings(options.env.absolute()):
        print(warning, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
