"""The real server loop and scheduler under a virtual clock, with workers that fail, hang, die and come late."""

import pytest

from simulator import Faults, Recorder, Simulation
from swiftpy.core.task import Task, TaskState
from swiftpy.runtime.server import PATIENCE


def tasks(count, **kwargs):
    return [Task(i, "m:f", b"", **kwargs) for i in range(count)]


@pytest.mark.parametrize("seed", range(30))
def test_every_task_is_resolved_once_whatever_fails(seed):
    simulation = Simulation(20, seed, Faults(fail=0.1, die=0.02, late=0.3))
    client = Recorder()
    assert simulation.run(client, tasks(200, retries=3))
    assert len(client.final) == 200
    assert set(client.final.values()) <= {TaskState.DONE, TaskState.FAILED}
    assert simulation.stopped | simulation.dead == set(range(1, 21))
    for task_id, attempts in client.attempts.items():
        assert attempts <= 4
        assert client.final[task_id] is TaskState.DONE or attempts == 4 or len(simulation.dead) == 20


def test_same_seed_same_history():
    histories = []
    for _ in range(2):
        simulation = Simulation(7, 1, Faults(fail=0.2, late=0.5))
        simulation.run(Recorder(), tasks(50, retries=2))
        histories.append(simulation.started)
    assert histories[0] == histories[1]


def test_makespan_is_that_of_list_scheduling():
    """No worker waits while a task does: the makespan is within (mean load + longest task)."""
    simulation = Simulation(10, 3, duration=(10.0, 20.0))
    simulation.run(Recorder(), tasks(100))
    assert simulation.now <= 100 * 20.0 / 10 + 20.0
    at_start = [worker for when, worker, *_ in simulation.started if when < 1]
    assert len(set(at_start)) == 10


@pytest.mark.parametrize("seed", range(10))
def test_stopped_early_every_task_is_done_or_interrupted_within_the_grace_period(seed):
    simulation = Simulation(8, seed, Faults(fail=0.1), duration=(50.0, 500.0))
    simulation.stop_at = 200.0
    client = Recorder()
    assert simulation.run(client, tasks(40, retries=1), grace=60.0)
    assert client.drained == "SIGTERM"
    assert len(client.final) == 40
    assert TaskState.INTERRUPTED in client.final.values()
    assert simulation.now <= 200 + 60 + 2
    assert all(when <= 201 for when, *_ in simulation.started)


def test_a_second_signal_kills_at_once():
    simulation = Simulation(2, 0, duration=(1000.0, 2000.0))
    simulation.stop_at = 10.0
    simulation.stop.insisted = True
    assert simulation.run(Recorder(), tasks(4), grace=500.0)
    assert simulation.now < 15


def test_workers_that_do_not_answer_are_given_up():
    simulation = Simulation(4, 0, Faults(hang=1.0))
    simulation.stop_at = 10.0
    client = Recorder()
    assert not simulation.run(client, tasks(8, retries=1), grace=30.0)
    assert len(client.final) == 8
    assert 40 <= simulation.now <= 40 + PATIENCE + 2


def test_before_the_walltime_tasks_are_asked_to_stop_and_none_is_started_in_vain():
    """Of 1,000 s, 60 are for the grace period and 10 for killing; tasks need 100 s to save anything."""
    simulation = Simulation(8, 0, duration=(300.0, 400.0), obedient=True)
    client = Recorder()
    client.needs = 100.0
    assert simulation.run(client, tasks(40), grace=60.0, walltime=1000.0)
    assert client.drained == "walltime"
    assert max(when for when, *_ in simulation.started) <= 1000 - 70 - 100 + 1
    assert all(930 <= when <= 931 for when, _ in simulation.asked)
    assert simulation.now <= 935
    assert len(client.final) == 40


def test_tasks_that_do_not_heed_the_walltime_are_killed_before_it():
    simulation = Simulation(4, 0, duration=(5000.0, 9000.0))
    client = Recorder()
    assert simulation.run(client, tasks(8), grace=60.0, walltime=1000.0)
    assert set(client.final.values()) == {TaskState.INTERRUPTED}
    assert 990 <= simulation.now <= 992


def test_a_job_that_is_done_in_time_hears_nothing_of_its_walltime():
    simulation = Simulation(4, 0)
    client = Recorder()
    assert simulation.run(client, tasks(8), walltime=1000.0)
    assert client.drained is None and set(client.final.values()) == {TaskState.DONE}
