"""The parameters of one RUN: the rules for their values, and the model's own defaults below them."""

import ast
import configparser
import copy
import inspect
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from model_runner.errors import RunError

_INT_LISTS = ("dense", "dense_feature_layers")
_PATH_ENDINGS = ("_dir", "_directory", "_file", "_path")
# Names, although they may look like numbers: a RUN may be called "001 002".
_NAMES = ("id", "run_id", "experiment_id", "model_name")
# TMP-ORIGINAL, where nobody says otherwise.
_TMP_ORIGINAL = "/tmp/$USER/original"
_PLAIN = (bool, int, float, str, list, type(None))


def apply_rules(params: Mapping[str, Any]) -> dict[str, Any]:
    """Apply CANDLE's rules for values, as users write them.

    `dense`, `dense_feature_layers` become lists of int; `cell_features` a list of one; a string of numbers
    with spaces a list (int, or float if the first has a dot or one is no integer); environment variables and
    `~` in paths are expanded.
    """
    return apply_rules_again(expanded(params))


def expanded(params: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the variables and `~` that users write in paths."""
    return {k: expand(value) if isinstance(value, str) and is_path(k) else value for k, value in params.items()}


def apply_rules_again(params: Mapping[str, Any]) -> dict[str, Any]:
    """The same, after a pre module, for all but paths: a `$` that is in one that was expanded belongs to the name."""
    return {key: _rule(key, value) for key, value in params.items()}


def _rule(key: str, value: Any) -> Any:
    if key in _INT_LISTS:
        items = value.split() if isinstance(value, str) else value
        try:
            return [int(item) for item in (items if isinstance(items, (list, tuple)) else [items])]
        except (TypeError, ValueError):
            raise RunError(f"{key} must be a list of integers, not {value!r}") from None
    if key == "cell_features":
        return value if isinstance(value, list) else [value]
    if not isinstance(value, str) or key in _NAMES or is_path(key):
        return value
    return _number_list(value)


def expand(path: str) -> str:
    """A path with variables and `~` filled in, as far as they are known."""
    return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - Path's raises RuntimeError for `~nobody`


def python_dir_of(work_dir: Path) -> Path | None:
    """MODEL_PYTHON_DIR, the directory of the user's model; None if it is not set."""
    named = os.environ.get("MODEL_PYTHON_DIR")
    return work_dir / expand(named) if named else None


def is_path(key: str) -> bool:
    """Whether a parameter of this name is a path."""
    return key == "save" or key.endswith(_PATH_ENDINGS)


def _number_list(text: str) -> str | list[int] | list[float]:
    words = text.split()
    if len(words) < 2:
        return text
    try:
        return [int(word) for word in words]
    except ValueError:
        pass
    try:
        return [float(word) for word in words]
    except ValueError:
        return text  # "2 layers" begins with a number, but is a text


def plain_values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those with values that can be written and compared; CANDLE's data_type, a class, cannot."""
    return {key: value for key, value in params.items() if isinstance(value, _PLAIN)}


def with_paths(params: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """Apply the rules, and make `input_dir` absolute.

    The user wrote it for the directory of the submission, but the RUN has one of its own.
    """
    ruled = apply_rules(params)
    if ruled.get("input_dir"):
        path = str(work_dir / ruled["input_dir"])
        # Users write TMP-ORIGINAL, which names the copy that was staged last: by another job, perhaps.
        staged = os.environ.get("TMP_ORIGINAL_LINK") and is_tmp_original(path)
        ruled["input_dir"] = os.environ["TMP_ORIGINAL"] if staged else path
    return ruled


def is_tmp_original(path: str) -> bool:
    """Whether users name TMP-ORIGINAL by this path: as it is by default even where the job's is elsewhere.

    Within a job that has staged data its place is TMP_ORIGINAL_LINK, for TMP_ORIGINAL is the job's own copy.
    """
    place = os.environ.get("TMP_ORIGINAL_LINK") or os.environ.get("TMP_ORIGINAL") or _TMP_ORIGINAL
    return os.path.normpath(path) in map(os.path.expandvars, (place, _TMP_ORIGINAL))


def complete(params: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """The parameters as the pre module sees them: rules applied, `framework`, `save` and `output_dir` filled in.

    So the last two win over the model's own defaults. CANDLE's library has one `output_dir` for all RUNs of all
    jobs, .../Output/EXP000/RUN000, where they would write over each other's files and go on from each other's
    checkpoints.

    RunError: a place for results or checkpoints begins with a variable that is not set here, as in a batch job, which
    has few of those of its user's shell. They would lie in the RUN's own directory, in one that is called `$SCRATCH`.
    """
    full = {
        "framework": "keras",
        "save": f"{params['instance_directory']}/output",
        "output_dir": params["instance_directory"],
        **with_paths(copied(params), work_dir),
        "instance_directory": params["instance_directory"],  # as it is: the EXP may be in a directory called a$USER
    }
    for key in ("output_dir", "ckpt_directory"):
        if str(params.get(key)).startswith("$") and str(full[key]).startswith("$"):
            raise RunError(f"{key} is {params[key]}, and that variable is not set where the RUN works")
    return full


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of `values` for a RUN to change; of what cannot be copied, such as a lock, the thing itself."""
    return {key: _copied(value) for key, value in values.items()}


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # whatever the class of a model's own raises
        return value


def model_defaults(module: ModuleType, params: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """The model's own defaults: its `initialize_parameters()` and the INI file of the user, where there are
    any.

    The file goes to `initialize_parameters` as `default_model` if the model takes that, and is read here
    otherwise. RunError where the model cannot do without a file, or returns nothing.
    """
    config = find_config(params, work_dir, Path(getattr(module, "__file__", None) or ".").parent)
    initialize = getattr(module, "initialize_parameters", None)
    if initialize is None:
        return read_ini(config) if config else {}
    if config and _accepts(initialize, "default_model"):
        defaults, config = initialize(default_model=str(config)), None
    elif _requires(initialize, "default_model"):
        raise RunError(
            f"initialize_parameters() of {module.__name__} needs a file of model defaults: "
            "set config_file or CANDLE_DEFAULT_MODEL_FILE"
        )
    else:
        defaults = initialize()
    if defaults is None:
        raise RunError(f"initialize_parameters() of {module.__name__} returned None; it must return the parameters")
    # The module outlives the RUN: where it returns a dict of its own, a list to which this RUN's model appends would be
    # the next RUN's default.
    return {**copied(defaults), **(read_ini(config) if config else {})}


def _accepts(function: Any, keyword: str) -> bool:
    taken = inspect.signature(function).parameters
    return keyword in taken or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())


def _requires(function: Any, keyword: str) -> bool:
    taken = inspect.signature(function).parameters.get(keyword)
    return taken is not None and taken.default is inspect.Parameter.empty


def find_config(params: Mapping[str, Any], work_dir: Path, model_dir: Path) -> Path | None:
    """The INI file of model defaults: `config_file`, else CANDLE_DEFAULT_MODEL_FILE; None when neither is
    set.

    A relative name is looked for in the working directory, in MODEL_PYTHON_DIR and beside the model.
    Raises RunError where it is in none of them.
    """
    named = params.get("config_file") or os.environ.get("CANDLE_DEFAULT_MODEL_FILE")
    if not named:
        return None
    name = Path(expand(named))
    places = [place for place in dict.fromkeys((work_dir, python_dir_of(work_dir), model_dir)) if place]
    for place in places:
        if (place / name).is_file():
            return place / name
    # The parameter's name comes first: by it, a check finds the line of the DFLTS.
    asked = "config_file" if params.get("config_file") else "CANDLE_DEFAULT_MODEL_FILE"
    where = "" if name.is_absolute() else f"; looked in {', '.join(map(str, places))}"
    raise RunError(f"{asked} {name}: there is no such file{where}")


def config_checksum(params: Mapping[str, Any], work_dir: Path, model_dir: Path) -> dict[str, str]:
    """The CRC32 of the INI file as a parameter to be written and compared; {} without a file. See `find_config`."""
    config = find_config(params, work_dir, model_dir)
    return {"config_checksum": f"crc32:{zlib.crc32(config.read_bytes()):08x}"} if config else {}


def read_ini(path: Path) -> dict[str, Any]:
    """Read an INI file of model defaults: values are Python literals, else plain text; later sections win."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="\0")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    try:
        # Lines above the first heading (or a file without any) belong to a section of their own.
        parser.read_string("[top]\n" + path.read_text(encoding="utf-8-sig"), source=str(path))
    except configparser.Error as error:
        raise RunError(f"not an INI file of model defaults: {error}".replace("\n", " ")) from None
    except UnicodeDecodeError as error:
        raise RunError(f"not an INI file of model defaults: {path} is not UTF-8: {error}") from None
    return {key: _value(text) for section in parser.sections() for key, text in parser.items(section)}


def _value(text: str) -> Any:
    if text in ("true", "false"):  # as other INI files have it; the text "false" would count as true
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
