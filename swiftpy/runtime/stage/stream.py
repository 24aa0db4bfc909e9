"""A stream of bytes from a few readers to every rank, where reading, network and consuming overlap.

The stream is cut in chunks. Chunk c is read by one of the readers and handed down a binary tree of the ranks that has
this reader as its root; all ranks hold a ring of buffers, so memory is bounded, and a slow rank slows the readers.
With an even number of readers half of the trees have a rank among their inner nodes and half among their leaves: no
rank sends more than about one stream.
"""

from __future__ import annotations

import contextlib
import mmap
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from swiftpy.runtime.group import Group
from swiftpy.runtime.signals import requested

if TYPE_CHECKING:
    from mpi4py import MPI

#: Each costs every rank some messages and looks, whatever its size.
CHUNK = 4 << 20
#: Of buffers, on every rank: 160 MiB.
_MOST = 40
READERS = 4
#: Before the payload, so that a message can say that there is none; 64 bytes keep the payload aligned.
_HEADER = 64
_DATA, _VOID = 1, 2
#: Seconds between two looks. Where leaders share cores, looking takes them from the copying.
PAUSE = 1e-3
_EVERY = 10.0  # seconds between two lines on the progress
_STOP_TAG = 32767  # the largest that every MPI allows
_CHUNK_TAGS = 32000

#: Fills the view with the stream's bytes from the offset on.
Read = Callable[[int, memoryview], None]
#: Takes the stream's pieces in order; a piece is valid until the next is asked for.
Consume = Callable[[Iterator[memoryview]], None]


def broadcast(group: Group, length: int, read: Read, consume: Consume) -> None:
    """Bring `length` bytes to every rank. GroupError on all ranks if reading or consuming fails on one, or
    a signal has asked one to end.

    `read` is called in a thread on the ranks that are readers, `consume` in a thread on all.
    """
    count = min(READERS, group.size)
    roots = [index * group.size // count for index in range(count)]
    Schedule(group, length, roots, _Source(read) if group.rank in roots else None, _Sink(consume)).run()


class Schedule:
    """One rank's side: what it reads, receives, sends and hands over, and when.

    `roots` are the readers, of which this rank is one if it has a `source`.

    Every chunk is delivered on every rank, so no rank can wait for one that never comes. After a failure the chunks are
    void, a header without payload, and the stream is over as many chunks after the first void one as a rank has
    buffers: no rank can have begun with a later one, as it needs the buffer of this one for that.
    """

    def __init__(self, group: Group, length: int, roots: Sequence[int], source: _Source | None, sink: _Sink) -> None:
        self._group, self._comm = group, group.comm
        self._length, self._count = length, -(-length // CHUNK)
        self._roots, self._source, self._sink = roots, source, sink
        self._buffers = _buffers(min(buffers(group.size), self._count), _HEADER + min(CHUNK, length))
        #: Whether a chunk that was asked for is there; and the next one of each reader: they come in this order.
        self._coming: dict[int, Callable[[], bool]] = {}
        self._next = list(range(len(roots)))
        self._sending: dict[int, list[MPI.Request]] = {}
        self._full: set[int] = set()
        self._posted = self._finished = self._handed_over = 0
        self._told_others = False
        self._notices: list[MPI.Request] = []

    def run(self) -> None:
        """Work until the stream has ended on all ranks; GroupError as for `broadcast`."""
        next_line = time.monotonic() + _EVERY
        while self._finished < self._count:
            if self._group.rank == 0 and time.monotonic() > next_line:
                next_line += _EVERY
                print(f"staging: {self._finished * CHUNK / 1e9:.1f} of {self._length / 1e9:.1f} GB", flush=True)
            if not self.advance():
                time.sleep(PAUSE)
        self._sink.close()
        if self._source:
            self._source.close()
        self._agree()

    def advance(self) -> bool:
        """Do what can be done now; False if that was nothing."""
        self._heed_failures()
        return self._retire() + self._post() + self._take_in() + self._hand_over() > 0

    def _retire(self) -> int:
        """Free the buffers of chunks that were consumed and passed on."""
        before = self._finished
        while self._finished < self._handed_over and self._finished < self._sink.consumed:
            if not all(request.Test() for request in self._sending.get(self._finished, [])):
                break
            self._sending.pop(self._finished, None)
            self._finished += 1
        return self._finished - before

    def _post(self) -> int:
        before = self._posted
        while self._posted < min(self._count, self._finished + len(self._buffers)):
            chunk, root = self._posted, self._root(self._posted)
            if root == self._group.rank:
                assert self._source is not None
                self._coming[chunk] = self._source.start(chunk * CHUNK, self._view(chunk)).is_set
            else:
                parent = self._real((self._virtual(root) - 1) // 2, root)
                self._coming[chunk] = self._comm.Irecv(self._view(chunk), parent, chunk % _CHUNK_TAGS).Test
            self._posted += 1
        return self._posted - before

    def _take_in(self) -> int:
        """Pass on what has been read or has arrived, in the order in which all need it."""
        arrived = []
        for index, chunk in enumerate(self._next):
            while chunk in self._coming and self._coming[chunk]():
                arrived.append(chunk)
                chunk += len(self._roots)
            self._next[index] = chunk
        for chunk in sorted(arrived):
            del self._coming[chunk]
            self._full.add(chunk)
            self._pass_on(chunk)
        return len(arrived)

    def _pass_on(self, chunk: int) -> None:
        message, root = self._view(chunk), self._root(chunk)
        if message[0] == _VOID:
            message = message[:_HEADER]
            self._count = min(self._count, chunk + len(self._buffers))
        first = 2 * self._virtual(root) + 1
        children = [self._real(v, root) for v in (first, first + 1) if v < self._group.size]
        self._sending[chunk] = [self._comm.Isend(message, child, chunk % _CHUNK_TAGS) for child in children]

    def _hand_over(self) -> int:
        before = self._handed_over
        while self._handed_over in self._full:
            self._full.remove(self._handed_over)
            view = self._view(self._handed_over)
            if view[0] == _VOID:
                self._sink.abandon()
            self._sink.put(view[_HEADER:])
            self._handed_over += 1
        return self._handed_over - before

    def _heed_failures(self) -> None:
        """Tell the readers of a failure here; as a reader, hear of others'. A void chunk is news of one, too."""
        if self._sink.error and not self._told_others:
            self._told_others = True
            self._notices = [self._comm.isend(None, root, _STOP_TAG) for root in self._roots]
        if self._source and (self._sink.abandoned or self._comm.iprobe(tag=_STOP_TAG)):
            self._source.void()

    def _agree(self) -> None:
        error = self._sink.error or (self._source.error if self._source else None)
        answers = self._group.gather((error and self._group.reason("stage", error), self._told_others))
        if self._source:  # nothing may stay under way when the communicator goes on to the next stream
            for _ in range(sum(told for _, told in answers)):
                self._comm.recv(tag=_STOP_TAG)
        for notice in self._notices:
            notice.wait()
        self._group.agree(answers[self._group.rank][0])

    def _view(self, chunk: int) -> memoryview:
        return self._buffers[chunk % len(self._buffers)][: _HEADER + min(CHUNK, self._length - chunk * CHUNK)]

    def _root(self, chunk: int) -> int:
        return self._roots[chunk % len(self._roots)]

    def _virtual(self, root: int) -> int:
        return (self._group.rank - root) % self._group.size

    def _real(self, virtual: int, root: int) -> int:
        return (virtual + root) % self._group.size


def buffers(ranks: int) -> int:
    """How many chunks a rank has room for, the same on all: those that can be on their way down the tree at once.

    With fewer, links stand idle, such as those of 200 nodes with 16 where links are as slow as disks
    (tests/stage/test_schedule.py). The constant is for ranks that share cores, and look late.
    """
    levels = ranks.bit_length() - 1
    return min(8 + 4 * levels, _MOST)


def _buffers(count: int, size: int) -> list[memoryview]:
    """In large pages where the system has them: fewer to make, and to look up for each copy between two processes."""
    room = -(-size // _HEADER) * _HEADER
    memory = mmap.mmap(-1, max(count * room, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return [memoryview(memory)[n * room : n * room + size] for n in range(count)]


class _Source:
    """A reader's thread."""

    def __init__(self, read: Read) -> None:
        self.error: Exception | None = None
        self._read = read
        self._void = False
        self._orders: queue.SimpleQueue[tuple[int, memoryview, threading.Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stage-read", daemon=True)
        self._thread.start()

    def start(self, offset: int, view: memoryview) -> threading.Event:
        """Fill a buffer, header and all; the event is set when that is done."""
        done = threading.Event()
        self._orders.put((offset, view, done))
        return done

    def void(self) -> None:
        """Read no more."""
        self._void = True

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            offset, view, done = order
            try:
                if not self._void:
                    self._read(offset, view[_HEADER:])
            except Exception as error:
                self.error, self._void = error, True
            view[0] = _VOID if self._void else _DATA
            done.set()


class _Sink:
    """A rank's consuming thread. `consumed` pieces have been used up; after a failure, all that come are."""

    def __init__(self, consume: Consume) -> None:
        self.consumed = 0
        self.error: Exception | None = None
        self.abandoned = False
        self._ended = False
        self._pieces: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(consume,), name="stage-write", daemon=True)
        self._thread.start()

    def put(self, piece: memoryview) -> None:
        self._pieces.put(piece)

    def abandon(self) -> None:
        """What comes from now on is not the stream: another rank failed."""
        self.abandoned = True

    def close(self) -> None:
        self._pieces.put(None)
        self._thread.join()

    def _run(self, consume: Consume) -> None:
        pieces = self._iterate()
        try:
            consume(pieces)
        except _AbandonedError:
            pass
        except Exception as error:
            self.error = error
        # The ranks below and the readers must not wait for a rank that needs no more or has failed.
        pieces.close()
        while not self._ended:
            if self._pieces.get() is None:
                return
            self.consumed += 1

    def _iterate(self) -> Generator[memoryview, None, None]:
        while (piece := self._pieces.get()) is not None:
            try:
                if self.abandoned:
                    raise _AbandonedError
                if reason := requested():  # 16 GB take longer than a scheduler waits between SIGTERM and SIGKILL
                    raise InterruptedError(None, f"the job was told to end ({reason})")
                yield piece
            finally:
                self.consumed += 1
        self._ended = True


class _AbandonedError(Exception):
    """Ends a consumer whose stream another rank has broken."""
