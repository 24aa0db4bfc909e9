"""What becomes of a lost worker's tasks, and of those that only it could run."""

from test_scheduler import ONE, TWO, reports, scheduler_with, started, task

from swiftpy.core.events import (
    SubmissionClosed,
    TaskFinished,
    TaskResumed,
    TaskSubmitted,
    TaskSuspended,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.task import Seat, Target, TaskState


def test_the_last_worker_lost_fails_what_waits():
    scheduler = scheduler_with(ONE, task(0, retries=5), task(1))
    scheduler.step(SubmissionClosed())
    scheduler.step(WorkerReady(1))
    commands = scheduler.step(WorkerLost(1, "died"))
    assert [(r.task.id, r.state, r.error.kind) for r in commands] == [
        (0, TaskState.READY, "lost"),
        (0, TaskState.FAILED, "rejected"),
        (1, TaskState.FAILED, "rejected"),
    ]
    assert scheduler.over


def test_the_last_worker_of_a_node_lost_fails_what_only_it_could_run():
    soft, hard = Target(node="b", soft=True), Target(node="b")
    tasks = task(0), task(1), task(2, target=hard), task(3, target=soft), task(4, ranks=2)
    scheduler = scheduler_with({1: Seat("a"), 2: Seat("b")}, *tasks, ready=[1, 2])
    commands = scheduler.step(WorkerLost(2, "died"))
    assert reports(commands) == [(1, 1, "failed"), (4, 1, "failed"), (2, 1, "failed")]
    assert started(scheduler.step(TaskFinished(1, 0, 1, b"", 1.0))) == [(1, 3, 1)]


def test_a_worker_that_was_lost_may_come_back():
    scheduler = scheduler_with(TWO, task(0, retries=1), ready=[1])
    scheduler.step(WorkerLost(1, "its node hung"))
    assert started(scheduler.step(WorkerReady(1))) == [(1, 0, 2)]
    assert scheduler.step(TaskFinished(1, 0, 1, b"", 1.0)) == []  # of its life before


def test_a_run_that_a_lost_worker_held_behind_a_task_that_went_on_has_one_fate():
    """The worker took the RUN up while its first task waited for another; then that went on."""
    scheduler = scheduler_with(ONE, task(0), ready=[1])
    scheduler.step(TaskSuspended(1, 0, 1))
    scheduler.step(TaskSubmitted(task(1, isolated=True, retries=1)))
    scheduler.step(TaskResumed(1, 0, 1))
    commands = scheduler.step(WorkerLost(1, "died"))
    assert reports(commands) == [(0, 1, "failed"), (1, 1, "ready"), (1, 1, "failed")]
