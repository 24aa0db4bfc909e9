"""The real server loop and scheduler under a virtual clock, with workers that fail, hang, die and come late."""

import pytest

from simulator import Recorder, Simulation, tasks
from swiftpy.core.task import Target, TaskState
from swiftpy.runtime.server import PATIENCE
from swiftpy.sim.conditions import Faults

SHAPES = {
    "independent": {},
    "runs": {"each": 20},
    "chains": {"each": 20, "chained": True},
    "tree": {"after": lambda i: (2 * i - 200, 2 * i - 199) if 100 <= i < 199 else ()},
    "parallel": {"ranks": 3},
    "node": {"each": 10, "target": Target(node="node1", soft=True)},
}


@pytest.mark.parametrize("latency", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("duration", [(1.0, 100.0), (1e-5, 1e-3)])
def test_every_task_is_resolved_once_whatever_fails(shape, duration, latency):
    for seed in range(2):
        faults = Faults(fail=0.1, die=0.02, late=0.3, hang=0.02, stuck=300.0, back=50.0 if seed % 2 else float("inf"))
        simulation = Simulation(20, seed, faults, duration, latency=latency)
        client = Recorder()
        assert simulation.run(client, tasks(200, retries=3, **SHAPES[shape]))
        assert len(client.final) == 200
        assert set(client.final.values()) <= {TaskState.DONE, TaskState.FAILED}
        assert simulation.stopped | simulation.dead == set(range(1, 21))


def test_attempts_are_counted():
    simulation = Simulation(20, 0, Faults(fail=0.3))
    client = Recorder()
    simulation.run(client, tasks(200, retries=3))
    assert all(attempts <= 4 for attempts in client.attempts.values())
    assert all(client.final[id] is TaskState.DONE or client.attempts[id] == 4 for id in client.final)
    assert TaskState.FAILED in client.final.values()


def test_same_seed_same_history():
    histories = []
    for _ in range(2):
        simulation = Simulation(7, 1, Faults(fail=0.2, late=0.5))
        simulation.run(Recorder(), tasks(50, retries=2))
        histories.append(simulation.starts)
    assert histories[0] == histories[1]


def test_makespan_is_that_of_list_scheduling():
    """No worker waits while a task does: the makespan is within (mean load + longest task)."""
    simulation = Simulation(10, 3, duration=(10.0, 20.0))
    simulation.run(Recorder(), tasks(100))
    assert simulation.now <= 100 * 20.0 / 10 + 20.0
    at_start = [worker for when, worker, *_ in simulation.starts if when < 1]
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
    assert all(when <= 201 for when, *_ in simulation.starts)


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
    simulation = Simulation(8, 0, duration=(300.0, 400.0), obeys=2.0)
    client = Recorder()
    client.needs = 100.0
    assert simulation.run(client, tasks(40), grace=60.0, walltime=1000.0)
    assert client.drained == "walltime"
    assert max(when for when, *_ in simulation.starts) <= 1000 - 70 - 100 + 1
    assert all(930 <= when <= 931 for when in simulation.asked)
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
