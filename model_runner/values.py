"""What values of parameters have to be."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: By parameter: whether a value fits, and what is expected, for people.
Rules = Mapping[str, tuple[Callable[[Any], bool], str]]


def wrong(params: Mapping[str, Any], rules: Rules) -> Iterator[tuple[str, str]]:
    """(parameter, one line) for each value that does not fit."""
    for key, (fits, expected) in rules.items():
        if key in params and not fits(params[key]):
            yield key, f"{key} must be {expected}, not {params[key]!r}"


def is_integer(value: Any) -> bool:
    """Whether it is an integer; in JSON, true is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer_from(low: int) -> Callable[[Any], bool]:
    """For integers of `low` or more."""
    return lambda value: is_integer(value) and value >= low


def is_number(value: Any) -> bool:
    """Whether it is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_boolean(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_name(value: Any) -> bool:
    """Whether it is a text, and not an empty one."""
    return isinstance(value, str) and bool(value)


def one_of(*names: str) -> Callable[[Any], bool]:
    """For these texts."""
    return lambda value: value in names
