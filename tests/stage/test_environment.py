"""An environment that is packed, unpacked at another path, and used there."""

import os
import socket
import subprocess
import sys
import venv

import pytest

from swiftpy import cli
from swiftpy.runtime.stage import environment
from swiftpy.runtime.stage.unpack import Unpacker


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """A virtual environment with a script as pip writes them, and a link out of it."""
    root = tmp_path_factory.mktemp("made") / "env"
    venv.create(root, symlinks=True)
    (root / "bin/tool").write_text(f"#!{root}/bin/python\nimport sys, helper\nprint(sys.prefix, helper.__file__)\n")
    (root / "bin/tool").chmod(0o755)
    (root / "bin/other").write_text("#!/bin/sh\necho untouched\n")
    site = next(root.glob("lib/python3.*/site-packages"))
    (site / "helper.py").write_text("")
    (root.parent / "data").write_text("data")
    (root / "data").symlink_to(root.parent / "data")
    return root


def bind(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # no address may be longer than 107 bytes


def pack_and_unpack(env, archive, target):
    assert cli.main(["stage", "pack", str(env), str(archive)]) == 0
    part = target.with_name("part")
    part.mkdir(parents=True)
    Unpacker(part)(iter([memoryview(archive.read_bytes())]))
    environment.adapt(part, target)
    part.rename(target)
    return target


@pytest.mark.parametrize("name", ["new", "a place with blanks", "long" * 40], ids=["new", "blanks", "long"])
def test_a_packed_environment_works_elsewhere(env, tmp_path, name, capsys):
    target = pack_and_unpack(env, tmp_path / "env.tar.zst", tmp_path / name)
    hidden = env.with_name("gone")
    env.rename(hidden)  # so that nothing can come from there
    try:
        clean = {"PATH": os.environ["PATH"]}
        out = subprocess.run([target / "bin/tool"], env=clean, capture_output=True, text=True, check=True).stdout
        assert out.startswith(str(target)) and out.count(str(target)) == 2
        code = "import os, sys; print(os.path.realpath(os.__file__), sys.executable)"
        python = [target / "bin/python", "-c", code]
        out = subprocess.run(python, env=clean, capture_output=True, text=True, check=True).stdout
        assert f"{target}/bin/python" in out
        if (target / environment.BASE).exists():
            assert f"{os.path.realpath(target)}/base/lib" in out, "the standard library is the packed one"
    finally:
        hidden.rename(env)
    assert "swiftpy is not installed in it" in capsys.readouterr().err
    assert (target / "data").read_text() == "data" and not (target / "data").is_symlink()
    assert (target / "bin/other").read_text() == "#!/bin/sh\necho untouched\n"


def test_what_is_no_environment(tmp_path, capsys):
    assert cli.main(["stage", "pack", str(tmp_path), str(tmp_path / "x.tar")]) == 2
    assert "it has no bin/python" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("/nowhere"), "leads out"),
        (os.mkfifo, "is neither a file"),
        (bind, "is neither a file"),
    ],
    ids=["link", "fifo", "socket"],
)
def test_what_nodes_would_refuse_is_named(env, tmp_path, capsys, make, problem):
    make(env / "a broken")
    try:
        assert cli.main(["stage", "pack", str(env), str(tmp_path / "x.tar")]) == 2
    finally:
        (env / "a broken").unlink()
    assert f"env/a broken {problem}" in capsys.readouterr().err


def test_an_archive_in_the_environment_itself(env, capsys):
    assert cli.main(["stage", "pack", str(env), str(env / "env.tar")]) == 2
    assert "would become a part of itself" in capsys.readouterr().err and not list(env.glob("*.tar*"))


def test_the_command_explains_itself():
    command = [sys.executable, "-m", "swiftpy.cli", "stage", "pack", "--help"]
    assert "env.tar.zst" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
