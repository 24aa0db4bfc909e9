"""Types of command line arguments that say what they expect; argparse puts the option's name before it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", int, float)


def whole(least: int, why: str = "") -> Callable[[str], int]:
    """Whole numbers of `least` or more; `why` there is a least one, for people."""
    return _type(int, lambda value: value >= least, f"a whole number from {least} on{why and f': {why}'}")


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Numbers for which `fits`, described as `expected`: "a number of seconds"."""
    return _type(float, fits, expected)


def _type(read: Callable[[str], T], fits: Callable[[T], bool], expected: str) -> Callable[[str], T]:
    def argument(text: str) -> T:
        try:
            value = read(text)
        except ValueError:
            pass
        else:
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")

    return argument
