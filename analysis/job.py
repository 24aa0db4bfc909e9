"""What an EXP directory says of its job: journal, provenance, input files, logs, whether it is still alive.

Gaps and torn files are normal in an EXP: they give None or nothing, never an exception.
"""

import json
import math
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

DEAD_SECONDS = 60  # our server touches its lock every 10 s
QUIET_SECONDS = 900
TAIL_BYTES = 1 << 16


def read_text(path: Path | str) -> str | None:
    """The file's text, bytes that are no UTF-8 replaced; None without the file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return None


def read_tail(path: Path) -> str:
    """The last TAIL_BYTES of a file of any length as text; "" without the file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def parse_json(text: str | bytes | None) -> Any:
    """The JSON value, None where there is none or it is torn."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def read_dict(path: Path) -> dict[str, Any]:
    """The file's JSON object; {} where there is none."""
    content = parse_json(read_text(path))
    return content if isinstance(content, dict) else {}


def finite(value: Any) -> Any:
    """The value, None in the place of NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_journal(exp: Path) -> Iterator[dict[str, Any]]:
    """The events of journal.jsonl in order, torn lines left out; nothing in an EXP of the original system."""
    try:
        data = (exp / "journal.jsonl").read_bytes()
    except OSError:
        return
    for line in data.splitlines():
        event = parse_json(line)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def is_alive(exp: Path) -> bool:
    """Whether a job works on the EXP: it removes its lock at the end, and touches it every 10 s until then.

    The original system has no lock: its job is at work while its logs grow.
    """
    if (exp / "journal.jsonl").exists():
        return time.time() - (last_sign(exp) or 0.0) < DEAD_SECONDS
    if "EXIT CODE" in settings(exp) or walltime_message(exp):
        return False
    return time.time() - max((log.stat().st_mtime for log in logs(exp / "out")), default=0.0) < QUIET_SECONDS


def last_sign(exp: Path) -> float | None:
    """When the job at work on the EXP was last alive (Unix time); None when it has ended by itself."""
    try:
        return (exp / "lock.json").stat().st_mtime
    except OSError:
        return None


def waiting(exp: Path) -> str | None:
    """What to say of a batch job that was submitted and has not begun; None of any other."""
    events = list(read_journal(exp))
    if not events or events[-1]["event"] != "job_submitted" or last_sign(exp) is not None:
        return None
    return f"job {events[-1].get('jobid')} was submitted to {events[-1].get('site')} and has not begun"


def settings(exp: Path) -> dict[str, str]:
    """`KEY: value` lines of turbine.log, and of the end of output.txt, where Swift/T writes how the job ended."""
    found: dict[str, str] = {}
    for text in (read_tail(exp / "output.txt"), read_text(exp / "turbine.log") or ""):
        for line in text.splitlines():
            if match := re.match(r"\s*([A-Z][A-Z_ ]*[A-Z]):\s+(.*\S)", line):
                found[match[1]] = match[2]
    return found


def unix_time(text: object) -> float | None:
    """Of a date and time as logs and records have them, local time; None where it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def job_id(exp: Path) -> str:
    """The scheduler's job id up to its first dot, as people type it; "" where none is recorded."""
    return (read_text(exp / "jobid.txt") or "").strip().split(".")[0]


def walltime_message(exp: Path) -> str | None:
    """What the scheduler wrote to output.txt when it ended the job for its walltime."""
    found = re.findall(r"walltime .* exceeded limit.*", read_tail(exp / "output.txt"))
    return str(found[-1]).strip() if found else None


def inputs(exp: Path) -> tuple[Path | None, Path | None]:
    """The copies of UPF and DFLTS in the EXP: the journal knows which is which, else the names tell."""
    for event in read_journal(exp):
        if event["event"] in ("job_submitted", "job_started") and "upf" in event:
            upf, dflts = event.get("upf"), event.get("dflts")
            return (exp / upf if isinstance(upf, str) else None, exp / dflts if isinstance(dflts, str) else None)
    files = sorted(path for path in exp.glob("*.json") if path.name != "lock.json")
    named = [path for path in files if path.name.startswith("dflts")]
    upf_files = [path for path in files if path not in named and next(upf_lines(path), None)]
    dflts_files = named or [path for path in files if path not in upf_files and read_dflts(path) is not None]
    return (upf_files[0] if upf_files else None, dflts_files[0] if dflts_files else None)


def upf_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The parameter sets of a UPF that name a RUN; comments, blank and damaged lines are passed over."""
    for line in (read_text(path) or "").split("\n"):  # splitlines() cuts at U+2028 too, which JSON may hold
        try:
            params, _ = json.JSONDecoder().raw_decode(line.strip("\ufeff \t"))
        except (ValueError, RecursionError):
            continue
        if isinstance(params, dict) and isinstance(params.get("id"), str):
            yield params


def read_dflts(path: Path) -> dict[str, Any] | None:
    """The JSON object of a DFLTS, with a BOM or comments around it or without; None where the file is none."""
    lines = (read_text(path) or "").removeprefix("\ufeff").split("\n")
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).strip()
    try:
        params, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    rest = text[end:].lstrip()
    return params if isinstance(params, dict) and (not rest or rest[0] == "#") else None


def logs(out: Path) -> list[Path]:
    """The output of each rank in the directory `out`: out-NNN.txt, or where only that is left summary-NNN.txt."""
    found = {path.name.removeprefix("summary-"): path for path in out.glob("summary-*.txt")}
    found |= {path.name.removeprefix("out-"): path for path in out.glob("out-*.txt")}
    return [found[name] for name in sorted(found)]


def log_rank(log: Path) -> int | None:
    """The rank whose output the file holds."""
    number = log.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else None
