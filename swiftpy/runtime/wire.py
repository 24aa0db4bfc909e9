"""The form in which messages are pickled: named tuples as plain ones that begin with a number for their class.

Pickled by the name of their class, they take three times as long.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from swiftpy.core.events import Command, Event
from swiftpy.runtime.order import Assignment, Order, Report, Taken
from swiftpy.runtime.store import Reference


class Announced(NamedTuple):
    """The parts of a `DataSent` follow, of these sizes in bytes."""

    reference: Reference
    sizes: list[int]


#: The engine's messages. Others, such as those of `flow`, are pickled as they are.
_KINDS: tuple[Any, ...] = (Order, Assignment, Report, Taken, Announced, *get_args(Event), *get_args(Command))
_INDEX = {kind: index for index, kind in enumerate(_KINDS)}


def plain(message: Any) -> Any:
    """A message, or a list of some, as it is pickled."""
    if type(message) is list:
        return [plain(each) for each in message]
    index = _INDEX.get(type(message))
    return message if index is None else (index, *message)


def restored(message: Any) -> Any:
    """The message that was made plain."""
    if type(message) is tuple:
        return tuple.__new__(_KINDS[message[0]], message[1:])  # its `_make` takes five times as long
    return [restored(each) for each in message] if type(message) is list else message
