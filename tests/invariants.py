"""What must be true of a scheduler after each step, whatever happened."""

from collections import Counter

from swiftpy.core.distribution import Distribution
from swiftpy.core.pieces import MOST_TASKS


def check(scheduler):
    place = scheduler._placement
    assert not scheduler._stopped or scheduler.quiet
    assert place.ready.calls == sum(task.count for task in place.ready)
    assert not any(task.after or place.lacks(task) for task in place.ready)
    assert all(task.after for task in scheduler._dependencies)
    assert scheduler._dependencies._missing.keys() == scheduler._dependencies._blocked.keys()
    tasks = [*place.ready, *scheduler._dependencies, *{task.id: task for _, task in place.held()}.values()]
    calls = [call for task in tasks for call in range(task.id, task.id + task.count)]
    assert len(calls) == len(set(calls)), "a call is in two places"
    (check_distribution if isinstance(place, Distribution) else check_placement)(place)


def check_placement(place):
    waiting = [(worker, None) for worker in place.waiting.idle]
    for task, workers in place.waiting.gathering.items():
        assert 0 < len(workers) < task.kind.ranks and any(each is task for each in place.ready)
        waiting += [(worker, task) for worker in workers]
    busy = set(place.running)
    assert len(waiting) + len(busy) == len(busy.union(worker for worker, _ in waiting)) <= len(place.workers)
    assert busy | set(place.suspended) <= set(place.workers)
    for worker, for_what in waiting:  # nobody waits while there is something for them to do
        assert place.ready.first_for(worker, place.workers[worker]) is for_what
    assert all(1 <= len(held) <= MOST_TASKS + 1 for held in place.running.values())
    parallel = Counter(task.id for _, task in place.held() if task.kind.ranks > 1)
    assert parallel == {task_id: len(gang.unfinished) for task_id, gang in place.gangs.items()}


def check_distribution(place):
    assert not (place.ready and place.wanted)
    assert place.hungry <= set(place.wanted) <= set(place.workers)
    assert all(pieces > 0 for pieces in place.wanted.values())
    assert all(place.running.values())
    for server, ids in place._ids.items():
        held = place.running.get(server, {})
        assert ids == sorted(held)
        assert place._calls[server] == sum(task.count for task in held.values())
