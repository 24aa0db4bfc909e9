"""What `python -m swiftpy.sim` says about a job."""

import json

import pytest

from swiftpy.core.task import Kind, Seat
from swiftpy.sim.__main__ import main
from swiftpy.sim.cluster import Cluster
from swiftpy.sim.conditions import Conditions, Faults
from swiftpy.sim.run import simulate
from swiftpy.sim.work import durations, work


def figures(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_equal_tasks_reach_the_lower_bound(capsys):
    code, found = figures(capsys, "--workers", 10, "--tasks", 100, "--seconds", 5, "--gathered", 7)
    assert code == 0
    assert (found["makespan"], found["bound"], found["busy"], found["tail"]) == (50.0, 50.0, 1.0, 5.0)
    assert (found["done"], found["attempts"], found["messages"]) == (100, 100, 10 + 200 + 10)


@pytest.mark.parametrize(
    ("shape", "bound"),
    [("independent", 60 / 6), ("chains:20", 20), ("fans:9", 12), ("parallel:3", 180 / 6)],
)
def test_no_schedule_is_faster_than_the_bound_and_ours_is_near_it(capsys, shape, bound):
    code, found = figures(capsys, "--workers", 6, "--tasks", 60, "--seconds", 1, "--shape", shape)
    assert code == 0
    assert found["bound"] == pytest.approx(bound)
    assert bound <= found["makespan"] + 1e-9 <= 2 * bound


def test_a_server_that_takes_time_for_each_message_is_the_bottleneck(capsys):
    """1,000 tasks are 2,000 messages or more, so that 10 ms each make 20 s; the workers alone would need 1 s."""
    code, found = figures(capsys, "--workers", 100, "--tasks", 1000, "--seconds", 0.1, "--handling", 0.01)
    assert code == 0
    assert 20 <= found["makespan"] <= 24


def test_short_tasks_need_fewer_messages_than_there_are_tasks(capsys):
    _, found = figures(capsys, "--workers", 4, "--tasks", 10000, "--seconds", 1e-5)
    assert found["done"] == 10000 and found["messages"] < 1000


def test_workers_that_die_and_come_back_finish_the_job(capsys):
    faults = ("--die", 0.02, "--back", 9, "--hang", 0.01, "--stuck", 50, "--retries", 9, "--late", 0.5)
    code, found = figures(capsys, "--workers", 9, "--tasks", 300, "--seconds", "exp:3", *faults)
    assert code == 0 and found["done"] == 300 and found["attempts"] > 300


def test_exit_codes_and_messages(capsys, tmp_path):
    assert figures(capsys, "--workers", 5, "--tasks", 50, "--fail", 0.5)[0] == 3
    code, found = figures(capsys, "--workers", 1, "--tasks", 50, "--walltime", 100)
    assert code == 4 and found["left"] > 0 and found["makespan"] <= 100
    (tmp_path / "seconds.txt").write_text("1.5\n\nfast\n")
    (tmp_path / "table.npy").write_bytes(b"\x93NUMPY\xff")
    for arguments, message in (
        (["--seconds", str(tmp_path / "table.npy")], "table.npy is no text file"),
        (["--seconds", "lognormal:1:1000"], "neither a duration"),
        (["--shape", "stars"], "independent, chains:L, fans:W and parallel:K"),
        (["--seconds", "no-such-file"], "neither a duration"),
        (["--seconds", str(tmp_path / "seconds.txt")], "seconds.txt:3: a number of seconds"),
        (["--hang", "0.1"], "--stuck or --walltime"),
        (["--seconds", "-1"], "--seconds -1: times are finite, and not all 0"),
        (["--seconds", "nan"], "not all 0"),
        (["--seconds", "exp:0"], "neither a duration"),
        (["--workers", "5", "--shape", "parallel:6"], "parallel:6 wants 6 workers of one server, of which there are 5"),
        (["--workers", "9", "--servers", "3", "--shape", "parallel:4"], "of which there are 3"),
        (["--workers", "5", "--servers", "6"], "--servers 6: there are only 5 workers"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--workers", "0", "a whole number from 1 on"),
        ("--retries", "-1", "a whole number from 0 on"),
        ("--fail", "2", "a share from 0 to 1"),
        ("--grace", "soon", "a number of seconds from 0 on"),
    ],
)
def test_an_argument_that_is_none_is_said_with_what_is_expected(capsys, option, value, expected):
    """`invalid _count value: '0'`."""
    with pytest.raises(SystemExit, match="2"):
        main([f"{option}={value}"])
    assert capsys.readouterr().err.endswith(f"error: argument {option}: '{value}' is not {expected}\n")


def test_measured_durations_are_drawn_from(capsys, tmp_path):
    journal = tmp_path / "journal.jsonl"
    events = [{"event": "run_started"}, {"event": "run_done", "seconds": 2.5}, {"event": "run_done", "seconds": 7}]
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    found = [
        figures(capsys, "--workers", 1, "--tasks", 1, "--seconds", journal, "--seed", seed)[1] for seed in range(20)
    ]
    assert {each["makespan"] for each in found} == {2.5, 7.0}
    assert list(durations("exp:1", 10, 1)) == list(durations("exp:1", 10, 1)) != list(durations("exp:1", 10, 2))


@pytest.mark.parametrize("latency", [0.0, 1e-4])
def test_a_simulation_is_the_same_each_time(latency):
    results = []
    for _ in range(2):
        seats = {rank: Seat("a") for rank in range(1, 8)}
        seconds = durations("lognormal:0.001:2", 2000, 3)
        cluster = Cluster(seats, seconds, Conditions(Faults(fail=0.05), 5, latency))
        result = simulate(cluster, seats, work("independent", seconds, Kind("f", retries=3), 100))
        results.append((result.done, result.failed, result.makespan, result.attempts, result.messages))
    assert results[0] == results[1]
