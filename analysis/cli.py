"""The commands by their names, as scripts of their own and as `python -m analysis COMMAND`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from analysis.command import AnalysisError


class Command(NamedTuple):
    """`target`: module and function, called with a parser and the arguments; `example`: the arguments of a call."""

    target: str
    summary: str
    example: str


COMMANDS = {
    # While a job runs, and after
    "progress.sh": Command("progress:progress", "progress of an EXP -> D/progress.txt; --watch: live", "--watch D"),
    "epochs.sh": Command("progress:epochs", "completed epochs of every RUN -> D/epochs.txt", "D 1"),
    "shrink-logs.sh": Command("logs:shrink_logs", "logs out-*.txt -> summary-*.txt, about 99 % smaller", "D/out"),
    "runs": Command("runs:runs", "table of an EXP's RUNs", "D"),
    "index": Command("runs:index", "table of all EXPs in a directory", "out/unorun/Output"),
    "export.sh": Command("archive:export", "key logs and results -> D/EXPnnn.tgz", "D"),
    "clean-ckpts.sh": Command("ckpts:clean", "remove older models, never best and last", "--dry-run D 3"),
    # Scores and rankings
    "extract.py": Command("extract:extract", "a test score of every RUN -> D/scores.csv", "D pcc"),
    "scores": Command("scores:scores", "all scores, from the predictions, by RUN, cell or in all", "--by cell D"),
    "collect": Command(
        "scores:collect", "all predictions of an EXP -> predictions.parquet", "D -o predictions.parquet"
    ),
    "list_cells.sh": Command("ranking:list_cells", "the cells in the test predictions, sorted", "D"),
    "top_drugs.sh": Command("ranking:top_drugs", "drugs with the lowest AUC for a cell", "D true ACH-000956 10"),
    "score_cell.sh": Command("ranking:score_cell", "overlap of a cell's true and predicted top drugs", "D ACH-000956"),
    "score_all_cells.sh": Command("ranking:score_all_cells", "the same for every cell", "--csv D"),
    "list_match.py": Command("lists:list_match", "recall of one ranked list by another", "true.list pred.list"),
    "list_diff.py": Command("lists:list_diff", "differences of rank between two lists", "10 true.list pred.list"),
    "spearman.py": Command("lists:spearman", "rank correlation of two lists", "true.list pred.list"),
    "analyze_convergence": Command(
        "convergence:analyze", "tiers of convergence, completion patterns, recommendations", "EXP011 EXP012"
    ),
    "report": Command("report:report", "pictures and tables of one or several EXPs, as HTML and PNG", "D D2"),
    # Tables
    "list_drugs.py": Command(
        "tables:list_drugs", "drugs of a response table with their index", "--index 5 RSP.parquet"
    ),
    "cat_pq.py": Command("tables:cat", "concatenate Parquet tables", "all.parquet train.parquet val.parquet"),
    "stat_pq.py": Command("tables:stat", "date, bytes and rows of Parquet tables", "rsp_merged.parquet"),
    "mk_pq.py": Command("tables:make", "make a response table for tests", "100 GDSC rsp.parquet"),
    "show_pq.py": Command("tables:show_table", "print a Parquet table", "rsp_merged.parquet"),
    "cell-grep": Command(
        "cells:cell_grep", "select responses by properties of the cell lines", "GDSC.csv table.tsv Male out.csv"
    ),
    "cell-grep-extract": Command(
        "cells:extract", "cell lines of Cellosaurus XML -> table", "cellosaurus.xml table.tsv"
    ),
}


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Options anywhere: in `clean-ckpts.sh D --dry-run 3` argparse has settled N when it meets the option.
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(name: str, arguments: Sequence[str], call: str) -> int:
    """Run the command: 0, or 2 with one line on stderr that says what to do. `call` is how the user calls it."""
    command = COMMANDS[name]
    parser = _Parser(prog=call, description=command.summary, epilog=f"example: {call} {command.example}")
    module, function = command.target.split(":")
    try:
        code = getattr(importlib.import_module(f"analysis.{module}"), function)(parser, list(arguments)) or 0
        print(end="", flush=True)  # what is short waits in stdout, and would find a closed pipe when Python ends
        return code
    except BrokenPipeError:  # `| head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name in ("matplotlib", "scipy"):
            needed = "scripts/setup-venv local,analysis, or pip install matplotlib scipy"
            print(f"{name}: {error.name} is missing: {needed}", file=sys.stderr)
            return 2
        raise
    except AnalysisError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"{name}: {text}", file=sys.stderr)
        return 2


def script() -> int:
    """Entry point of all scripts: the name under which it was started is the command."""
    name = Path(sys.argv[0]).name
    return run(name, sys.argv[1:], name)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m analysis COMMAND ...`: the script's name with or without its ending."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = next((name for name in COMMANDS if arguments and _plain(arguments[0]) == _plain(name)), None)
    if name:
        return run(name, arguments[1:], f"python -m analysis {name}")
    wrong = bool(arguments) and arguments[0] not in ("-h", "--help")
    if wrong:
        print(f"analysis: there is no command {arguments[0]!r}", file=sys.stderr)
    print("python -m analysis COMMAND ..., or one of these scripts:\n", file=sys.stderr if wrong else sys.stdout)
    for name, command in COMMANDS.items():
        print(f"  {name:<20}{command.summary}", file=sys.stderr if wrong else sys.stdout)
    return 2 if wrong or not arguments else 0


def _plain(name: str) -> str:
    return name.removesuffix(".sh").removesuffix(".py").replace("_", "-")
