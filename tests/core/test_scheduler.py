"""The scheduler against a naive reference on random histories, and the rules that a history does not show."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import Reference
from swiftpy.core.events import (
    DrainRequested,
    GraceExpired,
    InterruptRequested,
    InterruptTask,
    KillTask,
    ReportOutcome,
    StartTask,
    StopWorker,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskSubmitted,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import FINAL_STATES, TRANSITIONS, Target, Task, TaskState
from swiftpy.errors import TaskError

WORKERS = {1: "a", 2: "a", 3: "b", 4: "b"}
ERROR = TaskError("exception", "boom")


def task(id, **kwargs):
    return Task(id, "m:f", b"", **kwargs)


targets = st.one_of(
    st.just(Target()),
    st.builds(Target, rank=st.integers(1, 5)),
    st.builds(Target, node=st.sampled_from("abc")),
)
submissions = st.tuples(st.just("submit"), st.integers(-1, 1), targets, st.integers(0, 2))
others = st.tuples(st.sampled_from(["ready", "finish", "fail", "kill", "stale", "lose", "drain"]), st.integers(1, 4))


def to_event(step, number, scheduler, ready):
    """The event that a drawn step means in the present state; None where it would be illegal."""
    kind = step[0]
    if kind == "submit":
        _, priority, target, retries = step
        return TaskSubmitted(task(number, priority=priority, target=target, retries=retries))
    worker = step[1]
    if kind == "drain":
        return DrainRequested("test") if number > 12 else None
    if worker not in scheduler.workers:
        return None
    if kind == "ready":
        if worker in ready:
            return None
        ready.add(worker)
        return WorkerReady(worker)
    if kind == "lose":
        return WorkerLost(worker, "gone") if number > 6 else None
    if worker not in scheduler.running:
        return None
    running = scheduler._running[worker]
    attempt = running.attempt - (kind == "stale")
    if kind == "fail":
        return TaskFailed(worker, running.task.id, attempt, ERROR, 1.0)
    if kind == "kill":
        return TaskKilled(worker, running.task.id, attempt, 1.0)
    return TaskFinished(worker, running.task.id, attempt, b"", 1.0)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(submissions, others), max_size=60))
def test_same_as_the_reference(steps):
    scheduler, reference, ready = Scheduler(WORKERS), Reference(WORKERS), set()
    reports = {}
    for number, step in enumerate(steps):
        if scheduler.draining and step[0] == "drain":
            continue
        event = to_event(step, number, scheduler, ready)
        if event is None or (scheduler._closed and isinstance(event, TaskSubmitted)):
            continue
        for command in scheduler.step(event):
            if isinstance(command, ReportOutcome):
                assert reports.get(command.task.id) not in FINAL_STATES, "two final reports"
                reports[command.task.id] = command.state
        reference.step(event)
        scheduler.check()
        assert scheduler._states == reference.state
        assert {w: t.id for w, t in scheduler.running.items()} == reference.running
        assert list(scheduler._idle._all) == reference.idle
    for task_id, state in scheduler._states.items():
        assert state not in FINAL_STATES or reports[task_id] is state


def started(commands):
    return [(c.worker, c.task.id, c.attempt) for c in commands if isinstance(c, StartTask)]


def test_report_comes_before_the_next_task():
    scheduler = Scheduler({1: "a"})
    scheduler.step(TaskSubmitted(task(0)))
    scheduler.step(TaskSubmitted(task(1)))
    scheduler.step(WorkerReady(1))
    commands = scheduler.step(TaskFinished(1, 0, 1, b"v", 2.0))
    assert [type(c) for c in commands] == [ReportOutcome, StartTask]
    assert commands[0].value == b"v"


def test_priority_then_submission_order_and_targets():
    scheduler = Scheduler(WORKERS)
    for t in (
        task(0),
        task(1, priority=1),
        task(2, target=Target(node="b"), priority=2),
        task(3, target=Target(rank=2)),
        task(4),
    ):
        assert scheduler.step(TaskSubmitted(t)) == []
    assert started(scheduler.step(WorkerReady(1))) == [(1, 1, 1)]
    assert started(scheduler.step(WorkerReady(3))) == [(3, 2, 1)]
    assert started(scheduler.step(WorkerReady(4))) == [(4, 0, 1)]
    assert started(scheduler.step(WorkerReady(2))) == [(2, 3, 1)]
    assert started(scheduler.step(TaskFinished(1, 1, 1, b"", 0))) == [(1, 4, 1)]


def test_a_retry_counts_attempts_and_keeps_its_place():
    scheduler = Scheduler({1: "a"})
    scheduler.step(TaskSubmitted(task(0, retries=1)))
    scheduler.step(TaskSubmitted(task(1)))
    scheduler.step(WorkerReady(1))
    commands = scheduler.step(TaskFailed(1, 0, 1, ERROR, 1.0))
    assert commands[0].state is TaskState.READY
    assert started(commands) == [(1, 0, 2)]
    assert scheduler.step(TaskFinished(1, 0, 1, b"", 1.0)) == []  # stale: attempt 1 is over
    commands = scheduler.step(TaskFailed(1, 0, 2, ERROR, 1.0))
    assert commands[0].state is TaskState.FAILED
    assert started(commands) == [(1, 1, 1)]


def test_drain_starts_nothing_and_grace_kills():
    scheduler = Scheduler({1: "a", 2: "a"})
    for i in range(3):
        scheduler.step(TaskSubmitted(task(i, retries=1)))
    scheduler.step(WorkerReady(1))
    scheduler.step(WorkerReady(2))
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


def test_a_job_without_tasks_is_over_at_once():
    scheduler = Scheduler({1: "a"})
    assert scheduler.step(SubmissionClosed()) == [StopWorker(1)]


def test_the_last_worker_lost_fails_what_waits():
    scheduler = Scheduler({1: "a"})
    scheduler.step(TaskSubmitted(task(0, retries=5)))
    scheduler.step(TaskSubmitted(task(1)))
    scheduler.step(SubmissionClosed())
    scheduler.step(WorkerReady(1))
    reports = scheduler.step(WorkerLost(1, "died"))
    assert [(r.task.id, r.state, r.error.kind) for r in reports] == [
        (0, TaskState.READY, "lost"),
        (0, TaskState.FAILED, "rejected"),
        (1, TaskState.FAILED, "rejected"),
    ]
    assert scheduler.over


@pytest.mark.parametrize(
    "event",
    [TaskSubmitted(task(0)), WorkerReady(1), WorkerReady(9), WorkerLost(9, ""), InterruptRequested(), GraceExpired()],
    ids=lambda event: type(event).__name__,
)
def test_illegal_events_change_nothing(event):
    scheduler = Scheduler({1: "a"})
    scheduler.step(TaskSubmitted(task(0)))
    scheduler.step(WorkerReady(1))
    before = (dict(scheduler._states), scheduler.running, scheduler.draining, dict(scheduler.workers))
    with pytest.raises(ValueError):
        scheduler.step(event)
    assert before == (scheduler._states, scheduler.running, scheduler.draining, scheduler.workers)


def test_every_state_can_be_reached_and_left_only_as_the_table_says():
    assert set(TRANSITIONS) == set(TaskState)
    assert {TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED} == FINAL_STATES
