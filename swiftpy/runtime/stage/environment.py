"""A Python environment at another path than the one it was made at: adapting a copy, and packing one for that.

A virtual environment names its own path in `pyvenv.cfg`, in the first lines of its scripts and in `activate`, and takes
the standard library from the installation that it was made from.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from swiftpy.runtime.stage import local

#: In an environment that was packed: the installation that it was made from.
BASE = "base"
_LARGEST_SCRIPT = 1 << 20
_LONGEST_SHEBANG = 127  # what every Linux kernel takes
#: The standard library's parts that no job needs, and what is installed in the base but not in the environment.
_NOT_PACKED = ("site-packages", "dist-packages", "test", "idlelib", "turtledemo", "ensurepip")


def find(folder: Path) -> Path | None:
    """The environment in a folder: itself, or the one folder in it (an archive of `env/`); None if there is none."""
    for candidate in (folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())):
        if os.path.lexists(candidate / "bin" / "python"):
            return candidate
    return None


def adapt(folder: Path, target: Path, made_at: Path | None = None) -> list[str]:
    """Make the environment in `folder` work once it has the path `target`; return the names of changed files.

    It was made at `made_at`, unless its own `activate` says otherwise.

    Nothing is done for a folder without one. Extension modules that hold paths (RPATH) are left alone.
    """
    root = find(folder)
    if root is None:
        return []
    new = str(target / root.relative_to(folder))
    changed = [*_adapt_config(root, new), *_adapt_scripts(root, new, made_at or root)]
    return [str(path.relative_to(folder)) for path in changed]


def _adapt_config(root: Path, new: str) -> Iterator[Path]:
    config = root / "pyvenv.cfg"
    if config.exists() and (root / BASE / "bin").is_dir():
        text = config.read_text(encoding="utf-8")
        _rewrite(config, re.sub(r"(?m)^home\s*=.*$", lambda _: f"home = {new}/{BASE}/bin", text).encode())
        yield config


def _adapt_scripts(root: Path, new: str, made_at: Path) -> Iterator[Path]:
    # Not where the name goes on: /home/me/env-data is another place.
    old = re.compile(re.escape(_own_path(root) or os.fsencode(made_at)) + rb"(?![\w.+@~%\x80-\xff-])")
    moved = partial(old.sub, lambda _: new.encode())
    for script in sorted((root / "bin").iterdir()):
        if script.is_symlink() or not script.is_file() or script.stat().st_size > _LARGEST_SCRIPT:
            continue
        data = script.read_bytes()
        if b"\0" in data or not old.search(data):
            continue
        first, _, rest = data.partition(b"\n")
        own = re.match(b"#!" + old.pattern + b"/bin/python", first)
        if own and (" " in new or len(moved(first)) > _LONGEST_SHEBANG):
            # The kernel takes neither blanks nor long paths. To sh the second line is a command, to Python a string;
            # a shell of the environment's own would start itself for ever.
            python = re.sub(rb"^\S+", rb'"\g<0>"', first[2:].strip())  # options such as -I stay outside of the quotes
            first = b"#!/bin/sh\n'''exec' " + python + b" \"$0\" \"$@\"\n' '''"
            data = first + b"\n" + rest
        _rewrite(script, moved(data))
        yield script


def _own_path(root: Path) -> bytes | None:
    """Where the environment was made, as its `activate` says."""
    activate = root / "bin" / "activate"
    text = activate.read_bytes() if activate.exists() else b""
    found = re.search(rb"^\s*(?:export )?VIRTUAL_ENV=[\"']?(/[^\"'\n]+)", text, re.M)
    return found[1] if found else None


def _rewrite(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode
    path.unlink()  # it may be a hard link to another file of the archive
    path.write_bytes(data)
    path.chmod(mode)


def pack(env: Path, archive: Path, tell: Callable[[str], None]) -> None:
    """Make an archive of an environment that can be unpacked and used at any path; see `adapt`.

    The installation that it was made from comes along in `base/`, unless that is the system's (/usr), which is on
    every node. `.gz` is compressed by gzip, `.zst` by zstd with all cores, other names not at all. ValueError for what
    is no environment, or holds what nodes would refuse.
    """
    base = _base_of(env)
    if archive.resolve().is_relative_to(env.resolve()):
        raise ValueError(f"{archive} would become a part of itself: put it outside of {env}")
    temporary = local.unique(archive, "part")
    try:
        with (
            temporary.open("wb") as file,
            _compressed(file, archive.suffix) as stream,
            tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as tar,
        ):
            count = _add_tree(tar, env, "", lambda path: _own_link(env, path, base), tell)
            if base:
                count += _add_base(tar, *base, tell)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    tell(f"{count} files, {archive.stat().st_size / 1e6:.0f} MB: {archive}")


def _base_of(env: Path) -> tuple[Path, str] | None:
    """Root and `pythonX.Y` of the installation behind an environment, if it must be packed, too."""
    if not os.path.lexists(env / "bin" / "python"):
        raise ValueError(f"{env} is no Python environment: it has no bin/python")
    config = env / "pyvenv.cfg"
    if not config.exists():
        return None  # an installation of its own, such as conda's
    home = re.search(r"(?m)^home\s*=\s*(.+?)\s*$", config.read_text(encoding="utf-8"))
    if home is None:
        raise ValueError(f"{config} has no line home = ...: the environment is broken")
    python = (env / "bin" / "python").resolve()
    if not python.exists():
        raise ValueError(f"{env}/bin/python leads to {python}, which is not there: the environment is broken")
    name = next((path.name for path in sorted((env / "lib").glob("python3.*"))), "")
    # An environment made from another one names that as its home; a copied interpreter leads nowhere else.
    root = Path(home[1]).parent if python.is_relative_to(env.resolve()) else python.parents[1]
    if str(root.resolve()) in ("/usr", "/"):
        return None
    if not (root / "lib" / name / "os.py").exists():
        raise ValueError(f"{root}/lib/{name}, the standard library of {env}, is not there")
    return root, name


def _own_link(env: Path, path: Path, base: tuple[Path, str] | None) -> str | None:
    """What a link of the environment says in the archive; None to pack what it leads to instead."""
    text = os.readlink(path)  # noqa: PTH115  # a Path would change ./x
    leads = path.resolve()
    if not text.startswith("/") and leads.is_relative_to(env.resolve()):
        return text
    if base and path.parent == env / "bin" and leads == (base[0] / "bin" / base[1]).resolve():
        return f"../{BASE}/bin/{base[1]}"
    return None


def _add_tree(
    tar: tarfile.TarFile, root: Path, prefix: str, link: Callable[[Path], str | None], tell: Callable[[str], None]
) -> int:
    count = 0
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not (prefix and name in _NOT_PACKED))
        for name in [*folders, *sorted(files)]:
            path = here / name
            info = tar.gettarinfo(path, prefix + str(path.relative_to(root)))
            if info is None or info.isdev():  # None: a socket; a fifo is a device
                raise ValueError(f"{path} is neither a file nor a folder nor a link: remove it")
            text = link(path) if info.issym() else None
            if info.issym() and text is None:
                info = _followed(tar, path, info.name)
            elif text is not None:
                info.linkname = text
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = int(info.mtime)  # a fraction would take a header of its own, a third of the time of unpacking
            _add(tar, info, path)
            count += 1
            if count % 10_000 == 0:
                tell(f"{count} files ...")
    return count


def _followed(tar: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
    """A link that leads out is packed as the file that it leads to."""
    if not path.is_file():
        raise ValueError(f"{path} leads out of the environment, to a folder or to nothing: remove it or copy it in")
    return tar.gettarinfo(path.resolve(), name)


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    if info.isreg():
        with path.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)


def _add_base(tar: tarfile.TarFile, root: Path, name: str, tell: Callable[[str], None]) -> int:
    def as_file(path: Path) -> str | None:
        return None

    library = root / "lib" / name
    tell(f"with {library}, the standard library")
    count = _add_tree(tar, library, f"{BASE}/lib/{name}/", as_file, tell)
    binaries = {f"bin/{name}": root / "bin" / name} | {f"lib/{path.name}": path for path in _libraries(root, name)}
    for inside, path in binaries.items():
        _add(tar, tar.gettarinfo(path.resolve(), f"{BASE}/{inside}"), path)
    return count + len(binaries)


def _libraries(root: Path, name: str) -> list[Path]:
    """What an installation has in `lib/` for its interpreter and own modules, such as conda's OpenSSL and libffi."""
    library = root / "lib"
    loaders = [root / "bin" / name, *sorted((library / name / "lib-dynload").glob("*.so"))]
    said = subprocess.run(["ldd", *loaders], capture_output=True, encoding="utf-8", errors="surrogateescape").stdout
    loaded = {Path(os.path.normpath(path)) for path in re.findall(r"=> (/.*) \(0x[0-9a-f]+\)", said)}
    own = {path for path in loaded if path.parent.resolve() == library.resolve()}
    return sorted(own.union(path for path in library.glob("libpython3*.so*") if path.is_file()))


def _compressed(file: BinaryIO, suffix: str) -> Any:
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=3, threads=-1, write_checksum=True).stream_writer(file, closefd=False)
    if suffix in (".gz", ".tgz"):
        import gzip

        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6)
    return io.BufferedWriter(file, 1 << 20)


def warnings(env: Path) -> list[str]:
    """What of an environment stays where it is, such as packages in editable form, and what RUNs would miss in it."""
    found: list[str] = []
    base, config = _base_of(env), env / "pyvenv.cfg"
    if base and re.search(r"(?m)^include-system-site-packages\s*=\s*true\s*$", config.read_text(encoding="utf-8")):
        found.append(
            f"{base[0]}/lib/{base[1]}/site-packages is not packed, though pyvenv.cfg includes it: install into the"
            " environment what RUNs need of that (pip install --ignore-installed), or pack that itself (conda-pack)"
        )
    if not any(env.glob("lib/python3.*/site-packages/swiftpy*")):
        found.append("swiftpy is not installed in it: RUNs cannot be run from it")
    for path in sorted(env.glob("lib/python3.*/site-packages/*.pth")):
        text = path.read_text(encoding="utf-8", errors="replace")
        outside = [line for line in text.splitlines() if line.startswith("/") and not Path(line).is_relative_to(env)]
        if outside or path.name.startswith("__editable__"):
            found.append(f"{path.name}: an editable installation is not packed: {', '.join(outside) or 'see the file'}")
    return found
