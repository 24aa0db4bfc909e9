"""One external command, run in this process; what programs do with commands is in test_app.py."""

import os
import pickle
import pty
import signal
from pathlib import Path

import pytest

from swiftpy.flow.command import TAIL, CommandError, Made, run_command


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """In a directory of its own; a command leaves neither descriptors behind nor a handler, and no other directory."""
    monkeypatch.chdir(tmp_path)
    before = sorted(Path("/proc/self/fd").iterdir()), signal.getsignal(signal.SIGTERM)
    yield
    assert (sorted(Path("/proc/self/fd").iterdir()), signal.getsignal(signal.SIGTERM)) == before
    assert Path.cwd() == tmp_path


def run(*argv, stdin=None, stdout=None, stderr=None, inputs=(), cwd=None, env=None):
    return run_command(list(argv), stdin, stdout and Made(stdout), stderr, list(inputs), cwd, env)


def shell(script, *argv, **options):
    return run("sh", "-c", script, *argv, **options)


def failed(*argv, **options):
    with pytest.raises(CommandError) as caught:
        run(*argv, **options)
    return caught.value


def test_paths_are_relative_to_where_the_job_was_started_and_strings_to_where_the_command_runs():
    Path("in.txt").write_text("in")
    options = {"stdin": "in.txt", "inputs": ["in.txt", None], "cwd": "a/b", "stdout": "out/x/1", "stderr": "err/x/1"}
    script = 'cat - "$0" ../../in.txt > "$1"; echo out; echo err >&2'
    assert shell(script, Path("in.txt"), Made("made/1"), **options) == [Path("made/1"), Path("out/x/1")]
    texts = {str(path): path.read_text() for path in Path().rglob("*") if path.is_file()}
    assert texts == {"in.txt": "in", "made/1": "ininin", "out/x/1": "out\n", "err/x/1": "err\n"}


@pytest.mark.parametrize("cwd", [None, "elsewhere"])
def test_a_path_as_the_command_is_a_program_here(cwd):
    """One that was made here, and called `uname`, was not run, but the system's."""
    Path("uname").write_text("#!/bin/sh\necho mine $1\n")
    Path("uname").chmod(0o755)
    run(Path("uname"), Path("uname"), stdout="said", cwd=cwd)
    assert Path("said").read_text() == f"mine {Path.cwd() / 'uname' if cwd else 'uname'}\n"


def test_an_input_that_is_missing_of_several_in_a_list():
    Path("there").touch()
    with pytest.raises(FileNotFoundError, match="true: its input gone is not there"):
        run("true", inputs=["there", ["there", (Path("gone"),)]])


def test_its_environment_is_that_of_the_job_and_more(monkeypatch):
    monkeypatch.setenv("OF_JOB", "1")
    monkeypatch.setenv("NUMBER", "1")
    shell('echo "$OF_JOB $NUMBER $BYTES"; cat', stdout="said", env={"NUMBER": 2, "BYTES": b"3"})
    assert Path("said").read_text() == "1 2 3\n", "and it has no input"


def test_a_program_is_looked_for_in_the_path_that_it_gets():
    """That of the job found another version of it."""
    Path("mine").mkdir()
    Path("mine/uname").write_text("#!/bin/sh\necho mine\n")
    Path("mine/uname").chmod(0o755)
    run("uname", stdout="said", env={"PATH": f"{Path.cwd()}/mine:{os.environ['PATH']}"})
    assert Path("said").read_text() == "mine\n"
    assert failed("uname", env={"PATH": "/nowhere"}).code == 127


def test_a_variable_that_is_none_is_no_text():
    with pytest.raises(TypeError, match="X in the environment of the command is None"):
        run("true", env={"X": None})


def test_signals_that_python_ignores_end_it_as_usual():
    run("grep", "SigIgn", "/proc/self/status", stdout="status")
    ignored = int(Path("status").read_text().split()[1], 16)
    assert not any(ignored >> number - 1 & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT))


@pytest.mark.parametrize("stderr", [None, "err"])
def test_a_request_to_stop_is_for_the_command(stderr):
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # the first may come before the command's is there
    try:
        error = failed("sh", "-c", "while :; do kill -TERM $PPID; sleep 0.02; done", stderr=stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (error.code, error.problem) == (-15, "killed by signal 15 (Terminated)")


@pytest.mark.parametrize("stderr", [None, "err"])
def test_an_error_quotes_the_end_of_what_was_said(stderr):
    said = "".join(f"{n}\n" for n in range(1000)).encode()
    script = "i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done >&2; exit 4"
    error = pickle.loads(pickle.dumps(failed("sh", "-c", script, stderr=stderr)))
    assert (error.code, error.problem, error.stderr) == (4, "exit code 4", said[-TAIL:].decode())
    assert str(error).endswith("exit code 4\n" + error.stderr.rstrip())
    if stderr:
        assert Path(stderr).read_bytes() == said
    error = failed("sh", "-c", "printf '\\377' >&2; exit 4", stderr=stderr)
    assert error.stderr == "\N{REPLACEMENT CHARACTER}", "of this attempt alone"


def test_it_may_close_its_stderr_and_go_on():
    assert failed("sh", "-c", "exec 2>&-; sleep 0.1; exit 3").code == 3


def test_where_nothing_more_can_be_logged_it_goes_on(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert shell("echo x >&2; echo y", stdout="made") == Path("made")


def test_it_makes_all_of_its_files_or_none():
    Path("b").write_text("of before")
    error = failed("sh", "-c", 'echo 1 > "$0"; echo 2 > "$1"', Made("b"), Made("c"), Made("d"))
    assert error.problem == "it succeeded, but has not made d"
    assert list(Path().iterdir()) == [Path("b")] and Path("b").read_text() == "of before"


def test_a_device_stays_one():
    """Where everyone is root, as in containers, a file took the place of /dev/null."""
    reads, terminal = pty.openpty()
    try:
        name = os.ttyname(terminal)
        assert shell('echo 1; echo 2 > "$0"', Made(name), stdout=name) is None
        assert os.read(reads, 100).split() == [b"1", b"2"]
        assert shell('echo 1; echo 2 > "$0"', Made("file"), stdout=name) == Path("file")
    finally:
        os.close(terminal)
        os.close(reads)


def test_a_directory_that_it_makes_takes_the_place_of_that_of_before():
    """As a file does: or the same script, started again, would fail when the work is done."""
    Path("elsewhere").mkdir()
    Path("b").symlink_to("elsewhere")
    shell('mkdir "$0"', Made("new"))
    for name in ("a/0", ".before-a/0"):  # one was killed
        Path(name).mkdir(parents=True)
    for n in "12":
        shell('mkdir "$0" "$1"; touch "$0/$2" "$1/$2"', Made("a"), Made("b"), n)
    with pytest.raises(IsADirectoryError):
        shell('echo > "$0"', Made("a"))
    assert sorted(map(str, Path().rglob("*"))) == ["a", "a/2", "b", "b/2", "elsewhere", "new"]


def test_what_a_killed_one_left_is_removed_and_no_more():
    Path("keep").mkdir()
    Path(".part-a").mkdir()
    Path(".part-b").symlink_to("keep")
    script = 'test ! -e "$0" && test ! -e "$1" && ln -s keep "$0" && mkdir "$1" && exit 5'
    assert failed("sh", "-c", script, Made("a"), Made("b")).code == 5
    assert list(Path().iterdir()) == [Path("keep")]


@pytest.mark.parametrize(("name", "problem"), [("no-such-program", "No such file"), ("./plain", "Permission denied")])
def test_one_that_cannot_be_started(name, problem):
    Path("in").mkdir()
    Path("in/plain").touch(mode=0o600)
    error = failed(name, cwd="in", stderr="err")
    assert error.code == 127 and error.problem.startswith(f"it cannot be started: {problem}")
    assert str(error) == f"{name}: {error.problem}"
