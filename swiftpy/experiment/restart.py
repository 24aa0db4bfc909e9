"""What a restart does with every RUN, decided from the old EXP and nothing else; changes nothing."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swiftpy.errors import UserError
from swiftpy.experiment import journal, lock, markers, parameters
from swiftpy.experiment.exp import Exp, find
from swiftpy.experiment.spec import RunSpec

Verdict = Literal["new", "skip", "resume", "fresh"]
Params = Mapping[str, Any]
#: A RUN's parameters then and now, and the value that it returned, None if it is not finished.
Pair = tuple[Params, Params, Mapping[str, Any] | None]
Compare = Callable[[Sequence[Pair]], Sequence[tuple[str, str]]]
ReadJob = Callable[[Path, Path | None], Sequence[RunSpec]]
# What models are called that a model module keeps beside its results.
_MODEL_SUFFIXES = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".npy", ".pkl")


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one RUN, and why (for people).

    new     starts from nothing, because there is nothing;
    skip    is finished: everything of it is carried over, `markers` too (names in the EXP's markers/);
            `value` is what the RUN returned, as far as that is known;
    resume  trains on from its checkpoint;
    fresh   starts from nothing, because the user says so (--fresh).
    """

    id: str
    verdict: Verdict
    reason: str
    markers: tuple[str, ...] = ()
    value: Mapping[str, Any] | None = None


def source(old: Exp, clock_dir: Path, ended: str = "") -> tuple[Exp, list[str]]:
    """The EXP that holds the work when the user says to restart `old`, and lines to tell the user.

    Usually `old` itself. But a job killed while it was carrying RUNs over leaves an EXP without
    `job_started`, which holds any part of them: its `restart.txt` says where the whole is, over any number
    of such attempts.

    UserError: the job of one of these EXPs lives, or one is gone. `clock_dir`: see `lock.holder`; `ended`: see
    `lock.holder`.
    """
    chain = [old]
    said = []
    while True:
        exp = chain[-1]
        if line := lock.refuse_if_alive(exp, clock_dir, ended):
            said.append(line)
        if not unprepared(exp):
            return exp, said
        name = exp.restart.read_text(encoding="utf-8", errors="surrogateescape").strip()
        before = find(exp.root.parent, str(exp.root.parent / name))
        if before in chain:
            raise UserError(f"{exp.restart} names {before.id}, which goes on from {exp.id} itself: restart another EXP")
        said.append(f"{exp.id} ended before it had taken over {before.id}: going on from {before.id}")
        chain.append(before)


def queued(exp: Exp) -> Mapping[str, Any] | None:
    """The `job_submitted` of a batch job that has neither begun in this EXP nor said why it could not."""
    events = journal.read(exp.journal)
    return events[-1] if events and events[-1]["event"] == "job_submitted" else None


def restarts_of(old: Exp, parent: Path) -> Iterator[Exp]:
    """The EXPs under `parent` whose `restart.txt` names this one, by name or path, and that we may read."""
    for file in sorted(parent.glob("*/restart.txt")):
        with contextlib.suppress(OSError, ValueError):  # another user's; a NUL, which no path has
            before = parent / file.read_text(encoding="utf-8", errors="surrogateescape").strip()
            if before.samefile(old.root) and os.access(file.with_name("journal.jsonl"), os.R_OK):
                yield Exp(file.parent)


def refuse_rivals(
    old: Exp, parent: Path, ids: AbstractSet[str], read_job: ReadJob, ended: str = "", mine: Exp | None = None
) -> None:
    """UserError if a job that lives goes on from `old`, too, with RUNs of these: both would train them.

    A job with other RUNs of `old` is no rival. One that has not said yet what it runs is. `mine` is the EXP of this
    job, if there is one yet; `ended`: see `lock.holder`.
    """
    for exp in restarts_of(old, parent):
        state = lock.holder(exp, parent, ended)
        if not state.alive or (mine is not None and exp.root.samefile(mine.root)):
            continue
        theirs = {spec.id for spec in _specs(exp, read_job)}
        if both := sorted(ids & theirs if theirs else ids):
            runs = f"RUN {both[0]}" + (f" and {len(both) - 1} more of these RUNs" if both[1:] else "")
            raise UserError(
                f"{exp.id} goes on from {old.id} now, with {runs}: {state.owner}, last heard of {state.age:.0f} s ago;"
                f" let it end, or stop it, and restart {exp.id}"
                f" (if it is dead already, try again in {lock.DEAD_S:.0f} s)"
            )


def unprepared(exp: Exp) -> bool:
    """Whether its job has not begun, nor taken everything over, so that a restart goes on with the EXP before.

    An EXP of the original system has no journal; what it carried over is taken as it is.
    """
    if not exp.journal.exists() or not exp.restart.exists():
        return False
    return all(event["event"] != "job_started" for event in journal.read(exp.journal))


def plan(
    specs: Sequence[RunSpec],
    old: Exp | None,
    compare: Compare,
    read_job: ReadJob,
    fresh: bool = False,
    whole: Sequence[Params] = (),
) -> list[Decision]:
    """One decision for each RUN, in order. `old` is what `source` returned, None without a restart.

    `compare` is asked once, for all RUNs whose old parameters are known: for each it answers "skip", "resume" or
    "refuse" and a reason. `read_job(UPF, DFLTS)` reads the copies in the old EXP, for the old parameters of
    unfinished RUNs. `whole` are the RUNs' parameters over their models' defaults, where those are known. What is in
    them and was not given then is compared with the old RUN's parameters.txt, as far as that has it. Of RUNs of the
    original system's EXPs, which do not say which file was the UPF, all is; but other defaults are none of theirs.

    UserError: RUNs whose science changed, a line for each change, unless `fresh`, which starts those from nothing.
    OSError: what `old` has may not be read.
    """
    if old is None:
        return [Decision(spec.id, "new", "") for spec in specs]
    records = markers.read_all(old)
    old_params = {spec.id: spec.params for spec in _specs(old, read_job)}
    if not whole or not old.journal.exists():
        whole = [spec.params for spec in specs]
    pasts: list[_Past | None] = []
    pairs: dict[str, Pair] = {}
    for spec, params in zip(specs, whole, strict=True):
        past = _past(old, spec, params, records.get(spec.id), old_params.get(spec.id))
        pasts.append(past)
        if past is not None and past.params is not None:
            pairs[spec.id] = (past.params, _comparable(params, spec.params, past.params), past.value)
    answers = dict(zip(pairs, compare(list(pairs.values())), strict=True)) if pairs else {}
    decisions = []
    refused: dict[str, list[RunSpec]] = {}
    for spec, past in zip(specs, pasts, strict=True):
        verdict, reason = _judge(past, answers.get(spec.id))
        if verdict == "fresh":
            refused.setdefault(reason, []).append(spec)
        if past is not None and verdict == "skip":
            decisions.append(Decision(spec.id, verdict, reason, past.markers, past.value))
        else:
            decisions.append(Decision(spec.id, verdict, reason))
    if refused and not fresh:
        raise UserError(*_refusals(old, refused), "--fresh starts these RUNs from nothing; or change back what differs")
    return decisions


def _refusals(old: Exp, refused: Mapping[str, Sequence[RunSpec]]) -> Iterator[str]:
    """One line for each reason: what was changed in DFLTS is one mistake, not 770."""
    for reason, (first, *others) in refused.items():
        also = f" (and {len(others)} more, the last at {others[-1].where})" if others else ""
        yield f"{first.where}: RUN {first.id}{also} cannot go on from {old.id}: {reason}"


def _with_written(run_dir: Path, now: Params, known: Params | None) -> Params | None:
    """The RUN's old parameters, and, where they lack one of `now`, what it has written of that itself."""
    written = parameters.read(run_dir / "parameters.txt")
    if not written:
        return known
    return {**{key: written[key] for key in now if key in written}, **(known or {})}


def epoch_seconds(old: Exp | None) -> float:
    """The longest time of an epoch that the journal of `old` tells, 0.0 if it tells none."""
    events = journal.read(old.journal) if old else []
    return max((float(event.get("epoch_seconds") or 0.0) for event in events), default=0.0)


def left_behind(specs: Iterable[RunSpec], old: Exp) -> int:
    """How many RUNs of the old EXP the new UPF does not name; they stay where they are."""
    named = {spec.id for spec in specs}
    return sum(path.name not in named for path in old.run.iterdir())


@dataclass(frozen=True, slots=True)
class _Past:
    """What the old EXP has of a RUN: `params` None = not known, `value` None = not finished."""

    params: Params | None
    value: Mapping[str, Any] | None
    markers: tuple[str, ...]


def _past(old: Exp, spec: RunSpec, now: Params, record: markers.Marker | None, params: Params | None) -> _Past | None:
    """None: there is nothing to go on from, also where the user deleted the directory of a finished RUN."""
    run_dir = old.run_dir(spec.id)
    if not run_dir.is_dir():
        return None
    params = _with_written(run_dir, now, record.params if record is not None else params)
    if record is not None:
        files = [markers.path(old, spec.id), markers.old_path(old, record.params)]
        return _Past(params, record.value, _existing(files))
    if markers.old_form_done(old, spec.id, spec.params):
        value = {
            "status": "ok",
            "reason": "",
            "epochs": None,
            "result": (run_dir / "result.txt").read_text(encoding="utf-8", errors="replace").strip(),
            "stopped_early": _stopped_early(run_dir),
        }
        return _Past(params, value, _existing([markers.old_path(old, spec.params)]))
    return _Past(params, None, ()) if _has_checkpoint(run_dir) else None


def _stopped_early(run_dir: Path) -> bool:
    """Whether a RUN that is finished by the old form of marker ended by its own criterion.

    The original system counted the epochs of the last attempt only: a RUN that it resumed at 18 of 20 has the
    stop.marker `early stopping: 2/20`. The last of the epochs asked for is always saved, and its record stays.
    """
    try:
        marker = (run_dir / "stop.marker").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    expected = re.match(r"early stopping: \d+/(\d+)", marker)
    epochs = run_dir / "ckpts" / "epochs"
    saved = [int(path.name) for path in epochs.iterdir() if path.name.isdecimal()] if epochs.exists() else []
    return expected is None or max(saved, default=0) < int(expected[1])


def _existing(files: Iterable[Path | None]) -> tuple[str, ...]:
    return tuple(file.name for file in files if file is not None and file.exists())


def _comparable(now: Params, given: Params, then: Params) -> Params:
    """A default that nobody gave, and that the old RUN does not name, may have been the same."""
    return {key: value for key, value in now.items() if key in given or key in then}


def _judge(past: _Past | None, answer: tuple[str, str] | None) -> tuple[Verdict, str]:
    """ "fresh" where `compare` refuses: nothing but a start from nothing is possible."""
    if past is None:
        return "new", "has no checkpoint to go on from"
    if answer is None:
        return "resume" if past.value is None else "skip", "its old parameters are not recorded: not compared"
    verdict, reason = answer
    if verdict == "refuse":
        return "fresh", reason
    return "skip" if verdict == "skip" else "resume", reason


def _specs(exp: Exp, read_job: ReadJob) -> Sequence[RunSpec]:
    """From the copies of UPF and DFLTS in an EXP, which its journal names; [] where one is missing or not named."""
    for event in journal.read(exp.journal):
        if event["event"] in ("job_submitted", "job_started"):
            upf, dflts = (exp.root / event[name] if event.get(name) else None for name in ("upf", "dflts"))
            if upf is not None and all(path is None or path.exists() for path in (upf, dflts)):
                return read_job(upf, dflts)
    return []


def _has_checkpoint(run_dir: Path) -> bool:
    """Whether anything in a RUN directory may be a checkpoint, of our module or of any model's own making.

    That is a file in a subdirectory, or one called like a model. Results and parameters, which lie beside each other in
    the RUN directory itself, do not bind the RUN to the parameters that it failed with; nor do logs, the JSON file
    of an epoch whose model was cleaned away, and `work`, where half a model may lie. A link `ckpts` out of the RUN
    directory leads to checkpoints that the user keeps elsewhere. OSError: it may not be read.
    """
    for directory, subdirectories, files in os.walk(run_dir, onerror=_raise):
        links = (Path(directory, name).resolve() for name in subdirectories if name == "ckpts")
        if any(not link.is_relative_to(run_dir.resolve()) and _has_checkpoint(link) for link in links):
            return True
        if "work" in subdirectories:
            subdirectories.remove("work")
        top, in_epoch = Path(directory) == run_dir, Path(directory).parent.name == "epochs"
        for file in files:
            if file.endswith(_MODEL_SUFFIXES) or not (top or file.endswith(".log") or (in_epoch and ".json" in file)):
                return True
    return False


def _raise(error: OSError) -> None:
    """For `os.walk`, to which a directory that may not be read is an empty one."""
    raise error
