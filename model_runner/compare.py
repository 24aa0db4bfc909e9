"""The restart decision for one RUN, from its parameters then and now."""

from collections.abc import Mapping
from typing import Any

from model_runner.params import apply_rules

# Where a RUN reads and writes, how long it may take and what it reports do not change what it computes; how it computes
# changes the last digits, and the model says so when it goes on (docs/training.md).
_INDIFFERENT = frozenset(
    (
        *("timeout", "solr_root", "experiment_id", "run_id"),
        *("input_dir", "output_dir", "instance_directory", "save", "post_module"),
        *("partition_files", "steps_per_execution", "generator_batch_size", "metadata"),
        *("jit_compile", "fused_optimizer", "mixed_precision"),
        *("verbose", "verbosity", "logfile", "log_level", "profiling", "show_progress"),
    )
)
_INDIFFERENT_PREFIXES = ("perf_", "ckpt_")


def compare(old: Mapping[str, Any], new: Mapping[str, Any], done: Mapping[str, Any] | None) -> tuple[str, str]:
    """What a restart does with a RUN: ("skip" | "resume" | "refuse", reason).

    `old` and `new` are its parameter sets, `done` is what `run_model` returned for it, None when it had not
    finished. Only more `epochs` may be asked for: the RUN trains on, unless it had stopped early by its own
    criterion. A `config_file` of None in `new` says that all that is in it is there as well; else its name counts.
    """
    then, now = _science(old), _science(new)
    if now.get("config_file", "") is None:
        then.pop("config_file", None)
        now.pop("config_file")
    differing = sorted(key for key in then.keys() | now.keys() if _differs(then, now, key))
    if not differing:
        return ("skip", "done") if done else ("resume", "unfinished, same parameters" + _moved(old, new))
    if differing == ["epochs"] and _more(then.get("epochs"), now.get("epochs")):
        if done and done.get("stopped_early"):
            return "skip", "stopped early by its own criterion"
        return "resume", f"epochs {then['epochs']} -> {now['epochs']}" + _moved(old, new)
    changes = ", ".join(f"{key} {_shown(then, key)} -> {_shown(now, key)}" for key in differing)
    return "refuse", f"parameters differ: {changes}"


def _science(params: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in apply_rules(params).items()
        if key not in _INDIFFERENT and not key.startswith(_INDIFFERENT_PREFIXES)
    }
    # The pre module makes the data: its name counts, where it lies does not.
    if isinstance(kept.get("pre_module"), str):
        kept["pre_module"] = kept["pre_module"].rpartition(".")[2]
    return kept


def _differs(then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> bool:
    return key not in then or key not in now or then[key] != now[key]


def _more(then: Any, now: Any) -> bool:
    return isinstance(then, int) and isinstance(now, int) and now > then


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """A RUN does not find its checkpoints elsewhere, and starts anew, unless the user has moved them, too."""
    then, now = old.get("ckpt_directory"), new.get("ckpt_directory")
    return "" if then == now else f"; ckpt_directory {then!r} -> {now!r}: from the checkpoints there, if any"


def _shown(params: Mapping[str, Any], key: str) -> str:
    return repr(params[key]) if key in params else "(not set)"
