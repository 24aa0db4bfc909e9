"""The scheduler against a naive reference on random histories, and the rules that a history does not show."""

import random

import pytest
from histories import ERROR, History
from hypothesis import example, given, settings
from hypothesis import strategies as st
from invariants import check

from reference import Reference
from swiftpy.core.events import (
    DrainRequested,
    GraceExpired,
    InterruptRequested,
    InterruptTask,
    KillTask,
    RecallAnswered,
    RecallTasks,
    ReportOutcome,
    StartTask,
    StopWorker,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskResumed,
    TaskReturned,
    TaskSubmitted,
    TaskSuspended,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.pieces import MOST_CALLS, MOST_TASKS
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import FINAL_STATES, TRANSITIONS, Kind, Seat, Target, Task, TaskState

NODES = {1: Seat("a"), 2: Seat("a"), 3: Seat("b"), 4: Seat("b")}
ONE = {1: Seat("a")}
TWO = {1: Seat("a"), 2: Seat("a")}


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=400))
@example(bytes([26, 0, 0, 0, 0, 33, 0, 26, 1]))  # they end where the value that a task waits for is to be given
def test_same_as_the_reference(data):
    History(data, Reference).run()


@pytest.mark.parametrize("seed", range(10))
def test_same_as_the_reference_on_long_histories(seed):
    History(random.Random(seed).randbytes(4000), Reference).run()


def task(id, count=1, after=(), **kind):
    return Task(id, Kind("m:f", **kind), list(range(id, id + count)), count, after)


def scheduler_with(workers, *tasks, ready=()):
    """A scheduler that has heard of these workers, of which the first of those that are ready came last and so is the
    first to get something, and then of these tasks."""
    scheduler = Scheduler(workers)
    for worker in reversed(ready):
        scheduler.step(WorkerReady(worker))
    for one in tasks:
        scheduler.step(TaskSubmitted(one))
    return scheduler


def started(commands):
    return [(c.worker, c.task.id, c.attempt) for c in commands if isinstance(c, StartTask)]


def sent(commands):
    """(worker, first call, number of calls) of what is started."""
    return [(c.worker, c.task.id, c.task.count) for c in commands if isinstance(c, StartTask)]


def reports(commands):
    return [(c.task.id, c.task.count, c.state.value) for c in commands if isinstance(c, ReportOutcome)]


def test_report_comes_before_the_next_task():
    scheduler = scheduler_with(ONE, task(0), task(1), ready=[1])
    commands = scheduler.step(TaskFinished(1, 0, 1, b"v", 2.0))
    assert [type(c) for c in commands] == [ReportOutcome, StartTask]
    assert commands[0].value == b"v"


def test_priority_then_depth_then_submission_and_targets():
    scheduler = scheduler_with(
        NODES,
        task(0),
        task(1, priority=1),
        task(2, target=Target(node="b"), priority=2),
        task(3, target=Target(rank=2)),
        task(4),
        task(5, depth=1),
    )
    assert started(scheduler.step(WorkerReady(1))) == [(1, 1, 1)]
    assert started(scheduler.step(WorkerReady(3))) == [(3, 2, 1)]
    assert started(scheduler.step(WorkerReady(4))) == [(4, 5, 1)]
    assert started(scheduler.step(TaskFinished(4, 5, 1, b"", 1))) == [(4, 0, 1)]
    assert started(scheduler.step(WorkerReady(2))) == [(2, 3, 1)]
    assert started(scheduler.step(TaskFinished(1, 1, 1, b"", 1))) == [(1, 4, 1)]


def test_a_soft_target_is_a_wish():
    scheduler = scheduler_with(TWO, ready=[1, 2])
    wish = Target(rank=2, soft=True)
    assert started(scheduler.step(TaskSubmitted(task(0, target=wish)))) == [(2, 0, 1)]
    assert started(scheduler.step(TaskSubmitted(task(1, target=wish)))) == [(1, 1, 1)]


def test_a_retry_counts_attempts_and_keeps_its_place():
    scheduler = scheduler_with(ONE, task(0, retries=1), task(1), ready=[1])
    commands = scheduler.step(TaskFailed(1, 0, 1, ERROR, 1.0))
    assert commands[0].state is TaskState.READY
    assert started(commands) == [(1, 0, 2)]
    assert scheduler.step(TaskFinished(1, 0, 1, b"", 1.0)) == []  # stale: attempt 1 is over
    commands = scheduler.step(TaskFailed(1, 0, 2, ERROR, 1.0))
    assert commands[0].state is TaskState.FAILED
    assert started(commands) == [(1, 1, 1)]


def test_short_calls_travel_together_long_ones_alone():
    scheduler = scheduler_with(TWO, task(0, 10_000), ready=[1, 2])
    assert sent(scheduler.step(TaskFinished(1, 0, 1, b"", 1e-5))) == [(1, 2, 499), (1, 501, 499)]  # 5 ms, one more
    assert sent(scheduler.step(TaskFinished(2, 1, 1, b"", 60.0))) == [(2, 1000, 1)]


def test_the_last_calls_go_to_nobody_in_advance():
    scheduler = scheduler_with(TWO, task(0, 6), ready=[1, 2])
    assert sent(scheduler.step(TaskFinished(1, 0, 1, b"", 1e-2))) == [(1, 2, 1), (1, 3, 1)]
    assert sent(scheduler.step(TaskFinished(2, 1, 1, b"", 1e-2))) == [(2, 4, 1)]


def different(count, first=1):
    """Tasks that cannot travel as one run."""
    return [task(first + index, priority=-index) for index in range(count)]


def test_a_worker_holds_about_a_piece_of_short_tasks():
    scheduler = scheduler_with(TWO, task(0), *different(200), ready=[1])
    assert len(sent(scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6)))) == MOST_TASKS
    commands = [scheduler.step(TaskFinished(1, call, 1, b"", 1e-6)) for call in range(1, 18)]
    assert [len(sent(each)) for each in commands] == [0] * 15 + [16, 0]  # half of them are done: others follow
    assert len(sent(scheduler.step(TaskFinished(1, 18, 1, b"", 1.0)))) == 0  # they turn out long


def test_of_tasks_that_are_not_that_short_it_holds_few():
    scheduler = scheduler_with(TWO, task(0), *different(200), ready=[1])
    assert sent(scheduler.step(TaskFinished(1, 0, 1, b"", 2e-3))) == [(1, 1, 1), (1, 2, 1), (1, 3, 1)]  # 6 ms
    assert sent(scheduler.step(TaskFinished(1, 1, 1, b"", 2e-3))) == [(1, 4, 1)]


def test_the_last_tasks_are_for_all():
    scheduler = scheduler_with(TWO, task(0), *different(20), ready=[1])
    assert len(sent(scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6)))) == 7  # 13 are left: less than twice 7
    assert len(sent(scheduler.step(WorkerReady(2)))) == 5


def test_a_run_is_shared_by_those_who_wait():
    scheduler = scheduler_with(TWO, task(0), ready=[1])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    scheduler.step(WorkerReady(2))
    commands = scheduler.step(TaskSubmitted(task(1, 10)))
    assert sent(commands) == [(2, 1, 5), (1, 6, 5)]


def test_a_run_that_became_ready_is_shared_too():
    scheduler = scheduler_with(TWO, task(0), ready=[1])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    scheduler.step(WorkerReady(2))
    scheduler.step(TaskSubmitted(task(1)))
    scheduler.step(TaskSubmitted(task(2, 10, after=[1])))
    assert sent(scheduler.step(TaskFinished(2, 1, 1, b"", 1e-6))) == [(2, 2, 5), (1, 7, 5)]


def test_who_waits_asks_the_others_until_one_has_something():
    """Three runs of calls that turn out slow; the first to be asked has begun all of its own meanwhile."""
    workers = {rank: Seat("a") for rank in (1, 2, 3)}
    scheduler = scheduler_with(workers, task(0), ready=[1])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    scheduler.step(WorkerReady(2))
    scheduler.step(WorkerReady(3))
    assert sent(scheduler.step(TaskSubmitted(task(1, 6)))) == [(3, 1, 2), (2, 3, 2), (1, 5, 2)]
    assert RecallTasks(3) in scheduler.step(TaskFinished(1, 5, 1, b"", 10.0))
    assert scheduler.step(RecallAnswered(3)) == [RecallTasks(2)]
    assert sent(scheduler.step(TaskReturned(2, 3, 1, 1))) == [(1, 4, 1)]
    assert scheduler.step(RecallAnswered(2)) == []


def test_a_task_that_goes_on_gives_others_what_its_worker_took_up_meanwhile():
    scheduler = scheduler_with(TWO, task(0), task(1), ready=[1, 2])
    scheduler.step(TaskSuspended(1, 0, 1))
    assert sent(scheduler.step(TaskSubmitted(task(2)))) == [(1, 2, 1)]
    scheduler.step(TaskFinished(2, 1, 1, b"", 1.0))
    assert scheduler.step(TaskResumed(1, 0, 1)) == [RecallTasks(1)]
    assert sent(scheduler.step(TaskReturned(1, 2, 1, 0))) == [(2, 2, 1)]


def test_tasks_that_wait_for_ever_are_stuck_and_those_that_wait_for_so_long_are_not():
    scheduler = scheduler_with(TWO, task(0), task(1), ready=[1, 2])
    scheduler.step(TaskSuspended(1, 0, 1))
    assert scheduler.stuck == []
    scheduler.step(TaskSuspended(2, 1, 1, timed=True))
    assert scheduler.stuck == []
    scheduler.step(TaskResumed(2, 1, 1))
    scheduler.step(TaskSuspended(2, 1, 1))
    assert {stuck.id for stuck in scheduler.stuck} == {0, 1}
    scheduler.step(TaskResumed(2, 1, 1))
    scheduler.step(TaskSuspended(2, 1, 1, timed=True))
    scheduler.step(WorkerLost(2, "gone"))
    assert {stuck.id for stuck in scheduler.stuck} == {0}


def test_a_chain_goes_on_after_a_retry_and_is_cancelled_after_a_failure():
    scheduler = scheduler_with(ONE, task(0, chained=True))
    scheduler.step(WorkerReady(1))
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    assert sent(scheduler.step(TaskSubmitted(task(1, 5, chained=True, retries=1)))) == [(1, 1, 5)]
    commands = scheduler.step(TaskFinished(1, 1, 1, b"", 1e-6, 3, ((2, ERROR),)))
    assert reports(commands) == [(1, 3, "done"), (3, 1, "ready")]
    assert started(commands) == [(1, 3, 2)]
    assert started(scheduler.step(TaskFinished(1, 3, 2, b"", 1e-6))) == [(1, 4, 2)]
    assert reports(scheduler.step(TaskFinished(1, 4, 2, b"", 1e-6, 1, ((0, ERROR),)))) == [(4, 1, "ready")]
    commands = scheduler.step(TaskFailed(1, 4, 3, ERROR, 1.0))
    assert reports(commands) == [(4, 1, "failed"), (5, 1, "failed")]
    assert commands[1].error.kind == "cancelled" and "boom" in commands[1].error.message


def test_a_chain_is_not_cut_for_workers_that_could_not_help():
    """It went in pieces of a quarter of what was left, as other runs do, and its worker had to wait for each."""
    scheduler = scheduler_with(TWO, task(0), ready=[1, 2])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    assert sent(scheduler.step(TaskSubmitted(task(1, 3000, chained=True)))) == [(1, 1, MOST_CALLS)]


def test_something_urgent_may_come_between_the_long_calls_of_a_chain():
    scheduler = scheduler_with(ONE, task(0, 3, chained=True), ready=[1])
    scheduler.step(TaskSubmitted(task(3, priority=1)))
    assert started(scheduler.step(TaskFinished(1, 0, 1, b"", 60.0))) == [(1, 3, 1)]
    assert sent(scheduler.step(TaskFinished(1, 3, 1, b"", 60.0))) == [(1, 1, 1)]


def test_what_became_ready_starts_where_its_data_are_and_in_order():
    scheduler = scheduler_with(TWO, task(0), task(1, after=[0]), task(2, after=[0], priority=1), ready=[2, 1])
    assert started(scheduler.step(TaskFinished(2, 0, 1, b"", 1.0))) == [(2, 2, 1), (1, 1, 1)]


def test_a_parallel_task_starts_when_enough_workers_wait_and_does_not_starve():
    scheduler = scheduler_with(TWO, task(0), task(1), task(2, ranks=2), *map(task, range(3, 9)), ready=[1, 2])
    assert started(scheduler.step(TaskFinished(2, 1, 1, b"", 1.0))) == []
    commands = scheduler.step(TaskFinished(1, 0, 1, b"", 1.0))
    assert started(commands) == [(1, 2, 1), (2, 2, 1)] and commands[1].gang == (1, 2)
    scheduler.step(TaskFinished(1, 2, 1, b"first", 1.0))
    commands = scheduler.step(TaskFinished(2, 2, 1, b"second", 1.0))
    assert commands[0].value == b"first"


def test_who_waits_for_others_takes_what_comes_before_but_only_if_nobody_waits_for_nothing():
    """Workers 1 and 2 gather for a task of each node, the first of which comes before what is submitted then."""
    scheduler = scheduler_with({1: Seat("a"), 2: Seat("b"), 3: Seat("a"), 4: Seat("b"), 5: Seat("c")})
    for id, node, priority in ((0, "a", 2), (1, "b", 0)):
        scheduler.step(TaskSubmitted(task(id, ranks=2, target=Target(node=node), priority=priority)))
    for worker in (1, 2, 5):
        assert not started(scheduler.step(WorkerReady(worker)))
    assert started(scheduler.step(TaskSubmitted(task(2, priority=1)))) == [(5, 2, 1)]
    assert started(scheduler.step(TaskSubmitted(task(3, priority=1)))) == [(2, 3, 1)]
    assert not started(scheduler.step(TaskSubmitted(task(4, priority=1))))


def test_a_parallel_task_of_which_one_part_is_killed_is_interrupted():
    scheduler = scheduler_with(TWO, task(0, ranks=2), ready=[1, 2])
    scheduler.step(DrainRequested("SIGTERM"))
    assert scheduler.step(TaskKilled(1, 0, 1, 1.0)) == []
    assert reports(scheduler.step(TaskFinished(2, 0, 1, b"", 1.0))) == [(0, 1, "interrupted")]


def test_a_parallel_task_is_forsaken_that_failed_on_one_worker_and_runs_on_another_while_nothing_else_does():
    scheduler = scheduler_with(NODES, task(0, ranks=2), task(1), ready=[1, 2, 3])
    assert not scheduler.forsaken
    scheduler.step(TaskFailed(1, 0, 1, ERROR, 1.0))
    assert not scheduler.forsaken, "another task may go on for hours"
    scheduler.step(TaskFinished(3, 1, 1, b"", 1.0))
    [(forsaken, gang)] = scheduler.forsaken.items()
    assert forsaken.id == 0 and gang.unfinished == {2} and gang.error == ERROR
    scheduler.step(TaskFinished(2, 0, 1, b"", 1.0))
    assert not scheduler.forsaken


def test_drain_starts_nothing_and_grace_kills():
    scheduler = scheduler_with(TWO, *[task(i, retries=1) for i in range(3)], ready=[1, 2])
    commands = scheduler.step(DrainRequested("SIGTERM"))
    assert [(c.task.id, c.state, c.attempt) for c in commands] == [(2, TaskState.INTERRUPTED, 0)]
    commands = scheduler.step(TaskFailed(1, 0, 1, ERROR, 1.0))  # a retry is the restart's business
    assert [c.state for c in commands] == [TaskState.INTERRUPTED]
    assert scheduler.step(InterruptRequested()) == [InterruptTask(2, 1, 1)]
    assert scheduler.step(GraceExpired()) == [KillTask(2, 1, 1)]
    commands = scheduler.step(TaskKilled(2, 1, 1, 1.0))
    assert commands[0].state is TaskState.INTERRUPTED
    assert commands[1:] == [StopWorker(1), StopWorker(2)]
    assert scheduler.over


def test_drain_takes_back_what_was_sent_and_not_begun():
    scheduler = scheduler_with(ONE, task(0), ready=[1])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    scheduler.step(TaskSubmitted(task(1, 10)))
    assert scheduler.step(DrainRequested("SIGTERM")) == [RecallTasks(1)]
    assert reports(scheduler.step(TaskReturned(1, 1, 1, 4))) == [(5, 6, "interrupted")]


def test_what_is_left_of_a_chain_that_failed_is_interrupted_when_draining():
    scheduler = scheduler_with(ONE, task(0), ready=[1])
    scheduler.step(TaskFinished(1, 0, 1, b"", 1e-6))
    scheduler.step(TaskSubmitted(task(1, 5, chained=True, retries=1)))
    scheduler.step(DrainRequested("SIGTERM"))
    commands = scheduler.step(TaskFinished(1, 1, 1, b"", 1e-6, 2, ((1, ERROR),)))
    assert reports(commands) == [(1, 2, "done"), (3, 3, "interrupted"), (2, 1, "interrupted")]
    assert scheduler.over


def test_a_job_without_tasks_is_over_at_once():
    assert Scheduler(ONE).step(SubmissionClosed()) == [StopWorker(1)]


def test_a_run_is_cut_without_copying_what_is_left_each_time():
    class Counted(list):
        copied = 0

        def __getitem__(self, index):
            part = Counted(super().__getitem__(index))
            Counted.copied += len(part)
            return part

    rest = Task(0, Kind("m:f"), Counted(range(4096)), 4096)
    while rest.count > 1:
        head, rest = rest.part(0, 1), rest.part(1, rest.count)
        assert head.payload == [head.id]
    assert rest.payload == [4095]
    assert Counted.copied < 4 * 4096


@pytest.mark.parametrize(
    "event",
    [
        TaskSubmitted(task(0)),
        TaskSubmitted(task(3, after=[3])),
        TaskSubmitted(task(3, 2, isolated=True)),
        WorkerReady(1),
        WorkerReady(3),
        WorkerReady(9),
        WorkerLost(9, ""),
        InterruptRequested(),
        GraceExpired(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_illegal_events_change_nothing(event):
    scheduler = scheduler_with(NODES, task(0, 2), task(2, after=[1]), ready=[1, 2, 3])  # of which 3 waits

    def state():
        place = scheduler._placement
        parts = place.running, place.workers, list(place.ready), list(place.waiting.idle), list(scheduler._dependencies)
        return repr(parts), scheduler.draining, scheduler._closed, scheduler._last_id

    before = state()
    with pytest.raises(ValueError):
        scheduler.step(event)
    assert before == state()
    check(scheduler)


def test_nothing_is_submitted_after_the_end_of_submission():
    scheduler = scheduler_with(ONE, task(0))
    scheduler.step(SubmissionClosed())
    with pytest.raises(ValueError):
        scheduler.step(TaskSubmitted(task(1)))


def test_every_state_can_be_reached_and_left_only_as_the_table_says():
    assert set(TRANSITIONS) == set(TaskState)
    assert {TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED} == FINAL_STATES


def test_what_needs_a_refused_call_is_cancelled_even_if_it_is_submitted_afterwards():
    """A client submits several tasks before it hears that there is no worker for the first."""
    scheduler = Scheduler(ONE)
    kind, nowhere = Kind("f"), Kind("f", target=Target(rank=9))
    refused = scheduler.step(TaskSubmitted(Task(0, nowhere, [0, 1], 2)))
    assert [report.error.kind for report in refused] == ["rejected"]
    for id, after in ((2, (1,)), (3, (2,))):
        (report,) = scheduler.step(TaskSubmitted(Task(id, kind, [id], after=after)))
        assert report.state is TaskState.FAILED and report.error.kind == "cancelled"
        assert "rank 9" in report.error.message
    assert scheduler.quiet
