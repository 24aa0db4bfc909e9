"""`swiftpy.app` in real jobs."""

import pytest

import swiftpy
from test_programs import passes

pytestmark = pytest.mark.mpi_job


def test_files_flow_between_commands_and_tasks(tmp_path):
    passes(
        tmp_path,
        """
        from pathlib import Path
        from swiftpy import Output, app

        @swiftpy.task
        def lines(path): return len(Path(path).read_text().splitlines())
        @swiftpy.task
        def many(n): return [Path(f"{i}.txt") for i in range(n)]

        numbers = app(["seq", 3], stdout="deep/er/a file.txt")
        left, right = Output("left.txt"), Output("right.txt")
        split = app(["sh", "-c", 'cat > "$1"; cp "$1" "$2"', b"sh", [left, right]], stdin=numbers)
        both = app(["cat", left, right, numbers], stdout="both.txt")
        assert lines(both).result() == 9 and lines(right).result() == 3
        assert split.result() == [Path("left.txt"), Path("right.txt")] and both.result() == Path("both.txt")

        made = swiftpy.gather([app(["echo", i], stdout=f"{i}.txt") for i in range(4)])
        assert lines(app(["cat", many(4)], stdout="all.txt", inputs=made)).result() == 4

        assert app(["true"]).result() is None
        env = {"SIZE": 9}
        where = app(["sh", "-c", 'pwd; echo $SIZE'], cwd="runs/1", env=env, stdout="where.txt")
        env["SIZE"] = 10  # for the next
        where = where.result()
        assert Path(where).read_text().split("\\n")[:2] == [str(Path("runs/1").resolve()), "9"]
        assert lines(app(["sh", "-c", 'cat "$0"', numbers], cwd="runs/2", stdout="3.txt")).result() == 3
        said = app(["sh", "-c", "echo out; echo err >&2"], stdout="out.log", stderr="err.log").result()
        assert (Path("out.log").read_text(), Path("err.log").read_text()) == ("out\\n", "err\\n")
        assert not list(Path().glob("**/.part-*"))
        """,
    )


def test_a_command_is_a_list():
    with pytest.raises(TypeError, match="a list"):
        swiftpy.app("echo hi")
    with pytest.raises(TypeError, match="a list"):
        swiftpy.app(["cat"], inputs="a file")


def test_what_a_command_complains_of_is_no_output():
    with pytest.raises(TypeError, match=r"stderr must be a path, a\.log"):
        swiftpy.app(["cat"], stderr=swiftpy.Output("a.log"))


def test_an_output_is_no_text():
    output = swiftpy.Output("q.txt")
    for text in (str, "--out={}".format, "--out={:>9}".format, "--out=%s".__mod__):
        with pytest.raises(TypeError, match=r"Output\('q\.txt', prefix='--out='\)"):
            text(output)
    with pytest.raises(ValueError, match=r"stdout must be a file, a\.log, without a prefix"):
        swiftpy.app(["cat"], stdout=swiftpy.Output("a.log", prefix="-"))


def test_a_command_that_fails_leaves_no_output_and_says_why(tmp_path):
    result = passes(
        tmp_path,
        """
        from swiftpy import Output, app

        def why(*args, **kwargs):
            error = app(*args, **kwargs).exception()
            return f"{error.kind}: {error.message}"

        print(why(["sh", "-c", "echo half; echo 'no such drug' >&2; exit 3"], stdout="half.txt"))
        print(why(["ls", "/none"], stderr="err.log"))
        print(why(["sh", "-c", "kill -SEGV $$"], stdout="half.txt"))
        print(why(["no-such-program", 1], stdout="half.txt"))
        print(why(["sleep", "30"], timeout=0.3, stdout="half.txt"))
        print(why(["true", Output("half.txt")]))
        print(why(["true"], inputs=["missing.dat"]))
        print(why(["cat", "x"], stdin="missing.dat"))
        print(why(["echo", None]))
        culprit = app(["false"], stdout="half.txt")
        after = app(["cat", culprit], stdout="rest.txt").exception()
        print(after.kind, after.message)
        assert culprit.exception().kind == "exception"
        tries = app(["sh", "-c", "mkdir first 2>/dev/null && exit 1; echo ok"], retries=1, stdout="second.txt")
        print(tries.result())
        unmade = swiftpy.task(lambda path: path)(Output("never.txt")).exception()
        print(unmade.message)
        for bad in (lambda: app([]), lambda: app(["a"], stdout="x", stderr="./x"), lambda: app(["a"], ranks=2)):
            try: bad()
            except (TypeError, ValueError) as error: print(error)
        """,
    )
    assert not (tmp_path / "half.txt").exists() and not (tmp_path / "rest.txt").exists()
    expected = """\
exception: swiftpy.flow.command.CommandError: sh -c 'echo half; echo '"'"'no such drug'"'"' >&2; exit 3': exit code 3 \
no such drug
exception: swiftpy.flow.command.CommandError: ls /none: exit code 2 ls: cannot access '/none': No such file or directory
exception: swiftpy.flow.command.CommandError: sh -c 'kill -SEGV $$': killed by signal 11 (Segmentation fault)
exception: swiftpy.flow.command.CommandError: no-such-program 1: it cannot be started: No such file or directory
timeout: it ran longer than its time limit of 0.3 s and was killed
exception: swiftpy.flow.command.CommandError: true .part-half.txt: it succeeded, but has not made half.txt
exception: FileNotFoundError: true: its input missing.dat is not there
exception: FileNotFoundError: [Errno 2] No such file or directory: 'missing.dat'
exception: TypeError: an argument of the command is None
"""
    said = [line for line in result.stdout.splitlines() if line != "no such drug"]
    assert len(result.stdout.splitlines()) == len(said) + 1  # what a command says is passed on
    lines = expected.splitlines()
    assert said[: len(lines)] == lines
    rest = said[len(lines) :]
    assert rest[0].startswith("cancelled ") and "false" in rest[0]
    assert rest[1:] == [
        "second.txt",
        "TypeError: the arguments cannot be sent: no command makes never.txt: an Output is first given to swiftpy.app",
        "swiftpy.app needs a command",
        "stdout and stderr cannot be the same file, x",
        "a command runs on one worker: it cannot have ranks",
    ]


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path):
    passes(
        tmp_path,
        """
        swiftpy.app(["sh", "-c", "sleep 600 & echo $! > pid; echo said >&2"], timeout=200).result()
        os.kill(int(open("pid").read()), 9)
        """,
    )


def test_outputs_that_are_directories_named_twice_or_part_of_an_argument(tmp_path):
    passes(
        tmp_path,
        """
        from swiftpy import Output, app
        from swiftpy.flow.command import CommandError

        for _ in range(2):
            error = app(["sh", "-c", 'mkdir "$0"; exit 3', Output("made")]).exception()
            assert "exit code 3" in str(error) and not os.listdir(".").count(".part-made"), error
        twice = app(["sh", "-c", 'echo 1 > "$0"; echo 2 >> "$1"', Output("a"), Output(os.path.abspath("a"))])
        twice.result()
        assert open("a").read() == "1\\n2\\n"
        made = Output("dir/made", prefix="of=")
        path = app(["dd", "if=/dev/zero", "bs=1", "count=3", made], stderr="dd.log")
        assert app(["stat", "-c", "%n %s", made], stdout="size.txt").result() and str(path.result()) == made.path
        assert open("size.txt").read() == "dir/made 3\\n" and os.listdir("dir") == ["made"]
        names = app(["sh", "-c", 'echo "$0" > "${0#--out=}"', Output("c", prefix="--out=")])
        names.result()
        assert open("c").read() == "--out=.part-c\\n"
        first = Output("b")
        app(["touch", first])
        try:
            app(["echo"], stdout=first)
        except ValueError as error:
            assert "another one makes b" in str(error)
        else:
            raise AssertionError
        """,
    )
