"""What is in the archive of an environment; that one works is in test_environment.py."""

import os
import shutil
import tarfile

import pytest

from swiftpy import cli


@pytest.fixture
def env(tmp_path):
    """A virtual environment, and the installation that it was made from, with as few files as there can be."""
    base, env = tmp_path / "python", tmp_path / "env"
    for name in (
        "python/bin/python3.11",
        "python/lib/python3.11/os.py",
        "python/lib/python3.11/email/mime.py",
        "python/lib/python3.11/site-packages/other.py",
        "python/lib/python3.11/test/test_os.py",
        "env/bin/tool",
        "env/lib/python3.11/site-packages/swiftpy.py",
        "env/lib/python3.11/site-packages/test/data.txt",
        "data.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (env / "bin/python3.11").symlink_to(base / "bin/python3.11")
    (env / "bin/python").symlink_to("python3.11")
    (env / "bin/again").symlink_to(env / "bin/tool")
    (env / "data").symlink_to("../data.txt")
    (env / "lib64").symlink_to("lib")
    (env / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    return env


def pack(env, name="e.tar"):
    """The members of the archive that it becomes, and what is in those that are files."""
    archive = env.with_name(name)
    assert cli.main(["stage", "pack", str(env), str(archive)]) == 0
    with tarfile.open(archive) as tar:
        return {member.name: (member, tar.extractfile(member).read() if member.isreg() else b"") for member in tar}


def test_all_of_the_environment_and_of_the_standard_library_what_jobs_need(env, capsys):
    members = pack(env)
    assert sorted(name for name, (member, _) in members.items() if not member.isdir()) == [
        "base/bin/python3.11",
        "base/lib/python3.11/email/mime.py",
        "base/lib/python3.11/os.py",
        "bin/again",
        "bin/python",
        "bin/python3.11",
        "bin/tool",
        "data",
        "lib/python3.11/site-packages/swiftpy.py",
        "lib/python3.11/site-packages/test/data.txt",
        "lib64",
        "pyvenv.cfg",
    ]
    links = {name: member.linkname for name, (member, _) in members.items() if member.issym()}
    assert links == {
        "bin/python": "../base/bin/python3.11",
        "bin/python3.11": "../base/bin/python3.11",
        "lib64": "lib",
    }
    said = capsys.readouterr()
    assert f"{len(members)} files, 0 MB: {env.with_name('e.tar')}" in said.out and said.err == ""


def test_a_link_that_leads_out_or_is_absolute_becomes_what_it_leads_to(env):
    members = pack(env)
    assert members["data"][1] == b"data.txt" and members["bin/again"][1] == members["bin/tool"][1] == b"env/bin/tool"


def test_the_archive_is_nobodys_and_its_times_are_whole_seconds(env):
    """A fraction of a second takes a header of its own."""
    os.utime(env / "bin/tool", ns=(10**18, 10**18 + 5 * 10**8))
    (env / "bin/tool").chmod(0o750)
    tool = pack(env)["bin/tool"][0]
    assert (tool.uid, tool.gid, tool.uname, tool.gname) == (0, 0, "", "")
    assert tool.mode == 0o750 and tool.mtime == 10**9 and "mtime" not in tool.pax_headers


def test_an_interpreter_that_was_copied_into_the_environment(env):
    """`venv --copies`: where the installation is, pyvenv.cfg alone says."""
    (env / "bin/python3.11").unlink()
    shutil.copy(env.with_name("python") / "bin/python3.11", env / "bin/python3.11")
    members = pack(env)
    assert members["bin/python3.11"][0].isreg() and members["bin/python"][0].linkname == "python3.11"
    assert "base/lib/python3.11/os.py" in members
    (env / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert not any(name.startswith("base") for name in pack(env)), "the system's is on every node"


def test_an_environment_that_was_made_from_another_one(env, tmp_path):
    """Its pyvenv.cfg names that one, which has no standard library."""
    (env / "pyvenv.cfg").write_text(f"home = {tmp_path}/elsewhere/bin\n")
    assert "base/lib/python3.11/os.py" in pack(env)


def test_an_installation_of_its_own_is_packed_as_it_is(env):
    """Such as conda's."""
    (env / "pyvenv.cfg").unlink()
    members = pack(env)
    assert "bin/tool" in members and not any(name.startswith("base") for name in members)


@pytest.mark.parametrize("name", ["e.tar", "e.tar.gz", "e.tgz"])
def test_it_is_compressed_as_its_name_says(env, name):
    assert "bin/tool" in pack(env, name)
    assert env.with_name(name).read_bytes().startswith(b"\x1f\x8b") == (name != "e.tar")


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda env: (env / "pyvenv.cfg").write_text("version = 3\n"), "pyvenv.cfg has no line home = ...: the"),
        (lambda env: (env.with_name("python") / "bin/python3.11").unlink(), "bin/python3.11, which is not there: the"),
        (lambda env: (env.with_name("python") / "lib/python3.11/os.py").unlink(), "the standard library of"),
        (lambda env: (env / "out").symlink_to(env.parent), "env/out leads out of the environment, to a folder or to"),
    ],
)
def test_what_is_broken_is_said_and_leaves_no_archive(env, capsys, break_it, problem):
    break_it(env)
    assert cli.main(["stage", "pack", str(env), str(env.with_name("e.tar"))]) == 2
    assert problem in capsys.readouterr().err
    assert {path.name for path in env.parent.iterdir()} == {"env", "python", "data.txt"}


def test_packages_in_editable_form_and_a_missing_swiftpy_are_named(env, capsys):
    site = env / "lib/python3.11/site-packages"
    (site / "swiftpy.py").unlink()
    (site / "__editable__.hed.pth").write_text("import __editable___hed_finder\n")
    (site / "beside.pth").write_text(f"{env}-src\nimport site\n")
    (site / "own.pth").write_text(f"{env}/lib/more\nrelative\n")
    pack(env)
    assert capsys.readouterr().err.splitlines() == [
        "swiftpy is not installed in it: RUNs cannot be run from it",
        "__editable__.hed.pth: an editable installation is not packed: see the file",
        f"beside.pth: an editable installation is not packed: {env}-src",
    ]
