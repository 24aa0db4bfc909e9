"""`epochs.sh` and `progress.sh`: how far an EXP has come, as short texts in the EXP."""

import re
import statistics
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from analysis import live, logs
from analysis.command import AnalysisError, add_exp, add_formats, count_text, exp_path, note, show, write_lines
from analysis.exp import read_runs, run_directories
from analysis.job import inputs, is_alive, job_id, read_dflts, read_journal, settings, waiting, walltime_message
from analysis.job import logs as log_files

_RUN = re.compile(rb"run_(?:tensorflow|pytorch)")


def epochs(parser: ArgumentParser, arguments: list[str]) -> None:
    """`epochs.sh D [N]`: a line `RUN epochs` for every RUN that has completed at least N."""
    add_exp(parser)
    parser.add_argument(
        "least", metavar="N", nargs="?", type=int, default=0, help="list RUNs with at least N epochs (0)"
    )
    add_formats(parser)
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp)
    runs = read_runs(exp)
    rows = [{"run": run.id, "epochs": run.epochs or 0} for run in runs if (run.epochs or 0) >= options.least]
    text = [f"{row['run']} {row['epochs']}" for row in rows]
    try:
        show(options, rows, text)
    finally:  # `epochs.sh D 1 | head`, with hundreds of RUNs
        _write(exp / "epochs.txt", text)
    counts = [row["epochs"] for row in rows if isinstance(row["epochs"], int)]
    if counts:
        note(
            f"{len(rows)} of {len(runs)} RUNs, epochs: {min(counts)} to {max(counts)},"
            f" median {statistics.median(counts):g}, sum {sum(counts)}"
        )
    else:
        note(f"none of {len(runs)} RUNs has {options.least} epochs")


def progress(parser: ArgumentParser, arguments: list[str]) -> int:
    """`progress.sh D`, or `--watch D`, the live view."""
    add_exp(parser)
    parser.add_argument("--watch", action="store_true", help="live view, until the job ends or Ctrl-C")
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="least seconds between two looks (2)")
    parser.add_argument("--once", action="store_true", help="with --watch: one look only")
    options = parser.parse_args(arguments)
    exp = exp_path(options.exp)
    if options.watch:
        return live.watch(exp, max(0.1, options.interval), options.once)
    text = list(summary(exp))
    print("\n".join(text))
    _write(exp / "progress.txt", text)
    return 0


def summary(exp: Path) -> Iterator[str]:
    """The lines of progress.txt, at their end LIVE (at work), WAIT (in the queue), or STOP and why (ended badly)."""
    job = settings(exp)
    _, dflts = inputs(exp)
    yield f"DIR:  {exp}"
    yield f"JOB:  {job_id(exp)}"
    yield f"JSON: {dflts or 'none'}"
    yield from (f"{key + ':':<19}{job[key]}" for key in ("PROCS", "PPN") if key in job)
    params = (read_dflts(dflts) if dflts else None) or {}
    yield from (f"{key}: {params[key]}" for key in ("epochs", "alpha") if key in params)
    found = log_files(exp / "out")
    yield f"OUTs: {len(found)}"
    yield f"RUNs: {len(run_directories(exp))}"
    counts = [logs.count_lines(log, _RUN, b"...", b"done") for log in found]
    yield f"NEWs: {sum(new for new, _ in counts)}"
    yield f"DONE: {sum(done for _, done in counts)}"
    yield f"MKRs: {sum(1 for _ in (exp / 'markers').glob('marker-*.txt'))}"
    yield from _end(exp, job)


def _end(exp: Path, job: dict[str, str]) -> Iterator[str]:
    if walltime := walltime_message(exp):
        yield f"STOP: {walltime}"
        return
    stopped = [event for event in read_journal(exp) if event["event"] == "job_stopped"]
    if is_alive(exp):
        yield "LIVE: the job is at work"
    elif wait := waiting(exp):
        yield f"WAIT: {wait}"
    elif "EXIT CODE" not in job:
        yield "STOP: no exit code: the job was killed"
    elif job["EXIT CODE"] != "0":
        event = stopped[-1] if stopped else {}
        # The journal's reason for 3 is that all RUNs were resolved.
        reason = (
            f"{count_text(event.get('failed') or 0, 'RUN')} failed" if event.get("code") == 3 else event.get("reason")
        )
        yield f"STOP: exit code {job['EXIT CODE']}" + (f": {reason}" if reason else "")
    if "MPIEXEC TIME" in job:
        yield f"TIME: {job['MPIEXEC TIME']}"
    if "COMPLETED" in job:
        yield f"DONE: {job['COMPLETED']}"


def _write(path: Path, text: list[str]) -> None:
    try:
        write_lines(path, text)
    except OSError as error:
        raise AnalysisError(f"{path} was not written: {error.strerror}") from error
