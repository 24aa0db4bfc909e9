"""What rank 0 makes of its servers' answers and needs."""

import pytest

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.distribution import Distribution
from swiftpy.core.task import Kind, Seat, Target, Task


def servers(count):
    """As many servers, each with two workers on a node of its own."""
    groups = {server: {10 * server + i: Seat(f"node{server}") for i in range(2)} for server in range(1, count + 1)}
    return Distribution(groups, Dependencies())


def test_what_is_said_of_calls_that_a_server_does_not_hold_counts_for_nothing():
    """They were given to it once more, or to another, since it sent that."""
    distribution = servers(2)
    distribution.add(Task(5, Kind("f"), [0] * 4, 4))
    distribution.want(1, 4, idle=True)
    for server, first, attempt, calls in ((1, 5, 0, 2), (1, 5, 2, 2), (1, 8, 1, 2), (1, 4, 1, 1), (2, 5, 1, 1)):
        assert distribution.release(server, first, attempt, calls) is None
    assert [(task.id, task.count) for _, task in distribution.held()] == [(5, 4)]
    assert distribution.release(1, 6, 1, 2).id == 6
    assert [(task.id, task.count) for _, task in distribution.held()] == [(5, 1), (8, 1)]


@pytest.mark.parametrize("soft", [True, False])
def test_a_preference_for_what_nobody_has_is_no_condition(soft):
    lacks = servers(2).lacks(Task(1, Kind("f", target=Target(node="elsewhere", soft=soft)), [0]))
    assert lacks == (None if soft else "it wants a worker of node elsewhere")


def test_a_server_that_is_gone_gets_and_holds_nothing():
    distribution = servers(2)
    task = Task(1, Kind("f"), [0])
    distribution.want(1, 3, idle=True)
    distribution.add(task)
    distribution.want(1, 1, idle=True)
    assert distribution.lose(1) == ([task], []) and distribution.empty
    assert distribution.want(1, 1, idle=True) == distribution.add(Task(2, Kind("f"), [0])) == []
    assert distribution.orphans(1) == [] and not distribution.hungry
    assert distribution.release(1, 1, 1, 1) is None
    (start,) = distribution.want(2, 1, idle=True)
    assert start.worker == 2
    distribution.lose(2)
    late = Task(3, Kind("f"), [0])
    distribution.add(late)
    assert distribution.orphans(2) == [late]


def test_a_preference_yields_to_idle_workers_but_not_to_busy_ones():
    """Else what an idle server stole from a near one, which wants more, would go back there again and again."""
    near = Kind("f", target=Target(node="node3", soft=True))
    for idle, taker in ((False, 3), (True, 2)):
        distribution = servers(3)
        for server in (1, 2, 3):
            distribution.want(server, 4, idle=idle and server == 2)
        assert [start.worker for start in distribution.add(Task(1, near, [0]))] == [taker]


def test_parallel_calls_go_where_the_least_is():
    distribution = servers(3)
    pairs = [distribution.add(Task(number, Kind("f", ranks=2), [0])) for number in range(4)]
    assert [[start.worker for start in commands] for commands in pairs] == [[1], [2], [3], [1]]
    (start,) = distribution.add(Task(9, Kind("f", ranks=2, target=Target(node="node1")), [0]))
    assert start.worker == 1
