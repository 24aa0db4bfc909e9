"""Reader of EXP directories, ours and those of the original Swift/T workflow, finished or not.

Gaps, failed RUNs and torn files are normal in an EXP: they make a field None, never an exception.
"""

import ast
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAILED_RESULT = "RUN_EXCEPTION"
DEAD_SECONDS = 60


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
    """All RUNs of the EXP, in the order of its UPF where that is known, else sorted by id.

    FileNotFoundError if `exp` is no EXP: it has no directory `run`.
    """
    directory = exp / "run"
    if not directory.is_dir():
        raise FileNotFoundError(f"{exp} is not an EXP: it has no directory run")
    journal = list(read_journal(exp))
    started = sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")
    ids = dict.fromkeys([*_upf_ids(exp, journal), *started])
    runs = {run_id: _read_run(directory / run_id) for run_id in ids}
    if journal:
        _apply_journal(runs, journal, _is_alive(exp))
    return list(runs.values())


def read_journal(exp: Path) -> Iterator[dict[str, Any]]:
    """The events of journal.jsonl in order, torn lines left out; nothing in an EXP of the original system."""
    try:
        data = (exp / "journal.jsonl").read_bytes()
    except FileNotFoundError:
        return
    for line in data.splitlines():
        event = _json(line)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def read_parameters(run: Path) -> dict[str, Any]:
    """The `k=v` lines of the RUN's parameters.txt; a value that is no Python literal remains text."""
    parameters: dict[str, Any] = {}
    for line in (_text(run / "parameters.txt") or "").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            try:
                parameters[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                parameters[key] = value.strip("'")
    return parameters


def _read_run(path: Path) -> Run:
    record = _dict(path / "partition.json") or read_parameters(path)
    result = _text(path / "result.txt")
    index, name = record.get("index"), record.get("name")
    run = Run(
        path.name,
        path,
        partition=record.get("partition"),
        index=index if isinstance(index, int) else None,
        held_out=name if isinstance(name, str) else None,
        epochs=_epochs(path),
        result=result.strip() if result else None,
        val=_dict(path / "val_scores.json"),
        test=_dict(path / "test_scores.json"),
    )
    if path.is_dir():
        run.status = {None: "unfinished", FAILED_RESULT: "failed"}.get(run.result, "done")
    return run


def _epochs(run: Path) -> int | None:
    # The history of a RUN that was resumed by the original system begins at the resume; the JSON of each
    # epoch stays when its model is cleaned away, but there may be no checkpoints at all.
    lengths = [len(values) for values in _dict(run / "history.txt").values() if isinstance(values, list)]
    names = [info.parent.name for info in run.glob("ckpts/epochs/*/ckpt-info.json")]
    saved = [int(name) for name in names if name.isdecimal()]
    return max(lengths + saved, default=None)


def _is_alive(exp: Path) -> bool:
    """Whether a job works on the EXP: it removes its lock at the end, and touches it every 10 s until then."""
    try:
        return time.time() - (exp / "lock.json").stat().st_mtime < DEAD_SECONDS
    except FileNotFoundError:
        return False


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
        case "run_skipped":
            run.status = "skipped"
        case "run_interrupted":
            run.status = "interrupted"
        case "run_failed":
            run.status = "failed" if event.get("final", True) else "waiting"
        case "run_done":
            value = event.get("value")
            value = value if isinstance(value, dict) else {}
            run.status = "skipped" if value.get("status") == "skip" else "done"
            run.reason = value.get("reason") or None
            run.epochs = value.get("epochs") or run.epochs


def _upf_ids(exp: Path, journal: list[dict[str, Any]]) -> Iterator[str]:
    names = [event["upf"] for event in journal if isinstance(event.get("upf"), str)]
    text = _text(exp / names[-1]) if names else None
    for line in (text or "").splitlines():
        try:
            params, _ = json.JSONDecoder().raw_decode(line.strip("\ufeff \t"))
        except ValueError:  # a comment or an empty line
            continue
        if isinstance(params, dict) and isinstance(params.get("id"), str):
            yield params["id"]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _json(text: str | bytes | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def _dict(path: Path) -> dict[str, Any]:
    content = _json(_text(path))
    return content if isinstance(content, dict) else {}
