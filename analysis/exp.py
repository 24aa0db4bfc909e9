"""Reader of EXP directories, ours and those of the original Swift/T workflow, finished or not.

Gaps, failed RUNs and torn files are normal in an EXP: they make a field None, never an exception.
"""

import ast
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from analysis.job import finite, inputs, is_alive, parse_json, read_dict, read_journal, read_text, unix_time, upf_lines

FAILED_RESULT = "RUN_EXCEPTION"


@dataclass
class Run:
    """One RUN as its directory and the journal show it.

    `status`: done, skipped (was done before this EXP), failed, interrupted, running, waiting; unfinished
    where only the directory tells. `held_out` is the drug or cell of the test set. `epochs` are completed
    ones, all attempts together; `seconds` the duration of the last attempt. `val` and `test` map metrics to
    scores. `reason` says why a RUN failed or was skipped.
    """

    id: str
    path: Path
    status: str = "waiting"
    partition: str | None = None
    index: int | None = None
    held_out: str | None = None
    epochs: int | None = None
    result: str | None = None
    seconds: float | None = None
    reason: str | None = None
    val: dict[str, float | None] = field(default_factory=dict)
    test: dict[str, float | None] = field(default_factory=dict)


def read_runs(exp: Path) -> list[Run]:
    """All RUNs of the EXP, in the order of its UPF where that is known, else in that of their names.

    FileNotFoundError if `exp` is no EXP: it has no directory `run`.
    """
    started = [path.name for path in run_directories(exp)]
    upf, _ = inputs(exp)
    wanted = [params["id"] for params in upf_lines(upf)] if upf else []
    runs = {run_id: _read_run(exp / "run" / run_id) for run_id in dict.fromkeys([*wanted, *started])}
    journal = list(read_journal(exp))
    if journal:
        _apply_journal(runs, journal, is_alive(exp))
    return list(runs.values())


def run_directories(exp: Path) -> list[Path]:
    """The RUN directories that there are, numbers in names in numeric order: RUN999 before RUN1000.

    FileNotFoundError if `exp` is no EXP.
    """
    try:
        entries = [entry for entry in os.scandir(exp / "run") if entry.name[0] != "." and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{exp} is not an EXP: it has no directory run") from None
    return [Path(entry.path) for entry in sorted(entries, key=lambda entry: natural_order(entry.name))]


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key of a name with numbers in it."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"([0-9]+)|([^0-9]+)", name)]


def read_parameters(run: Path, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The `k=v` lines of the RUN's parameters.txt, all or those of `keys`.

    A value that is no Python literal remains text.
    """
    wanted = "|".join(map(re.escape, keys)) if keys else "[^=\n]+"
    parameters: dict[str, Any] = {}
    for key, value in re.findall(rf"^({wanted})=(.*)$", read_text(run / "parameters.txt") or "", re.MULTILINE):
        try:
            parameters[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[key] = value.strip("'")
    return parameters


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a RUN's test set is made of: `partition` by_drug, by_cell or random; `name` of the drug or cell."""

    partition: str | None
    index: int | None
    name: str | None


def read_held_out(run: Path) -> HeldOut:
    """From the record that hed_setup leaves in the RUN; the original system has only its parameters."""
    record = read_dict(run / "partition.json") or read_parameters(run, ("partition", "index"))
    partition, index, name = (record.get(key) for key in ("partition", "index", "name"))
    return HeldOut(
        partition if isinstance(partition, str) else None,
        index if isinstance(index, int) else None,
        name if isinstance(name, str) else None,
    )


def read_history(run: Path) -> dict[str, list[float]]:
    """Metrics per epoch from history.txt; lists that hold anything but numbers and gaps (as NaN) are left out."""
    history = {}
    for metric, values in read_dict(run / "history.txt").items():
        if isinstance(values, list) and all(value is None or isinstance(value, (int, float)) for value in values):
            history[metric] = [float("nan") if value is None else float(value) for value in values]
    return history


class Saved(NamedTuple):
    """Record of a checkpoint: `epoch` by its directory's name, `best` metric so far, `time` of writing (Unix time).

    `first`: it is the first that its job has written of the RUN. `metric`: which one `best` is of, None where the
    record does not say.
    """

    epoch: int
    best: float | None
    time: float | None
    first: bool
    metric: str | None = None


def checkpoints(run: Path) -> list[Saved]:
    """The ckpt-info.json of each saved epoch, in order. It stays when the epoch's model is cleaned away."""
    found = []
    for epoch, info in _checkpoint_infos(run):
        text = read_text(info)
        if text is not None:
            content = parse_json(text)
            content = content if isinstance(content, dict) else {}
            best = content.get("best_metric_last")
            best = float(best) if isinstance(best, (int, float)) else None
            first = content.get("time_elapsed") == "__FIRST__"
            metric = content.get("save_best_metric")
            metric = metric if isinstance(metric, str) else None
            found.append(Saved(epoch, best, unix_time(content.get("timestamp")), first, metric))
    return found


def all_checkpoints(exp: Path) -> dict[Path, list[Saved]]:
    """Those of each RUN, by its directory. FileNotFoundError if `exp` is no EXP."""
    return {run: checkpoints(run) for run in run_directories(exp)}


def checkpoint_directory(run: Path) -> Path:
    """`ckpts`, or where ckpt_directory names another place, the link that the RUN leaves there for CANDLE's tools."""
    own = run / "ckpts"
    return own if os.path.lexists(own) else run / "output" / "ckpts"


def _checkpoint_infos(run: Path) -> list[tuple[int, str]]:
    """Epochs in order, and where the record of each is if it has one."""
    # Strings, not Path: an EXP of 770 RUNs has 15,400 of these, and joining Paths would take most of the time.
    epochs = f"{checkpoint_directory(run)}/epochs"
    try:
        names = [name for name in os.listdir(epochs) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return []
    return sorted((int(name), f"{epochs}/{name}/ckpt-info.json") for name in names)


def _read_run(path: Path) -> Run:
    held_out = read_held_out(path)
    result = (read_text(path / "result.txt") or "").strip() or None
    run = Run(
        path.name,
        path,
        partition=held_out.partition,
        index=held_out.index,
        held_out=held_out.name,
        epochs=_epochs(path, failed=result == FAILED_RESULT),
        result=result,
        val=_read_scores(path / "val_scores.json"),
        test=_read_scores(path / "test_scores.json"),
    )
    if path.is_dir():
        run.status = {None: "unfinished", FAILED_RESULT: "failed"}.get(run.result, "done")
    return run


def _read_scores(path: Path) -> dict[str, Any]:
    # One NaN would be the best and the median of all RUNs.
    return {name: finite(score) for name, score in read_dict(path).items()}


def _epochs(run: Path, failed: bool) -> int | None:
    # The history of a RUN that was resumed by the original system begins at the resume; the JSON of each
    # epoch stays when its model is cleaned away, but there may be no checkpoints at all.
    history = read_history(run)
    length = max(map(len, history.values()), default=0)
    if length == 1 and "loss" not in history:
        length = 0  # {"val_loss": [0.1]} is what a model leaves that returned a score and has no epochs
    if failed and length:
        length -= 1  # the last is the one in which training diverged
    saved = (epoch for epoch, info in reversed(_checkpoint_infos(run)) if os.path.exists(info))  # noqa: PTH110
    return max(length, next(saved, 0)) or None


def _apply_journal(runs: dict[str, Run], journal: list[dict[str, Any]], alive: bool) -> None:
    for run in runs.values():
        run.status = "waiting"
    for event in journal:
        run_id = event.get("id")
        if event["event"].startswith("run_") and isinstance(run_id, str) and run_id in runs:
            _apply_event(runs[run_id], event)
    if not alive:  # a job that was killed writes no last event
        for run in runs.values():
            if run.status == "running":
                run.status = "interrupted"


def _apply_event(run: Run, event: dict[str, Any]) -> None:
    run.seconds = event.get("seconds", run.seconds)
    run.reason = event.get("message") or event.get("reason")
    match event["event"]:
        case "run_started":
            run.status = "running"
            run.seconds = None
        case "run_skipped":
            run.status = "skipped"
        case "run_interrupted":
            run.status = "interrupted"
        case "run_failed":
            run.status = "failed" if event.get("final", True) else "waiting"
        case "run_done":
            run.status = "done"
            value = event.get("value")
            if isinstance(value, dict):
                run.epochs = value.get("epochs") or run.epochs
