"""Large values stay where they were made; who needs one fetches it from there, not through the server.

A value is held by one rank under a key: a result by the worker that made it, under its call's id; arguments by the rank
that submitted them. What travels in its place is its name, in two forms: in a result it becomes a `Stored`, which owns
the value (when the last reference to it goes, the holder is told to forget the value), and in arguments it becomes the
value itself, fetched when they are unpickled. Python's reference counts are thus the job's.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

#: Bytes from which on a value is not sent along with its message.
LARGE = 64 * 1024

#: Pickles as `pickle.dumps` does.
Dumps = Callable[..., bytes]


class Reference(NamedTuple):
    """What a value is called in the whole job: the rank that holds it, and its key there."""

    rank: int
    key: int


#: The same as a plain tuple, which is pickled in a fifth of the time.
Name = tuple[int, int]


class Packed(NamedTuple):
    """A value as it is held and sent: its pickle, and its large buffers out of band (pickle protocol 5)."""

    data: bytes | bytearray
    buffers: list[bytearray]

    def value(self) -> Any:
        """The value. It shares memory with the buffers."""
        return pickle.loads(self.data, buffers=self.buffers)

    def copy(self) -> Packed:
        """The same with buffers of its own: who gets the value may change it."""
        return Packed(self.data, [bytearray(buffer) for buffer in self.buffers])


class DataRequested(NamedTuple):
    """`rank` asks the receiver for what it holds under `key`."""

    rank: int
    key: int


class DataSent(NamedTuple):
    """What a rank held under a name; None if it holds nothing of that name (any more)."""

    reference: Reference
    packed: Packed | None


class DataDropped(NamedTuple):
    """Nobody needs what the receiver holds under `key`."""

    key: int


class LostError(RuntimeError):
    """A value is no longer where it was."""


class _InResult:
    """The form of a name in a result, see the module."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, tuple(self._reference)


class InArguments:
    """The form of a name in arguments, see the module."""

    def __init__(self, rank: int, key: int) -> None:
        self._reference = Reference(rank, key)

    def __reduce__(self) -> tuple[Any, ...]:
        return _fetched, tuple(self._reference)


class Stored:
    """A result that another rank holds, for as long as this object lives."""

    __slots__ = ("reference",)

    def __init__(self, rank: int, key: int) -> None:
        self.reference = Reference(rank, key)

    def __del__(self) -> None:
        released.append(self.reference)  # whichever thread collects the garbage: the rank tells the holder later

    def __reduce__(self) -> tuple[Any, ...]:
        return _fetched, tuple(self.reference)


#: Names that this process has dropped, and not told their holders yet.
released: deque[Reference] = deque()
_fetch: Callable[[Reference], Packed] | None = None


def fetch_with(fetch: Callable[[Reference], Packed]) -> None:
    """How this process gets what another rank holds. `fetch` raises LostError."""
    global _fetch
    _fetch = fetch


def _fetched(rank: int, key: int) -> Any:
    assert _fetch is not None, "this process cannot fetch"
    return _fetch(Reference(rank, key)).value()


def pack(value: Any, dumps: Dumps = pickle.dumps) -> bytes | Packed:
    """The value's pickle if that is small, else the value as it is to be held.

    The buffers are copied: a task may return an array that it goes on changing, such as a model's weights.
    """
    buffers: list[bytearray] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        buffers.append(bytearray(raw))
        return False

    data = dumps(value, protocol=5, buffer_callback=stays)
    return Packed(data, buffers) if buffers or len(data) >= LARGE else data


class Snapshot:
    """A large result as it was when its call returned, among others: the next call may change it."""

    __slots__ = ("packed",)

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, tuple(self.packed)


def _unpacked(*packed: Any) -> Any:
    return Packed(*packed).value()


def pack_results(values: list[Any], name: Name | None, dumps: Dumps = pickle.dumps) -> tuple[bytes, dict[int, Packed]]:
    """The pickle of a list of results, and those of them that are too large for it, by the keys that it names them by.

    The first result is called `name`, and the others have the keys after it; without a name none is too large.
    """
    if name is None:
        return dumps(values, protocol=5), {}
    rank, first = name
    held: dict[int, Packed] = {}
    named = list(values)

    def hold(index: int, packed: Packed) -> None:
        named[index], held[first + index] = _InResult(Reference(rank, first + index)), packed

    for index, value in enumerate(values):
        if type(value) is Snapshot:
            hold(index, value.packed)
    large: list[pickle.PickleBuffer] = []

    def stays(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE:
            return True
        large.append(buffer)
        return False

    data = dumps(named, protocol=5, buffer_callback=stays)
    if not large and len(data) < LARGE * len(values):
        return data, held
    for index, value in enumerate(values):
        if type(value) is not Snapshot and isinstance(packed := pack(value, dumps), Packed):
            hold(index, packed)
    return dumps(named, protocol=5), held


class Exchange:
    """What one rank holds for others, and gets from them. `send` sends a message to a rank."""

    def __init__(self, rank: int, send: Callable[[int, Any], None]) -> None:
        self._rank, self._send = rank, send
        self.held: dict[int, Packed] = {}
        self._arrived: dict[Reference, Packed | None] = {}
        self._wanted: set[Reference] = set()

    def request(self, reference: Reference) -> None:
        """Ask for a value; `arrived` then says when it is there."""
        if reference in self._arrived:
            return
        if reference.rank != self._rank:
            if reference not in self._wanted:
                self._wanted.add(reference)
                self._send(reference.rank, DataRequested(self._rank, reference.key))
            return
        mine = self.held.get(reference.key)
        self._arrived[reference] = mine and mine.copy()

    @property
    def waiting(self) -> bool:
        """Whether something that was asked for has not come."""
        return bool(self._wanted)

    @property
    def arrivals(self) -> list[Reference]:
        """All that can be taken."""
        return list(self._arrived)

    def arrived(self, reference: Reference) -> bool:
        """Whether a value that was asked for can be taken."""
        return reference in self._arrived

    def take(self, reference: Reference) -> Packed:
        """What has arrived. Raises LostError."""
        packed = self._arrived.pop(reference)
        if packed is None:
            raise LostError(f"rank {reference.rank} no longer holds the result of call {reference.key}")
        return packed

    def forget(self, reference: Reference) -> None:
        """Nobody here wants a value any more, whether it has come or not."""
        self._wanted.discard(reference)
        self._arrived.pop(reference, None)

    def handle(self, message: Any) -> bool:
        """Take in a message, if it is one of those above; whether it was."""
        if type(message) is DataSent:
            if message.reference in self._wanted:
                self._wanted.remove(message.reference)
                self._arrived[message.reference] = message.packed
        elif type(message) is DataRequested:
            packed = self.held.get(message.key)
            self._send(message.rank, DataSent(Reference(self._rank, message.key), packed))
        elif type(message) is DataDropped:
            self.held.pop(message.key, None)
        else:
            return False
        return True

    def tell_released(self) -> None:
        """Tell the holders what this process has dropped."""
        while released:
            rank, key = reference = released.popleft()
            self.forget(reference)
            if rank == self._rank:
                self.held.pop(key, None)
            else:
                self._send(rank, DataDropped(key))
