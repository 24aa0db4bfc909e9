"""A simulated job with several servers: the real group servers, each with its workers and a time of its own."""

from __future__ import annotations

import itertools
import math
import pickle
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

from swiftpy.core.events import StopWorker
from swiftpy.core.task import Seat
from swiftpy.runtime.call import Payload, load_parts
from swiftpy.runtime.groupserver import GroupServer
from swiftpy.runtime.order import Order
from swiftpy.runtime.transport import SERVER, Transport
from swiftpy.sim.cluster import Cluster, weight
from swiftpy.sim.conditions import Conditions

#: In a server's calendar: it looks at what has come.
_TURN, _TIMER = object(), object()


def divide(seats: Mapping[int, Seat], servers: int) -> dict[int, dict[int, Seat]]:
    """The workers of so many servers, whose ranks come after those of the workers."""
    ranks, last = sorted(seats), max(seats)
    ends = [number * len(ranks) // servers for number in range(servers + 1)]
    return {
        last + 1 + number: {rank: seats[rank] for rank in ranks[start:stop]}
        for number, (start, stop) in enumerate(itertools.pairwise(ends))
    }


def make_cluster(seats: Mapping[int, Seat], servers: int, seconds: Sequence[float], conditions: Conditions) -> Cluster:
    """The workers in these seats: under one server, or shared by so many."""
    if servers > 1:
        return GroupCluster(divide(seats, servers), seconds, conditions)
    return Cluster(seats, seconds, conditions)


class _Port(Transport):
    """A group server's transport: what came and was not looked at, and what it sends in this turn."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.inbox: deque[Any] = deque()
        self.sent: list[tuple[int, Any]] = []
        self.now = 0.0
        self.free = 0.0  # when it has done what it is at
        self.turn = self.timer = False  # one is in the calendar
        self.taken = 0.0  # handlings of what it took in

    def send(self, dest: int, message: Any) -> None:
        """See Transport."""
        self.sent.append((dest, message))

    def recv(self, timeout: float, also: Sequence[int] = ()) -> Any | None:
        """See Transport."""
        if not self.inbox:
            return None
        message = self.inbox.popleft()
        self.taken += weight(message)
        return message


class GroupCluster(Cluster):
    """See Cluster; `groups` are the workers of each server, by its rank."""

    def __init__(
        self, groups: Mapping[int, Mapping[int, Seat]], seconds: Sequence[float], conditions: Conditions
    ) -> None:
        super().__init__({rank: seat for group in groups.values() for rank, seat in group.items()}, seconds, conditions)
        self.groups = groups
        self._latest = 0.0
        self._server_of = {rank: server for server, group in groups.items() for rank in group}
        self._ports = {server: _Port(server) for server in groups}
        self.servers = {server: self._make(self._ports[server], group) for server, group in groups.items()}
        for server in groups:
            self._call(server, 0.0)

    def _make(self, port: _Port, group: Mapping[int, Seat]) -> GroupServer:
        return GroupServer(port, group, lambda: None, lambda: port.now)

    def payload(self, calls: Sequence[int]) -> Payload:
        """See Cluster."""
        return None, pickle.dumps(list(calls)), None

    def send(self, dest: int, message: Any) -> None:
        """See Transport."""
        if dest not in self.servers:
            super().send(dest, message)
        else:
            self.messages += 1
            self._sent.append((dest, message))

    def _post(self, sent: float, rank: int, message: Any) -> None:
        if rank in self.servers:
            self._at(sent + self._latency, rank, message)
        elif type(message) is Order:
            _, parts, _ = message.payload
            super()._post(sent, rank, message._replace(payload=cast(Payload, load_parts(parts))))
        else:
            if type(message) is StopWorker:
                self.stopped.add(rank)
            super()._post(sent, rank, message)

    def _tell(self, rank: int, message: Any) -> None:
        server = self._server_of[rank]
        self._ports[server].inbox.append(message)
        self._call(server, self._latest)

    def _happen(self, when: float, rank: int, what: Any) -> None:
        self._latest = when
        if rank == SERVER:
            self._inbox.append(what)
            more = weight(what) - 1
            self.handlings += more
            self.now += more * self._handling
        elif rank not in self.servers:
            super()._happen(when, rank, what)
        elif what is _TURN:
            self._take_turn(when, rank)
        elif what is _TIMER:
            self._ports[rank].timer = False
            self._call(rank, when)
        else:
            self._ports[rank].inbox.append(what)
            self._call(rank, when)

    def _call(self, server: int, when: float) -> None:
        port = self._ports[server]
        if not port.turn:
            port.turn = True
            self._at(max(when, port.free), server, _TURN)

    def _take_turn(self, when: float, server: int) -> None:
        port = self._ports[server]
        port.turn, port.taken, port.now = False, 0.0, when
        self.servers[server].progress(0.0)
        port.free = when + port.taken * self._handling
        for dest, message in port.sent:
            port.free += weight(message) * self._handling
            if dest == SERVER:
                self._at(port.free + self._latency, SERVER, message)
            else:
                for each in message if type(message) is list else (message,):
                    self._post(port.free, dest, each)
        port.sent.clear()
        if port.inbox:
            self._call(server, when)
        elif self.servers[server].patience < math.inf and not port.timer:
            port.timer = True
            self._at(when + self.servers[server].patience, server, _TIMER)
