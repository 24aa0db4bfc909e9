"""One RUN from its parameters to its results, in the order that CANDLE Supervisor's model_runner set.

chdir to the RUN directory, stop.marker, pre module, rank.txt, parameters.txt, monitors, model, result.txt,
history.txt, post module, and then, however that ended, the pre module's `clean_up`. What a model raises is raised
again: only that RUN is lost.
"""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from model_runner import interrupt, keras_state, memory, resolve
from model_runner.ckpt import background, owner
from model_runner.ckpt.owner import Owner
from model_runner.errors import DivergedError, RunError
from model_runner.files import forget_unfinished, write_file
from model_runner.forks import forks_end
from model_runner.isolation import enable_loggers, isolated, seed_random, voice_kept
from model_runner.monitors import monitored
from model_runner.params import apply_rules_again, complete, config_checksum, copied, expanded, model_defaults
from model_runner.results import (
    DEFAULT_METRIC,
    RUN_EXCEPTION,
    ModelResult,
    Outcome,
    plain_history,
    read_outcome,
    read_stop_marker,
    write_parameters,
    write_results,
    write_stop_marker,
)

log = logging.getLogger("RUNNER")


def run_model(params: Mapping[str, Any]) -> dict[str, Any]:
    """Run one model with one set of parameters in `params["instance_directory"]`, which exists.

    Returns `{"status": "ok", "skip" or "interrupted", "reason", "epochs": completed in total or None, "result": text
    of result.txt, "stopped_early"}`, fit for JSON; a reason beside "ok" says what is wrong with the result. An
    interrupted RUN leaves a checkpoint and no results. Raises what the model raised; RunError for mistakes in the
    parameters, for a pre or post module that answers ERROR, and for a module that calls exit().
    """
    work_dir = Path.cwd()
    memory.keep_one_heap()
    with isolated(resolve.own_directories(work_dir), work_dir):
        sys.argv = ["model_runner"]  # CANDLE's initialize_parameters() parses the command line of its process
        _log_to_stdout()
        interrupt.watch()
        try:
            return _run(complete(params, work_dir), params, work_dir)
        except SystemExit as exit_:
            raise RunError(f"the RUN called exit({exit_.code!r})") from exit_
        finally:
            _end_of_saves()
            memory.give_back()
            sys.stdout.flush()


def _end_of_saves() -> None:
    """A model that raised, or never said that training ended, may have left a save in flight."""
    try:
        background.wait()
    except Exception:
        log.exception("the last checkpoint failed")


def _log_to_stdout() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(name)s %(levelname)-5s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    )
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _run(params: dict[str, Any], given: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """`params` are what is `given`, completed; the pre module may change them."""
    directory = Path(params["instance_directory"])
    os.chdir(directory)
    if (directory / "stop.marker").exists():
        return _skipped("STOP_MARKER", directory)
    _forget_failure(directory)
    forget_unfinished(directory)
    # A pre module may do for one model what others do not need.
    params["model_file"] = resolve.find_model(params["model_name"], params["framework"], work_dir).file
    pre = _load(params, "pre_module", work_dir)
    try:  # a pre module that fails may have made something, too
        if pre is not None and _answer("pre_run", pre.pre_run(params)) is ModelResult.SKIP:
            return _skipped(f"pre_run() of {params['pre_module']} returned SKIP", directory)
        return _run_prepared(params, given, directory, work_dir)
    finally:
        _clean_up(pre, params)


def _run_prepared(params: dict[str, Any], given: Mapping[str, Any], directory: Path, work_dir: Path) -> dict[str, Any]:
    """From the model to the post module."""
    os.chdir(directory)  # a pre module may have gone elsewhere
    write_file(directory / "rank.txt", os.environ.get("ADLB_RANK_SELF", "0") + "\n")
    try:
        outcome = _run_model(params, given, directory, work_dir)
    except interrupt.Interrupted as stop:
        return _interrupted(stop)
    except BaseException as error:
        history = plain_history(error.history) if isinstance(error, DivergedError) else None
        write_results(directory, Outcome(RUN_EXCEPTION, history))
        raise
    write_results(directory, outcome)
    if doubt := _doubt(outcome):
        log.warning("%s", doubt)
    print(f"IMPROVE_RESULT {outcome.result}")
    _post_run(params, outcome, work_dir)
    # Last, for a RUN with a stop.marker is skipped by every restart: its post module must be done by then.
    if outcome.stopped_early:
        write_stop_marker(directory, outcome)
    return {
        "status": "ok",
        "reason": doubt,
        "epochs": outcome.epochs,
        "result": outcome.result,
        "stopped_early": outcome.stopped_early,
    }


def _interrupted(stop: interrupt.Interrupted) -> dict[str, Any]:
    """Neither results, which would make it look done, nor a post module, which would mark it as done."""
    log.info("%s", stop)
    return {"status": "interrupted", "reason": stop.reason, "epochs": stop.epochs, "result": "", "stopped_early": False}


def _skipped(reason: str, directory: Path) -> dict[str, Any]:
    log.info("SKIP: %s", reason)
    result = directory / "result.txt"
    return {
        "status": "skip",
        "reason": reason,
        "epochs": read_stop_marker(directory),
        "result": result.read_text(encoding="utf-8").strip() if result.exists() else "",
        "stopped_early": (directory / "stop.marker").exists(),
    }


def _forget_failure(directory: Path) -> None:
    """Pre modules take a result.txt for a RUN that is done; that of a failed attempt is not. Nor is its history."""
    result = directory / "result.txt"
    if result.exists() and result.read_text(encoding="utf-8").strip() == RUN_EXCEPTION:
        (directory / "history.txt").unlink(missing_ok=True)
        result.unlink()


def _load(params: Mapping[str, Any], key: str, work_dir: Path) -> ModuleType | None:
    if not params.get(key):
        return None
    found = resolve.find_module(params[key], work_dir)
    log.info("%s: %s", key, found)
    return resolve.load(found)


def _post_run(params: dict[str, Any], outcome: Outcome, work_dir: Path) -> None:
    module = _load(params, "post_module", work_dir)
    if module is None:
        return
    output_map = {"result": outcome.result, "history": outcome.history, "epochs": outcome.epochs}
    answer = module.post_run(params, output_map)
    if answer is not None:
        _answer("post_run", answer)


def _clean_up(pre: ModuleType | None, params: Mapping[str, Any]) -> None:
    """What a pre module offers for the end of a RUN: one that fails has no `post_run`."""
    if pre is None or not hasattr(pre, "clean_up"):
        return
    try:
        pre.clean_up(params)
    except Exception:
        log.exception("clean_up() of %s failed", params["pre_module"])


def _answer(function: str, answer: Any) -> ModelResult:
    """Our ModelResult or another one with the same numbers, as third-party modules bring along."""
    try:
        result = ModelResult(getattr(answer, "value", answer))
    except ValueError:
        raise RunError(
            f"{function}() returned {answer!r}; it must return ModelResult.SUCCESS, SKIP or ERROR"
            " (from model_runner import ModelResult)"
        ) from None
    if result is ModelResult.ERROR:
        raise RunError(f"{function}() returned ERROR")
    return result


def _run_model(params: Mapping[str, Any], given: Mapping[str, Any], directory: Path, work_dir: Path) -> Outcome:
    """Load the model, complete its parameters, run it, understand what it returned."""
    found = resolve.find_model(params["model_name"], params["framework"], work_dir)
    log.info("model: %s", found)
    caller = "run_pytorch" if params["framework"] == "pytorch" else "run_tensorflow"
    with voice_kept("RUNNER"):
        full, returned = _call_model(found, caller, params, given, directory, work_dir)
    log.info("%s(): pkg.run() done.", caller)
    os.chdir(directory)
    epochs = full.get("epochs")
    return read_outcome(returned, _metric(), epochs and int(epochs))


def _metric() -> str:
    return os.environ.get("MODEL_RETURN", DEFAULT_METRIC)


def _doubt(outcome: Outcome) -> str:
    """What is to be said of a RUN that is done, but for its result; empty for nothing."""
    if outcome.result not in ("nan", "inf", "-inf"):
        return ""
    metric, metrics = _metric(), outcome.history or {}
    if metric in metrics or (metrics and metric == DEFAULT_METRIC):  # for which another stands where it is not there
        return f"its result is {outcome.result}: so its training ended"
    return f"the model returned no number for MODEL_RETURN={metric}; its metrics: {', '.join(metrics)}"


def _call_model(
    found: resolve.Found,
    caller: str,
    params: Mapping[str, Any],
    given: Mapping[str, Any],
    directory: Path,
    work_dir: Path,
) -> tuple[dict[str, Any], Any]:
    """The parameters over the model's defaults, and what its `run` returned."""
    module = resolve.load(found)
    defaults = model_defaults(module, params, work_dir)
    full = apply_rules_again({**expanded(defaults), **params})
    config = config_checksum(params, work_dir, Path(found.file).parent)
    write_parameters(directory, {**full, "model_file": found.file, **config})
    # Without what the pre module made of them, such as a place on the node, or the model, which appends to a list; see
    # `compare` for the file.
    whole = {**copied(defaults), **given, "config_file": None}
    seed = full.get("rng_seed", full.get("seed"))
    if seed is not None:
        seed_random(int(seed))
    enable_loggers("RUNNER")
    log.info("%s(): pkg.run() ...", caller)
    try:
        with monitored(full, directory), owner.running(Owner(given, whole), directory), forks_end():
            return full, module.run(full)
    finally:
        # A model that reuses its compiled network from RUN to RUN says so; it clears the session itself when
        # needed.
        if not getattr(module, "KEEPS_SESSION", False):
            keras_state.clear_session()
