"""What can be known of parameter sets before anything starts: names, types, and what modules check."""

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_runner import directories, monitors, resolve
from model_runner.ckpt import config as ckpt
from model_runner.errors import RunError
from model_runner.isolation import isolated
from model_runner.params import config_checksum, find_config, is_path, model_defaults, plain_values, with_paths
from model_runner.values import Rules, integer_from, is_integer, is_name, is_number, one_of, wrong

Problem = tuple[int, str]

# What a module has to have to be used for the parameter that names it.
_FUNCTIONS = {"pre_module": "pre_run", "post_module": "post_run"}


def check(param_sets: Sequence[Mapping[str, Any]], data_dir: str | None) -> list[Problem]:
    """All problems of `param_sets`, as (index into them, one line); nothing is created.

    `data_dir` is DATA_SOURCE. A pre module or a model may offer `check(param_sets, data_dir)` of its own; it
    is called once, with the sets that use it. Models are imported only if their source has such a function:
    many load TensorFlow.
    """
    work_dir = Path.cwd()
    problems: list[Problem] = []
    sets: dict[int, dict[str, Any]] = {}
    with isolated(resolve.own_directories(work_dir), work_dir):
        for i, params in enumerate(param_sets):
            refused = dict(_wrong_values(params))
            problems += [(i, text) for text in refused.values()]
            # Modules need not expect what is no value at all; what else is wrong with the set is found all the same.
            given = {key: value for key, value in params.items() if key not in refused}
            try:
                sets[i] = with_paths(given, work_dir)
            except RunError as error:
                problems.append((i, str(error)))
                sets[i] = given  # its names are checked all the same
        for key in ("pre_module", "post_module"):
            for (name,), indices in _users(sets, key):
                problems += _check_module(key, name, {i: sets[i] for i in indices}, work_dir, data_dir)
        for (name, framework), indices in _users(sets, "model_name", "framework"):
            users = {i: sets[i] for i in indices}
            problems += _check_model(name, framework or "keras", users, work_dir, data_dir)
        problems += directories.problems(sets, _over_defaults(sets, work_dir))
    # A set, because a model's own check may find what was found here, such as a missing config_file.
    return sorted({(i, " ".join(text.split())) for i, text in problems})


def find(param_sets: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Modules that the sets name and that cannot be imported, and models that are not found, in this process.

    For a look at the environment of a node: nothing but names is looked at, and no module is asked for its own checks.
    """
    work_dir = Path.cwd()
    problems: list[Problem] = []
    with isolated(resolve.own_directories(work_dir), work_dir):
        for i, params in enumerate(param_sets):
            for key in _FUNCTIONS:
                if params.get(key):
                    problems += _check_module(key, params[key], {i: {}}, work_dir, None, ask=False)
            try:
                resolve.find_model(params["model_name"], params.get("framework") or "keras", work_dir)
            except RunError as error:
                problems.append((i, str(error)))
    return problems


def with_defaults(param_sets: Sequence[Mapping[str, Any]], data_dir: str | None) -> list[dict[str, Any]]:
    """The sets over the defaults of their models, the user's INI file among them, for a restart to compare.

    `config_file` is None then: where the file lies, and what it is called, does not matter. Only models that offer
    `check` are asked, which are quick to import; what is wrong with them is said by `check`. Of what the file has for
    others, which may make anything of it, a checksum tells whether it is as it was. A pre module may offer
    `derived(param_sets, data_dir)`: for each set what its `pre_run` would add that decides the RUN, such as a checksum
    of its data.
    """
    work_dir = Path.cwd()
    with isolated(resolve.own_directories(work_dir), work_dir):
        whole = _over_defaults(dict(enumerate(param_sets)), work_dir)
        for (name,), indices in _users(whole, "pre_module"):
            derived = getattr(resolve.load(resolve.find_module(name, work_dir)), "derived", None)
            if derived is not None:
                for i, more in zip(indices, derived([whole[i] for i in indices], data_dir), strict=True):
                    whole[i] |= more
        return list(whole.values())


def _over_defaults(sets: Mapping[int, Mapping[str, Any]], work_dir: Path) -> dict[int, dict[str, Any]]:
    whole = {i: dict(params) for i, params in sets.items()}
    for (name, framework, _), indices in _users(sets, "model_name", "framework", "config_file"):
        try:
            found = resolve.find_model(name, framework or "keras", work_dir)
            if not _offers_check(found):
                config = config_checksum(sets[indices[0]], work_dir, Path(found.file).parent)
                whole |= {i: whole[i] | config for i in indices}
                continue
            defaults = plain_values(model_defaults(resolve.load(found), sets[indices[0]], work_dir))
        except (Exception, SystemExit):  # CANDLE's read the command line, which is not for them
            continue
        for i in indices:
            whole[i] = {**defaults, **sets[i], "config_file": None}
    return whole


def _wrong_values(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values of parameters that every model knows, or that this package uses itself."""
    yield from wrong(params, RULES)
    for key, value in params.items():
        if is_path(key) and not isinstance(value, (str, type(None))):
            yield key, f"{key} must be a path, not {value!r}"
    if "model_name" not in params:
        yield "model_name", "model_name is missing: set MODEL_NAME"


#: The parameters that are checked for every model.
RULES: Rules = {
    "epochs": (integer_from(1), "a positive integer"),
    "batch_size": (integer_from(1), "a positive integer"),
    "seed": (is_integer, "an integer"),
    "rng_seed": (is_integer, "an integer"),
    "timeout": (is_number, "a number of seconds (-1 for none)"),
    "model_name": (is_name, "the name of a model"),
    "framework": (one_of("keras", "pytorch"), "keras or pytorch"),
    "pre_module": (is_name, "the name of a module"),
    "post_module": (is_name, "the name of a module"),
    **monitors.RULES,
    **ckpt.RULES,
}


def _users(sets: Mapping[int, Mapping[str, Any]], *keys: str) -> list[tuple[tuple[Any, ...], list[int]]]:
    """Distinct values of `keys` (the first one a name), and the indices of the sets that have them."""
    users: dict[tuple[Any, ...], list[int]] = {}
    for i, params in sets.items():
        if is_name(params.get(keys[0])):
            users.setdefault(tuple(str(params.get(key, "")) for key in keys), []).append(i)
    return list(users.items())


def _check_module(
    key: str, name: str, users: Mapping[int, dict[str, Any]], work_dir: Path, data_dir: str | None, ask: bool = True
) -> list[Problem]:
    try:
        module = resolve.load(resolve.find_module(name, work_dir))
    except RunError as error:
        return [(i, f"{key}: {error}") for i in users]
    except Exception as error:
        return [(i, f"{key} {name!r} cannot be imported: {error!r}") for i in users]
    if not hasattr(module, _FUNCTIONS[key]):
        return [(i, f"{key} {name!r} ({module.__file__}) has no function {_FUNCTIONS[key]}()") for i in users]
    if ask and key == "pre_module" and hasattr(module, "check"):
        return _ask(module.check, name, users, data_dir)
    return []


def _check_model(
    name: str, framework: str, users: Mapping[int, dict[str, Any]], work_dir: Path, data_dir: str | None
) -> list[Problem]:
    try:
        found = resolve.find_model(name, framework, work_dir)
    except RunError as error:
        return [(i, str(error)) for i in users]
    problems = []
    for i, params in users.items():
        try:
            find_config(params, work_dir, Path(found.file).parent)
        except RunError as error:
            problems.append((i, str(error)))
    if problem := _wrong_source(found):
        return problems + [(i, f"model_name {name!r}: {problem}") for i in users]
    if _offers_check(found):
        try:
            module = resolve.load(found)
        except Exception as error:
            return problems + [(i, f"model_name {name!r} cannot be imported: {error!r}") for i in users]
        problems += _ask(module.check, name, users, data_dir)
    return problems


def _wrong_source(found: resolve.Found) -> str:
    """What the text of a model tells without importing it, which would load TensorFlow; empty for nothing."""
    if not found.file.endswith(".py"):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an invalid escape in a string
            tree = ast.parse(Path(found.file).read_bytes())
    except SyntaxError as error:
        return f"{found.file}:{error.lineno}: {error.msg}"
    except ValueError as error:  # a null byte
        return f"{found.file}: {error}"
    return "" if _makes_run(tree) or _may_make_run(tree) else f"{found.file} has no function run()"


def _makes_run(scope: ast.AST) -> bool:
    """Whether `run` is defined, assigned or imported, or may be (`import *`), outside of functions and classes."""
    for node in ast.iter_child_nodes(scope):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found = name in ("run", "__getattr__")
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found = any((alias.asname or alias.name.split(".")[0]) in ("run", "*") for alias in names)
            case ast.Name(id=name, ctx=ast.Store()):
                found = name == "run"
            case _:
                found = _makes_run(node)
        if found:
            return True
    return False


def _may_make_run(tree: ast.AST) -> bool:
    """Whether it may come about by other means: `globals()["run"] = ...`, `exec`, `global run` in a function."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value="run") | ast.Name(id="globals" | "exec"):
                return True
            case ast.Global(names=names) if "run" in names:
                return True
    return False


def _offers_check(found: resolve.Found) -> bool:
    source = Path(found.file)
    # Bytes, because the file may say that it is in Latin-1.
    return source.suffix == ".py" and bool(re.search(rb"^def check\(", source.read_bytes(), re.MULTILINE))


def _ask(
    module_check: Callable[..., Any], name: str, users: Mapping[int, dict[str, Any]], data_dir: str | None
) -> list[Problem]:
    """A module's own check; its indices, into the sets it was given, become indices into all."""
    indices = list(users)
    try:
        return [(indices[i], str(text)) for i, text in module_check(list(users.values()), data_dir)]
    except Exception as error:
        return [(i, f"check() of {name} failed: {error!r}") for i in indices]
