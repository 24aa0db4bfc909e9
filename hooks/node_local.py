"""A job's place on a node's local disk: copies that jobs share, its own files, nothing left when it is over.

Beside TMP-ORIGINAL, by default /tmp/$USER/original, there are:

    original-0123456789ab/        a staged copy, of data of one identity; jobs share it
    original                      a link to the copy that was staged last, for people
    original-job-EXP003-5f0c11ab/ this job's: `original`, a link to its copy, and directories of RUNs (index-...)
    .original-....part-5f0c11ab/  what a job has not yet made or removed as a whole (.trash-...)
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import string
from collections.abc import Mapping
from pathlib import Path

from swiftpy.runtime.stage import Staged, local
from swiftpy.runtime.stage.staging import RECORD


class NodeLocal:
    """This job's place beside `path`, which names a copy of `source` as users know it (/tmp/$USER/original)."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self._source = source
        self._staged: Staged | None = None
        self._job: local.Hold | None = None
        #: The names of what was removed because nobody used it.
        self.removed: list[str] = []

    def copy_of(self, identity: str) -> Path:
        """Where the copy of data of this identity lies."""
        return self.path.with_name(f"{self.path.name}-{identity[:12]}")

    def sweep(self) -> None:
        """Remove what nobody uses: what jobs left behind that were killed, and copies without a job."""
        self._sweep(None)

    def use(self, staged: Staged) -> None:
        """Let the link lead to this copy, and remove what nobody uses.

        That is also what was kept of what the source was before it changed.
        """
        self._staged = staged
        if self.path.is_symlink() or not self.path.exists():  # a directory of this name is the user's own
            making = local.make(staged.folder)  # in a directory, which the next job sweeps if this one is killed here
            try:
                fresh = making.path / self.path.name
                fresh.symlink_to(staged.folder.name)
                fresh.replace(self.path)
            finally:
                making.release(remove=True)
        self._sweep(self._source)

    def _sweep(self, source: Path | None) -> None:
        self.removed += local.sweep(self.path.parent, self._is_ours, source)

    def _is_ours(self, path: Path) -> bool:
        """Whether a job made it. Beside /scratch/me/data, users have a data-job-results and a data-20240115abcd."""
        name, bare = re.escape(self.path.name), re.escape(self.path.name.lstrip("."))
        if local.unfinished(rf"{bare}-([0-9a-f]{{12}}|job-.+)")(path):
            return True
        if re.fullmatch(rf"{name}-[0-9a-f]{{12}}", path.name):
            return (path / RECORD).is_file()
        return path.name.startswith(f"{self.path.name}-job-") and (path / self.path.name).is_symlink()

    def own(self, exp: str) -> Path:
        """Make this job's own directory; returns the path of the copy in it."""
        assert self._staged is not None
        path = self.path.with_name(f"{self.path.name}-job-{exp}-{secrets.token_hex(4)}")
        self._job = local.make(path)
        (self._job.path / "tmp").mkdir()
        (self._job.path / self.path.name).symlink_to(Path("..") / self._staged.folder.name)
        self._job.rename(path)  # only now: by the link in it, `_is_ours` knows it
        return path / self.path.name

    def leave(self, keep: bool) -> None:
        """Remove this job's directory, and the copy unless it is to be kept or another job uses it."""
        if self._job:
            self._job.release(remove=True)
        if self._staged is None:
            return
        if keep:
            local.keep(self._staged.folder, self._source)
        elif self._staged.held.release(remove=True):
            with contextlib.suppress(OSError):
                if self.path.is_symlink() and not self.path.exists():
                    self.path.unlink()


def place_of(env: Mapping[str, str], name: str, default: str, source: Path) -> NodeLocal:
    """The place beside the path that the user set, or beside the default.

    ValueError if that path has no name, as `/`; PermissionError if the default's directory is another user's.
    """
    path = setting(env, name, default)
    if path.name in ("", ".."):
        raise ValueError(f"{name}={path}: nothing can lie beside that, as copies do: set it as in {name}={default}")
    if not {**os.environ, **env}.get(name):
        _own(path.parent, name)
    return NodeLocal(path, source)


def _own(folder: Path, name: str) -> None:
    """Who came first to /tmp/alice might put another Python where the staged one was. A path of the user's own choice
    may lie in a project's directory."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    # Whoever owns /tmp can do anything anyway: a site may make the users' directories. Who makes a link may turn it.
    if folder.stat(follow_symlinks=False).st_uid not in (os.geteuid(), folder.parent.stat().st_uid):
        raise PermissionError(f"{folder} belongs to another user, who could change what RUNs read and run: set {name}")


def setting(env: Mapping[str, str], name: str, default: str = "") -> Path:
    """A path that the user set, with the variables in it filled in, such as $SWIFTPY_NODE, the node's number.

    ValueError where it is not set and has no default, or begins with a variable that is not set.
    """
    known = {**os.environ, **env}
    text = known.get(name) or default
    if not text:
        raise ValueError(f"{name} is not set: say what to bring to the nodes")
    path = string.Template(text).safe_substitute(known)
    if path.startswith("$"):  # it would lie where the job was submitted, on a disk that all nodes share
        raise ValueError(f"{name}={text}: the variable is not set on this node: set it in `setup` of the site's file")
    return Path(path).expanduser().absolute()


def keeps(env: Mapping[str, str]) -> bool:
    """Whether staged copies stay for the user's next job: STAGE_KEEP is set, and not to 0."""
    return {**os.environ, **env}.get("STAGE_KEEP", "0") not in ("", "0")
