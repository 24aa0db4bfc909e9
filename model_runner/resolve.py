"""From the names that users write (model_name, pre_module, post_module) to modules.

Who wins when names collide: MODEL_PYTHON_SCRIPT (models only), MODEL_PYTHON_DIR, entry points of other
distributions, the Python path with the working directory in front, and last our own entry points. Finding
imports no module (only the packages that hold it); `isolated` has put the search path of the RUN in place.
"""

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from model_runner.errors import RunError
from model_runner.params import expand, python_dir_of

_OURS = "swiftpy"  # our distribution, whose entry points come last
MODELS = "model_runner.models"
MODULES = "model_runner.modules"


@dataclass(frozen=True, slots=True)
class Found:
    """A module that a name stands for: its import name, its file, and where it was found."""

    module: str
    file: str
    source: str

    def __str__(self) -> str:
        return f"{self.module} from {self.file} ({self.source})"


def own_directories(work_dir: Path) -> list[Path]:
    """Directories of the user's model: that of MODEL_PYTHON_SCRIPT, if it is a file, and MODEL_PYTHON_DIR."""
    script, python_dir = _script_file(work_dir), python_dir_of(work_dir)
    return list(dict.fromkeys(d for d in (script and script.parent, python_dir) if d))


def _script_file(work_dir: Path) -> Path | None:
    """MODEL_PYTHON_SCRIPT as a file; None where it is a module's name, or not set.

    It is looked for in MODEL_PYTHON_DIR, then in the working directory.
    """
    named = os.environ.get("MODEL_PYTHON_SCRIPT", "")
    if not named.endswith(".py"):
        return None
    places = [place for place in (python_dir_of(work_dir), work_dir) if place]
    files = [place / expand(named) for place in places]
    return next((file for file in files if file.is_file()), files[-1])


def find_model(name: str, framework: str, work_dir: Path) -> Found:
    """The module of the model `name`; RunError, saying what was tried, where there is none."""
    script = os.environ.get("MODEL_PYTHON_SCRIPT")
    file = _script_file(work_dir)
    if file and file.is_file():
        return Found(file.stem, str(file), "MODEL_PYTHON_SCRIPT")
    if script:
        tried = [script]
    else:
        baselines = ["_baseline_keras2", "_baseline_pytorch"]
        tried = [name + suffix for suffix in ("_train_improve", *sorted(baselines, reverse=framework == "pytorch"))]
    # The bare name is for entry points only: a model called `random` is not the random module of Python.
    found = _find(tried, [name] if not script else [], MODELS, work_dir)
    if found is None:
        asked = f"MODEL_PYTHON_SCRIPT={script}" if script else f"model_name {name!r}"
        raise RunError(
            f"{asked}: no such module: looked for {', '.join(tried)} in {_places(work_dir)}; "
            "set MODEL_PYTHON_DIR to the directory of the model"
        )
    return found


def find_module(name: str, work_dir: Path) -> Found:
    """The pre or post module `name`; RunError, saying what was tried, where there is none."""
    found = _find([name], [], MODULES, work_dir)
    if found is None:
        raise RunError(f"no module {name!r} in {_places(work_dir)}; set MODEL_PYTHON_DIR to its directory")
    return found


def _places(work_dir: Path) -> str:
    python_dir = python_dir_of(work_dir)
    return f"MODEL_PYTHON_DIR ({python_dir or 'not set'}), entry points, Python path and {work_dir}"


def _find(names: Sequence[str], entry_names: Sequence[str], group: str, work_dir: Path) -> Found | None:
    entry_names = [*names, *entry_names]
    searches = (
        _in_directory(names, python_dir_of(work_dir)),
        _registered(group, entry_names, ours=False),
        _on_path(names),
        _registered(group, entry_names, ours=True),
    )
    return next((found for search in searches for found in search), None)


def _in_directory(names: Sequence[str], directory: Path | None) -> Iterator[Found]:
    for name in names if directory else ():
        if "." not in name:
            yield from _if_file(PathFinder.find_spec(name, [str(directory)]), "MODEL_PYTHON_DIR")


def _registered(group: str, names: Sequence[str], ours: bool) -> Iterator[Found]:
    points = _entry_points(group, tuple(sys.path))
    known = {point.name: (point.module, owner) for point, owner in points if (owner == _OURS) == ours}
    for name in names:
        if name in known:
            module, owner = known[name]
            yield from _if_file(_spec(module), f"entry point of {owner}")


@functools.lru_cache(maxsize=8)
def _entry_points(group: str, path: tuple[str, ...]) -> list[tuple[EntryPoint, str]]:
    """Those of the distributions on `path`, which is sys.path, each with its distribution's name.

    A RUN asks eight times, and each would read them all: where they lie on a file system for all ranks, by the hundred.
    The name is in a file, too, which is read at each look.
    """
    return [(point, point.dist.name if point.dist else "") for point in entry_points(group=group)]


def _on_path(names: Sequence[str]) -> Iterator[Found]:
    for name in names:
        yield from _if_file(_spec(name), "Python path")


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a package in front of the dot is missing; a module without a spec
        return None


def _if_file(spec: ModuleSpec | None, source: str) -> Iterator[Found]:
    """Only real files: a directory `unorun` of outputs is a "namespace package" to Python, but no model."""
    if spec and spec.origin and spec.has_location:
        yield Found(spec.name, spec.origin, source)


def load(found: Found) -> ModuleType:
    """Import the module that was found, once per process and file."""
    loaded = sys.modules.get(found.module)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == found.file:
            return loaded
        del sys.modules[found.module]  # another file of this name; `isolated` puts it back after the RUN
    if found.source != "MODEL_PYTHON_SCRIPT":
        return importlib.import_module(found.module)
    spec = importlib.util.spec_from_file_location(found.module, found.file)
    if spec is None or spec.loader is None:
        raise RunError(f"MODEL_PYTHON_SCRIPT is no Python file: {found.file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[found.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[found.module]  # half a module must not be taken for a whole one by the next RUN
        raise
    return module
