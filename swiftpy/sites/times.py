"""Lengths of time, as schedulers write them and as people read them."""

from __future__ import annotations

import re

_DAYS = re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?")
_CLOCK = re.compile(r"((?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")
_UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def seconds(text: str) -> float | None:
    """[HOURS:]MINUTES:SECONDS or DAYS-HOURS[:MINUTES[:SECONDS]] in seconds; None for anything else."""
    match = _DAYS.fullmatch(text) or _CLOCK.fullmatch(text)
    if match is None:
        return None
    return float(sum(int(value) * _UNITS[unit] for unit, value in match.groupdict().items() if value))


def clock(length: float) -> str:
    """Seconds as HOURS:MINUTES:SECONDS, which every scheduler reads."""
    minutes, second = divmod(round(length), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"


def duration(length: float) -> str:
    """Seconds as people read them: 7.5 s, 4:05, 3:07:09."""
    if length < 60:
        return f"{length:.1f} s"
    minutes, second = divmod(round(length), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
