"""What rank 0 makes of its servers' answers and needs."""

import pytest

from swiftpy.core.dependencies import Dependencies
from swiftpy.core.distribution import Distribution
from swiftpy.core.events import RecallTasks
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


def test_who_is_asked_to_share():
    """Who holds several tasks, has not said that it can give none of them back, and is there."""
    distribution = servers(4)
    for server in (1, 2, 3):
        for id in (server, 10 + server):
            distribution.want(server, 1, idle=False)
            distribution.add(Task(id, Kind("f"), [0]))
    for id in (1, 11):
        assert distribution.release(1, id, 1, 1)
    distribution.lose(2)
    assert distribution.want(4, 1, idle=True) == [RecallTasks(3)]
    assert distribution.recall_answered(3) == []
    distribution.add(Task(21, Kind("f"), [0]))
    distribution.want(3, 1, idle=False)
    distribution.add(Task(22, Kind("f"), [0]))
    assert distribution.want(4, 1, idle=True) == [RecallTasks(3)], "it was given more"


def test_for_a_server_that_wants_nothing_nobody_is_asked():
    """It is idle, and what it wanted is on its way to it."""
    distribution = servers(2)
    distribution.want(1, 2, idle=True)
    for id in (1, 2):
        distribution.add(Task(id, Kind("f"), [0]))
    assert distribution.want(2, 0, idle=True) == []


def gets(commands):
    """(server, calls, pieces) of what is started."""
    return [(start.worker, start.task.count, start.pieces) for start in commands]


def test_calls_are_shared_by_the_servers_that_want_some():
    distribution = servers(3)
    distribution.want(1, 8, idle=False)
    distribution.want(2, 4, idle=False)
    shares = gets(distribution.add(Task(1, Kind("f"), [0] * 10, 10)))
    assert shares[:2] == [(1, 5, 5), (2, 3, 3)] and sum(calls for _, calls, _ in shares) == 10
    assert sum(calls for _, calls, _ in gets(distribution.add(Task(11, Kind("f"), [0] * 10, 10)))) == 2, "no more"
    assert gets(distribution.want(3, 9, idle=True)) == [(3, 8, 8)]
    assert gets(distribution.add(Task(21, Kind("f"), [0]))) == [(3, 1, 1)]


def test_pieces_are_as_large_as_what_waits_for_the_workers_of_one_server_allows():
    """Calls of 10 us: 500 of them are a piece, and less when what waits would not be enough for all workers twice."""
    distribution = servers(2)
    distribution.pieces.measured("f", 1, 1e-5)
    distribution.want(1, 4, idle=False)
    distribution.want(2, 1, idle=False)
    assert gets(distribution.add(Task(0, Kind("f"), [0] * 800, 800)))[0] == (1, 400, 4), "of 100"
    distribution = servers(2)
    distribution.pieces.measured("f", 1, 1e-5)
    distribution.add(Task(0, Kind("f", priority=1), [0] * 800, 800))
    distribution.add(Task(800, Kind("f"), [0] * 10_000, 10_000))
    assert gets(distribution.want(1, 1, idle=False)) == [(1, 499, 1)], "there is more behind it"
    distribution = servers(2)
    distribution.pieces.measured("f", 1, 1e-5)
    distribution.want(1, 2, idle=False)
    assert gets(distribution.add(Task(0, Kind("f"), [0] * 5, 5))) == [(1, 5, 1)]
    assert distribution.wanted == {1: 1}


def test_calls_that_can_run_on_some_workers_only_go_there_in_proportion():
    """Server 1 has one such worker, server 2 has three, and server 3 none."""
    gpu, cpu = Seat("a", "gpu"), Seat("a", "cpu")
    groups = {1: {10: gpu, 11: cpu}, 2: {20: gpu, 21: gpu, 22: gpu}, 3: {30: cpu}}
    distribution = Distribution(groups, Dependencies())
    kind = Kind("f", target=Target(kind="gpu"))
    assert gets(distribution.add(Task(1, kind, [0] * 8, 8))) == [(1, 2, 0), (2, 6, 0)]
    assert gets(distribution.add(Task(9, kind, [0]))) == [(1, 1, 0)]
    assert gets(distribution.add(Task(10, kind, [0]))) == [(2, 1, 0)], "which has fewer for each worker"
    chain = Task(11, Kind("f", chained=True, target=Target(kind="gpu")), [0] * 4, 4)
    assert gets(distribution.add(chain)) == [(2, 4, 0)]
    assert gets(distribution.add(Task(15, Kind("f", ranks=2, target=Target(kind="gpu")), [0]))) == [(2, 1, 0)]


def test_what_is_too_long_for_a_message_of_a_chain_comes_after_the_first_part():
    dependencies = Dependencies()
    distribution = Distribution({1: {2: Seat("a")}}, dependencies)
    distribution.want(1, 8, idle=True)
    assert gets(distribution.add(Task(0, Kind("f", chained=True), [0] * 1025, 1025))) == [(1, 1024, 1)]
    assert [(task.id, task.count) for task in dependencies.pop_all()] == [(1024, 1)]
