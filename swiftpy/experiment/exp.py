"""EXP directories: how they get their names, and where things lie in them.

Layout of the HED workflow's users: copies of UPF and DFLTS, `turbine.log`, `jobid.txt`, `restart.txt`,
`out/`, `markers/`, `run/<id>/`; ours also `journal.jsonl` and, while the job lives, `lock.json`.
"""

from __future__ import annotations

import errno
import itertools
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swiftpy.errors import UserError
from swiftpy.experiment import journal
from swiftpy.experiment.files import flush
from swiftpy.experiment.spec import name_problem

#: In a message.
_MOST_NAMES = 20


class _Place:
    """What is called so in each EXP."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, exp: Exp, owner: type[Exp]) -> Path:
        return exp.root / self.name


@dataclass(frozen=True, slots=True)
class Exp:
    """Paths in one EXP; `root` is absolute and need not exist."""

    root: Path

    out = _Place("out")  # the ranks' outputs
    markers = _Place("markers")
    run = _Place("run")  # the RUN directories
    journal = _Place("journal.jsonl")  # an EXP of the original system has none
    lock = _Place("lock.json")  # of a living job
    restart = _Place("restart.txt")  # names the EXP that this one goes on from
    log = _Place("turbine.log")  # what the job was, and when it began and ended, as users' scripts read it
    jobid = _Place("jobid.txt")  # the scheduler's
    environment = _Place("turbine-env.txt")  # the job's
    output = _Place("output.txt")  # what the job printed: rank 0, and in a batch job the script
    request = _Place("batch.json")  # what a successor needs of a batch job

    @property
    def id(self) -> str:
        """EXPID: the directory's name."""
        return self.root.name

    def run_dir(self, run_id: str) -> Path:
        """The RUN's instance directory."""
        return self.run / run_id

    def out_file(self, rank: int, size: int) -> Path:
        """Output of `rank` of `size` ranks: as many digits as the last rank needs, three at least."""
        return self.out / f"out-{rank:0{max(3, len(str(size - 1)))}d}.txt"

    def copy_inputs(self, upf: Path, dflts: Path | None) -> tuple[str, str | None]:
        """Copy UPF and DFLTS into the EXP; returns their names there, to be journaled in `job_started`.

        They keep their base names, because users' scripts look for them. Only where that would overwrite
        another file (both called `hed.json`, or a UPF called `jobid.txt`) does the name of the file's
        directory come first.
        """
        reserved = {place.name for place in vars(Exp).values() if isinstance(place, _Place)}
        names: list[str] = []
        for source in (upf, dflts):
            if source is None:
                continue
            name = source.name
            if source.parent == self.root:  # they were copied when the job was submitted
                names.append(name)
                continue
            while name in reserved or name in names:
                name = f"{source.absolute().parent.name or 'root'}-{name}"
            shutil.copy2(source, self.root / name)
            flush(self.root / name)
            names.append(name)
        return names[0], names[1] if dflts is not None else None


def create(parent: Path, name: str | None = None, restart: Exp | None = None) -> Exp:
    """Make a new EXP under `parent`: called `name`, or else `EXP%03i` with the lowest number that is free.

    The directory is filled under a hidden name and then renamed, which fails if the name is taken by
    anything but an empty directory: of any number of processes that want it one gets it, and whoever sees
    an EXP sees `out/`, `markers/`, `run/`, the journal's `exp_created` and `restart.txt` (the EXP
    `restart`, of which nothing is carried over yet) in it. With mkdir first and the files after it, a job
    killed in between would leave an EXP that has forgotten what it restarts, and restarting that one would
    train every finished RUN again.

    UserError: `name` is unsafe or exists; `parent` cannot be written, or the disk is full.
    """
    if name is not None and (problem := name_problem(name)):
        raise UserError(f"EXPID {name!r} {problem}: choose another")
    parent = parent.absolute()
    # Not tempfile.mkdtemp: it makes the directory private, and colleagues read EXPs; chmod would lose the setgid
    # bit by which a project's directory hands its group down.
    stage = parent / f".new-EXP-{uuid.uuid4().hex}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        stage.mkdir()
        _fill(Exp(stage), parent, restart)
        for candidate in [name] if name is not None else free_names(parent):
            if not (parent / candidate).exists() and _claim(stage, parent / candidate):
                return Exp(parent / candidate)
        raise _taken(parent / str(name))
    except OSError as error:
        raise UserError(f"{parent}: cannot create an EXP here: {error.strerror}: set CANDLE_DATA_DIR") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_free(parent: Path, name: str) -> None:
    """UserError where `create` will say that `name` is taken."""
    if (parent / name).exists():
        raise _taken((parent / name).absolute())


def _taken(path: Path) -> UserError:
    return UserError(f"{path} exists already: choose another EXPID, or none for the next free number")


def free_names(parent: Path) -> Iterator[str]:
    """Names of EXPs that are not taken under `parent`, lowest number first."""
    taken = {path.name for path in parent.iterdir()} if parent.is_dir() else set()
    return (name for number in itertools.count() if (name := f"EXP{number:03d}") not in taken)


def adopt(root: Path) -> Exp:
    """The EXP that was made when this job was submitted. UserError: it is none, or a job has begun in it."""
    exp = Exp(root.absolute())
    events = [event["event"] for event in journal.read(exp.journal)]
    if "exp_created" not in events:
        raise UserError(f"{root} was not made for a job to run in: leave --exp out")
    if "job_started" in events:
        raise UserError(f"{root} was begun by a job before this one: restart it by its name, which makes a new EXP")
    return exp


def _fill(exp: Exp, parent: Path, restart: Exp | None) -> None:
    for directory in (exp.out, exp.markers, exp.run):
        directory.mkdir()
    source = None
    if restart is not None:
        source = restart.id if restart.root.parent == parent else str(restart.root)
        exp.restart.write_text(f"{source}\n", encoding="utf-8", errors="surrogateescape")
    with journal.Journal(exp.journal) as lines:
        lines.write("exp_created", restart=source)


def _claim(stage: Path, target: Path) -> bool:
    try:
        stage.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):  # somebody was faster
            return False
        raise
    return True


def find(parent: Path, name_or_path: str) -> Exp:
    """The existing EXP called so under `parent` (`EXP011`), or at that path.

    UserError: there is none (the message lists those that exist), or the directory is no EXP.
    """
    name = name_or_path.rstrip("/")
    for root in ([parent / name] if name and "/" not in name else []) + [Path(name_or_path)]:
        if root.is_dir():
            exp = Exp(root.resolve())
            if not exp.run.is_dir():
                raise UserError(f"{root} is not an EXP: it has no run directory")
            return exp
    there = _names(parent)
    known = f"{parent} has {', '.join(there)}" if there else f"{parent} has no EXPs"
    raise UserError(f"there is no EXP {name_or_path}: {known}; set CANDLE_DATA_DIR and MODEL_NAME as they were for it")


def _names(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    names = sorted(path.name for path in parent.iterdir() if (path / "run").is_dir() and path.name[0] != ".")
    return names if len(names) <= _MOST_NAMES else [f"{len(names) - _MOST_NAMES} more", *names[-_MOST_NAMES:]]
