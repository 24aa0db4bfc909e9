"""An environment that is packed, unpacked at another path, and used there."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
import zstandard

from swiftpy import __version__, cli
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


@pytest.mark.parametrize("name", ["new", "a place with blanks"])
def test_a_packed_environment_works_elsewhere(env, tmp_path, name, capsys):
    target = pack_and_unpack(env, tmp_path / "env.tar.zst", tmp_path / name)
    assert zstandard.get_frame_parameters((tmp_path / "env.tar.zst").read_bytes()).has_checksum
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


def test_other_paths_that_begin_alike_stay_as_they_are(tmp_path):
    """/home/me/env-data/x became /tmp/me/software-ab-data/x."""
    text = "#!{env}/bin/python\n# {env}/lib:{env}; '{env}' {env}-data/x {env}2/x {env}.old {env}é/x\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "bin/tool").write_text(text.format(env="/home/me/env"), encoding="utf-8")
    (tmp_path / "bin/other").write_text("#!/home/me/env-data/bin/python\n")
    assert environment.adapt(tmp_path, tmp_path / "new", Path("/home/me/env")) == ["bin/tool"]
    first, second = (tmp_path / "bin/tool").read_text(encoding="utf-8").splitlines()
    assert first == f"#!{tmp_path}/new/bin/python"
    stay = "/home/me/env-data/x /home/me/env2/x /home/me/env.old /home/me/envé/x"
    assert second == f"# {tmp_path}/new/lib:{tmp_path}/new; '{tmp_path}/new' {stay}"


@pytest.mark.parametrize("name", ["new", "a place with blanks", "long" * 60])
def test_a_script_runs_with_its_options_wherever_it_is(tmp_path, name):
    """Where the kernel cannot start it, sh looked for a program called `.../bin/python -I`."""
    (tmp_path / "part/bin").mkdir(parents=True)
    (tmp_path / "part/bin/python").symlink_to(sys.executable)
    tool = tmp_path / "part/bin/tool"
    tool.write_text("#!/home/me/env/bin/python -I\nimport sys\nprint(sys.flags.isolated, sys.argv)\n")
    tool.chmod(0o755)
    assert environment.adapt(tmp_path / "part", tmp_path / name, Path("/home/me/env")) == ["bin/tool"]
    (tmp_path / "part").rename(tmp_path / name)
    tool = tmp_path / name / "bin/tool"
    done = subprocess.run([tool, "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == f"1 {[str(tool), 'a b']}\n"


def test_a_script_for_another_interpreter_of_the_environment_does_not_start_itself_for_ever(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "bin/tool").write_text("#!/home/me/env/bin/bash\necho x\n")
    environment.adapt(tmp_path, tmp_path / "with blanks", Path("/home/me/env"))
    assert (tmp_path / "bin/tool").read_text() == f"#!{tmp_path}/with blanks/bin/bash\necho x\n"


def test_what_is_no_script_of_its_own_stays_as_it_is(tmp_path):
    """A program that was compiled with a path in it would not run with a longer one; a link is no copy."""
    folder, old = tmp_path / "env/bin", b"/home/me/env"
    folder.mkdir(parents=True)
    (tmp_path / "env/note").write_bytes(old)
    before = {"python": b"\0" + old, "a-large-text": old + b" " * (1 << 20), "tool": b"#!" + old + b"/bin/python\n"}
    for name, data in before.items():
        (folder / name).write_bytes(data)
    (folder / "link").symlink_to("../note")
    (folder / "activate").write_text("export VIRTUAL_ENV='/home/me/env'\n")
    assert environment.adapt(tmp_path, tmp_path / "new") == ["env/bin/activate", "env/bin/tool"], "a folder in it"
    assert (folder / "activate").read_text() == f"export VIRTUAL_ENV='{tmp_path}/new/env'\n"
    assert (folder / "link").is_symlink() and (tmp_path / "env/note").read_bytes() == old
    now = {name: (folder / name).read_bytes() for name in before}
    assert now == {**before, "tool": f"#!{tmp_path}/new/env/bin/python\n".encode()}


def test_a_folder_without_an_environment_is_not_adapted_nor_one_made_nobody_knows_where(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/home/me/env/bin/python\n")
    assert environment.adapt(tmp_path, tmp_path / "new", Path("/home/me/env")) == []
    (tmp_path / "bin/python").symlink_to(sys.executable)
    assert environment.adapt(tmp_path, tmp_path / "new") == []


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


@pytest.mark.parametrize(
    ("arguments", "said"), [(("stage", "pack", "--help"), "env.tar.zst"), (("--version",), f"swiftpy {__version__}\n")]
)
def test_the_command_explains_itself(arguments, said):
    command = [sys.executable, "-m", "swiftpy.cli", *arguments]
    assert said in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def own_libraries(tmp_path):
    """A virtual environment made from an installation that has its libraries in itself, as conda's have."""
    if shutil.which("gcc") is None:
        pytest.skip("without a compiler no library can be made")
    base, env = tmp_path / "conda", tmp_path / "env"
    for folder in (
        base / "bin",
        base / "lib/python3.11/lib-dynload",
        env / "bin",
        env / "lib/python3.11/site-packages",
    ):
        folder.mkdir(parents=True)
    (base / "lib/python3.11/os.py").touch()
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    (tmp_path / "none.c").write_text("int none(void) { return 0; }\n")
    to_lib = "-Wl,--no-as-needed,-rpath,$ORIGIN/{}"
    for target, text, *options in (
        ("bin/python3.11", "main.c"),
        ("lib/libcrypto.so.3.1", "none.c", "-shared", "-Wl,-soname,libcrypto.so.3"),
        (
            "lib/libssl.so.3",
            "none.c",
            "-shared",
            "-Wl,-soname,libssl.so.3",
            to_lib.format("."),
            base / "lib/libcrypto.so.3",
        ),
        ("lib/libTK.so", "none.c", "-shared"),
        ("lib/python3.11/lib-dynload/_ssl.so", "none.c", "-shared", to_lib.format("../.."), base / "lib/libssl.so.3"),
    ):
        subprocess.run(["gcc", tmp_path / text, *options, "-o", base / target], check=True)
        (base / "lib/libcrypto.so.3").unlink(missing_ok=True)
        (base / "lib/libcrypto.so.3").symlink_to("libcrypto.so.3.1")
    (env / "bin/python").symlink_to(base / "bin/python3.11")
    (env / "pyvenv.cfg").write_text(f"home = {base}/bin\ninclude-system-site-packages = true\n")
    return env


def test_the_libraries_that_an_installation_has_for_itself_come_along(own_libraries, tmp_path, capsys):
    """Without OpenSSL and libffi, conda's Python ended on the nodes at `import ssl`, and so did pip's, and requests."""
    assert cli.main(["stage", "pack", str(own_libraries), str(tmp_path / "e.tar")]) == 0
    with tarfile.open(tmp_path / "e.tar") as tar:
        found = {member.name: member for member in tar if member.name.startswith("base/lib/lib")}
    assert set(found) == {"base/lib/libcrypto.so.3", "base/lib/libssl.so.3"}
    assert all(member.isreg() and member.size for member in found.values())


def test_packages_of_the_installation_that_an_environment_uses_are_named(own_libraries, tmp_path, capsys):
    assert cli.main(["stage", "pack", str(own_libraries), str(tmp_path / "e.tar")]) == 0
    warning = (
        f"{tmp_path}/conda/lib/python3.11/site-packages is not packed, though pyvenv.cfg includes it: install into"
    )
    assert warning in capsys.readouterr().err
    config = own_libraries / "pyvenv.cfg"
    config.write_text(config.read_text().replace("true", "false"))
    assert cli.main(["stage", "pack", str(own_libraries), str(tmp_path / "e.tar")]) == 0
    assert "site-packages is not packed" not in capsys.readouterr().err
