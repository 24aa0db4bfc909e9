import pytest

from swiftpy.upf.chain import CRASHES, Ending, decide
from swiftpy.upf.options import command_line, parse


@pytest.mark.parametrize(
    ("ending", "goes_on", "charged", "why"),
    [
        (Ending(0, "all RUNs were resolved", False, 500.0), False, 0, "nothing is left"),
        (Ending(3, "all RUNs were resolved", False, 500.0), False, 0, "nothing is left"),
        (Ending(2, "hook failed", False, 500.0), False, 0, "nothing was started"),
        (Ending(4, "walltime", False, 70.0), True, 0, "walltime"),
        (Ending(4, "SIGTERM", True, 60.0), True, 0, "walltime"),
        (Ending(4, "SIGTERM", False, 60.0), True, 0, "walltime"),
        (Ending(4, "SIGTERM", True, None), True, 0, "walltime"),
        (Ending(4, "SIGTERM", True, 4000.0), False, 0, "told to stop with 1:06:40 left"),
        (Ending(4, "SIGINT", False, 4000.0), False, 0, "told to stop"),
        (Ending(None, "", True, 60.0), True, 0, "walltime"),
        (Ending(None, "", True, 4000.0), False, 0, "told to stop"),
        (Ending(137, "", False, 4000.0), True, 1, "crash 1 of this chain (exit code 137)"),
        (Ending(137, "", False, None), True, 1, "crash 1"),
        (Ending(137, "", False, 3.0), True, 0, "walltime"),
        (Ending(4, "the journal cannot be written", False, 4000.0), True, 1, "journal"),
        (Ending(1, "", False, 4000.0), True, 1, "exit code 1"),
        (Ending(1, "walltime", False, None), True, 0, "walltime"),
    ],
)
def test_what_follows_from_how_a_job_ended(ending, goes_on, charged, why):
    verdict = decide(ending, job=1, limit=9, crashes=0)
    assert (verdict.go_on, verdict.crashes) == (goes_on, charged)
    assert why in verdict.why
    last = decide(ending, job=9, limit=9, crashes=0)
    assert not last.go_on and (not goes_on or "job 9 of at most 9" in last.why)


def test_crashes_are_bounded_and_walltimes_are_not():
    crash, walltime = Ending(9, "", False, 500.0), Ending(4, "walltime", False, 60.0)
    crashes, jobs = 0, 0
    for ending in [walltime, crash, walltime, walltime, crash, walltime, crash]:
        verdict = decide(ending, jobs, 100, crashes)
        crashes, jobs = verdict.crashes, jobs + verdict.go_on
    assert (crashes, jobs) == (CRASHES + 1, 6) and not verdict.go_on


@pytest.mark.parametrize(
    "line",
    [
        "upf.json",
        "a b.json dflts.json --timeout=-1 --grace=5.0 --hook=m:a --hook=m:b --fresh --restart=EXP000",
        "upf.json --chain=3 --dry-run --exp=/x/EXP001 --after=12.pbs --site=mine.toml --retries=0",
    ],
)
def test_a_command_line_says_what_it_was_made_from(line):
    arguments = line.replace("a b", "a_b").split()
    options = parse(arguments)
    assert parse(command_line(options)) == options


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--chain=0", "'0' is not a whole number from 1 on"),
        ("--retries=1.5", "'1.5' is not a whole number from 0 on"),
        ("--timeout=inf", "'inf' is not a number of seconds"),
        ("--grace=-5", "'-5' is not a number of seconds from 0 on"),
    ],
)
def test_a_number_that_is_none_is_said_with_what_is_expected(capsys, argument, expected):
    with pytest.raises(SystemExit, match="2"):
        parse(["upf.json", argument])
    assert capsys.readouterr().err.endswith(f"error: argument {argument.partition('=')[0]}: {expected}\n")
