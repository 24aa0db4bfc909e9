import json
import shutil
from pathlib import Path

import pytest
import trees

from swiftpy.errors import UserError
from swiftpy.experiment import markers, parameters
from swiftpy.experiment.exp import Exp, create
from swiftpy.experiment.journal import Journal
from swiftpy.experiment.lock import Lock
from swiftpy.experiment.restart import epoch_seconds, left_behind, plan, queued, refuse_rivals, restarts_of, source
from swiftpy.upf.parse import read_job

FINISHED = {"status": "ok", "reason": "", "epochs": 3, "result": "0.1", "stopped_early": False}


def compare(pairs):
    return [decide(*pair) for pair in pairs]


def decide(old, new, done):
    """As model_runner's, in small: only `epochs` may grow, and `timeout` does not count."""
    old, new = ({k: v for k, v in p.items() if k != "timeout"} for p in (old, new))
    differing = sorted(k for k in old | new if old.get(k) != new.get(k))
    if not differing:
        return ("skip", "finished") if done else ("resume", "the same parameters")
    if differing == ["epochs"] and new["epochs"] > old["epochs"]:
        if done and done["stopped_early"]:
            return "skip", "stopped early"
        return "resume", f"epochs {old['epochs']} -> {new['epochs']}"
    return "refuse", f"{', '.join(differing)} changed"


def specs(folder: Path, ids: str, dflts: str = '{"epochs": 3}', **extra):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"id": name, "index": n, **extra.get(name, {})}) for n, name in enumerate(ids.split()))
    (folder / "upf.json").write_text("\n".join(lines))
    (folder / "dflts.json").write_text(dflts)
    return read_job(folder / "upf.json", folder / "dflts.json")


def started(exp: Exp, folder: Path) -> Exp:
    """What the job does before its first RUN."""
    upf, dflts = exp.copy_inputs(folder / "upf.json", folder / "dflts.json")
    with Journal(exp.journal) as journal:
        journal.write("job_started", upf=upf, dflts=dflts)
    return exp


@pytest.fixture
def old(tmp_path):
    """MID was killed in epoch 2, HALF in its first checkpoint, EARLY before its marker; BAD failed.

    Of CLEANED the user has deleted the models; the model of OWN saves what it goes on from in its own way.
    """
    before = specs(tmp_path / "in", "DONE MID HALF EARLY BAD GONE CLEANED OWN")
    exp = started(create(tmp_path), tmp_path / "in")
    trees.make(
        exp.root,
        """
        markers/marker-000.txt = DONE
        run/DONE/result.txt = 0.1
        run/DONE/ckpts/epochs/003/model.h5 = m
        run/MID/parameters.txt = p
        run/MID/ckpts/epochs/001/model.h5 = m
        run/HALF/ckpts/work/model.h5 = torn
        run/HALF/ckpts/ckpt.log = log
        run/EARLY/stop.marker = early stopping: 2/3
        run/EARLY/result.txt = 0.2
        run/BAD/parameters.txt = p
        run/BAD/result.txt = RUN_EXCEPTION
        run/BAD/stop.marker = false
        run/GONE/result.txt = 0.3
        run/CLEANED/ckpts/epochs/001/ckpt-info.json = {}
        run/OWN/saves/state.json = {}
        """,
    )
    markers.write(exp, "DONE", before[0].params, FINISHED, 1.0)
    return exp


def verdicts(decisions):
    return {decision.id: decision.verdict for decision in decisions}


def test_every_run_by_what_it_left(tmp_path, old):
    now = specs(tmp_path / "in", "DONE MID HALF EARLY BAD NEW CLEANED OWN")
    before = trees.snapshot(old.root)
    decisions = plan(now, old, compare, read_job)
    assert verdicts(decisions) == {
        "DONE": "skip",
        "MID": "resume",
        "HALF": "new",
        "EARLY": "skip",
        "BAD": "new",
        "NEW": "new",
        "CLEANED": "new",
        "OWN": "resume",
    }
    assert [d.markers for d in decisions] == [("DONE.json", "marker-000.txt"), *[()] * 7]
    assert left_behind(now, old) == 1
    assert trees.snapshot(old.root) == before
    assert set(verdicts(plan(now, None, compare, read_job)).values()) == {"new"}


def test_checkpoints_that_the_user_keeps_elsewhere(tmp_path, old):
    """The RUN has a link to them; in the directory of NONE nothing was saved yet. A link to data means nothing."""
    trees.make(tmp_path / "scratch", "AWAY/epochs/001/model.h5 = m\nNONE/ckpt.log = log")
    for name in ("AWAY", "NONE"):
        trees.make(old.run_dir(name), f"output/ckpts -> {tmp_path}/scratch/{name}")
    trees.make(old.run_dir("DATA"), f"result.txt = 0.1\ndata -> {tmp_path}/scratch/AWAY")
    now = specs(tmp_path / "in", "AWAY NONE DATA")
    assert verdicts(plan(now, old, compare, read_job)) == {"AWAY": "resume", "NONE": "new", "DATA": "new"}


@pytest.mark.parametrize(("file", "verdict"), [("best.pt", "resume"), ("predictions.csv", "new")])
def test_a_model_beside_the_results_may_be_what_a_run_goes_on_from(tmp_path, file, verdict):
    old = Exp(trees.make(tmp_path / "EXP000", f"run/RUN000/{file} = m"))
    assert verdicts(plan(specs(tmp_path / "in", "RUN000"), old, compare, read_job)) == {"RUN000": verdict}


def test_more_epochs_resume_what_did_not_stop_early(tmp_path, old):
    now = specs(tmp_path / "in", "DONE MID HALF EARLY", '{"epochs": 5, "timeout": 60}')
    decisions = plan(now, old, compare, read_job)
    assert verdicts(decisions) == {"DONE": "resume", "MID": "resume", "HALF": "new", "EARLY": "skip"}
    assert decisions[0].reason == "epochs 3 -> 5" and decisions[0].markers == ()


def test_changed_science_is_refused_once_for_each_change_or_fresh(tmp_path, old):
    now = specs(tmp_path / "in", "DONE MID BAD NEW EARLY", '{"epochs": 3, "seed": 1}')
    upf = tmp_path / "in" / "upf.json"
    with pytest.raises(UserError) as caught:
        plan(now, old, compare, read_job)
    assert caught.value.lines == [
        f"{upf}:1: RUN DONE (and 1 more, the last at {upf}:2) cannot go on from EXP000: seed changed",
        # BAD left nothing to go on from, so its parameters are free to change. EARLY has another index now.
        f"{upf}:5: RUN EARLY cannot go on from EXP000: index, seed changed",
        "--fresh starts these RUNs from nothing; or change back what differs",
    ]
    decisions = plan(now, old, compare, read_job, fresh=True)
    assert verdicts(decisions) == {
        "DONE": "fresh",
        "MID": "fresh",
        "BAD": "new",
        "NEW": "new",
        "EARLY": "fresh",
    }
    assert not any(d.markers for d in decisions)


def test_what_was_a_default_and_is_given_now_is_compared_with_what_the_run_wrote(tmp_path, old):
    for name in ("DONE", "MID"):
        (old.run_dir(name) / "parameters.txt").write_text("[Global Params]\nepochs=200\nseed=0\nalpha=6\n")
    decisions = plan(specs(tmp_path / "in", "DONE MID", '{"epochs": 5, "seed": 0}'), old, compare, read_job)
    assert [d.reason for d in decisions] == ["epochs 3 -> 5"] * 2  # what the user gave then counts more
    with pytest.raises(UserError, match="seed changed"):
        plan(specs(tmp_path / "in", "DONE MID", '{"epochs": 3, "seed": 1}'), old, compare, read_job)


def test_changed_defaults_are_changed_science_where_the_run_has_written_what_they_were(tmp_path, old):
    now = specs(tmp_path / "in", "DONE MID")
    for n, name in enumerate(("DONE", "MID")):
        text = f"[Global Params]\nid={name!r}\nindex={n}\nepochs=3\nseed=0\nalpha=6\n"
        (old.run_dir(name) / "parameters.txt").write_text(text)

    def verdicts_with(**defaults):
        return verdicts(plan(now, old, compare, read_job, whole=[{**defaults, **spec.params} for spec in now]))

    assert verdicts_with(seed=0, alpha=6, unheard=1) == {"DONE": "skip", "MID": "resume"}
    with pytest.raises(UserError) as caught:
        verdicts_with(seed=0, alpha=5)
    assert [line.rpartition("EXP000: ")[2] for line in caught.value.lines[:-1]] == ["alpha changed"]
    old.journal.unlink()  # the original system has other defaults, and names that mean other things
    assert verdicts_with(seed=1) == {"DONE": "skip", "MID": "resume"}


def test_without_the_copies_of_upf_and_dflts_a_run_is_compared_with_what_it_wrote(tmp_path, old):
    for name in ("upf.json", "dflts.json"):
        (old.root / name).unlink()
    (old.run_dir("MID") / "parameters.txt").write_text("[Global Params]\nid='MID'\nindex=1\nepochs=3\n")
    now = specs(tmp_path / "in", "DONE MID")
    assert verdicts(plan(now, old, compare, read_job)) == {"DONE": "skip", "MID": "resume"}
    with pytest.raises(UserError, match="RUN MID cannot go on from EXP000: epochs changed"):
        plan(specs(tmp_path / "in", "DONE MID", '{"epochs": 2}', DONE={"epochs": 3}), old, compare, read_job)


@pytest.mark.parametrize("damaged", ["", '{"id": "DO', '{"id": "DONE"}', "[]"])
def test_a_deleted_run_directory_or_a_damaged_marker_is_no_finished_run(tmp_path, old, damaged):
    now = specs(tmp_path / "in", "DONE")
    (old.markers / "DONE.json").write_text(damaged)
    (old.markers / "marker-000.txt").unlink()
    assert verdicts(plan(now, old, compare, read_job)) == {"DONE": "resume"}
    shutil.rmtree(old.run_dir("DONE"))
    assert verdicts(plan(now, old, compare, read_job)) == {"DONE": "new"}


def test_an_exp_without_markers_has_no_finished_run(tmp_path):
    """A user has copied the RUNs alone."""
    old = Exp(trees.make(tmp_path / "EXP000", "run/RUN000/ckpts/epochs/001/model.h5 = m"))
    assert verdicts(plan(specs(tmp_path / "in", "RUN000"), old, compare, read_job)) == {"RUN000": "resume"}


def test_the_hash_of_parameters_does_not_know_their_order():
    assert markers.params_hash({"a": 1, "b": 2}) == markers.params_hash({"b": 2, "a": 1})
    assert markers.params_hash({"a": 1, "b": 2}) != markers.params_hash({"a": 2, "b": 1})


def test_a_parameter_without_a_value_is_left_out(tmp_path):
    file = tmp_path / "parameters.txt"
    file.write_text("[Global Params]\nepochs=\nloss='\nseed=1\n")
    assert parameters.read(file) == {"seed": 1}


def test_killed_between_the_post_modules_marker_and_the_servers(tmp_path, old):
    (old.markers / "DONE.json").unlink()
    now = specs(tmp_path / "in", "DONE OTHER", OTHER={"index": 0})
    trees.make(old.root, "run/OTHER/ckpts/epochs/001/model.h5 = m")
    decisions = plan(now, old, compare, read_job)
    # OTHER has the same index, so the marker's name is its name too; but it has no result.
    assert verdicts(decisions) == {"DONE": "skip", "OTHER": "resume"}
    assert decisions[0].markers == ("marker-000.txt",)


def test_an_exp_of_the_original_system_is_compared_with_what_its_runs_wrote(tmp_path):
    """Its journal is not missing: it never had one. The file is read without running what is in it."""
    run = "result.txt = 0.1"
    root = trees.make(
        tmp_path / "EXP011",
        f"""
        dflts-e20-a6.json = {{"epochs": 20}}
        restart.txt = /gone/EXP010
        markers/marker-000.txt = DONE
        markers/marker-003.txt = DONE
        run/RUN000/{run}
        run/RUN001/ckpts/epochs/002/model.h5 = m
        run/RUN003/{run}
        """,
    )
    text = "[Global Params]\nid='RUN00N'\nindex=N\nepochs=3\nloss='mse'\nodd='it's'\nbad=exit(1)\n[Monitor Params]\n"
    for n in (1, 3):
        (root / "run" / f"RUN00{n}" / "parameters.txt").write_text(text.replace("N\n", f"{n}\n").replace("N'", f"{n}'"))
    ids = "RUN000 RUN001 RUN002 RUN003"
    decisions = plan(specs(tmp_path / "in", ids), Exp(root), compare, read_job)
    assert [d.verdict for d in decisions] == ["skip", "resume", "new", "skip"]
    assert "not compared" in decisions[0].reason and decisions[1].reason == "the same parameters"
    more = plan(specs(tmp_path / "in", ids, '{"epochs": 5, "loss": "mse"}'), Exp(root), compare, read_job)
    assert [d.verdict for d in more][1:] == ["resume", "new", "resume"] and more[3].reason == "epochs 3 -> 5"
    with pytest.raises(UserError, match=r"RUN RUN001 \(and 1 more, .*:4\) cannot go on from EXP011: loss changed"):
        plan(specs(tmp_path / "in", ids, '{"epochs": 3, "loss": "mae", "odd": "it\'s"}'), Exp(root), compare, read_job)
    assert source(Exp(root), tmp_path) == (Exp(root), [])


def test_a_stop_marker_that_counts_the_last_attempt_alone_is_not_believed(tmp_path):
    """The original system's, of a RUN that it had resumed. EARLY was resumed, too, and did stop early."""
    root = trees.make(
        tmp_path / "EXP011",
        """
        run/FULL/stop.marker = early stopping: 1/3
        run/FULL/ckpts/epochs/001/ckpt-info.json = {}
        run/FULL/ckpts/epochs/003/ckpt-info.json = {}
        run/EARLY/stop.marker = early stopping: 1/3
        run/EARLY/ckpts/epochs/002/ckpt-info.json = {}
        run/EARLY/ckpts/epochs/003.old/ckpt-info.json = {}
        run/OTHER/stop.marker = by hand
        run/OTHER/ckpts/epochs/003/ckpt-info.json = {}
        """,
    )
    for number, name in enumerate(("FULL", "EARLY", "OTHER")):
        trees.make(root, f"run/{name}/result.txt = 0.1\nmarkers/marker-00{number}.txt = DONE")
        (root / "run" / name / "parameters.txt").write_text(f"[Global Params]\nid='{name}'\nindex={number}\nepochs=3\n")
    more = plan(specs(tmp_path / "in", "FULL EARLY OTHER", '{"epochs": 5}'), Exp(root), compare, read_job)
    assert [d.reason for d in more] == ["epochs 3 -> 5", "stopped early", "stopped early"]
    same = plan(specs(tmp_path / "in", "FULL EARLY"), Exp(root), compare, read_job)
    assert verdicts(same) == {"FULL": "skip", "EARLY": "skip"}


def test_the_time_of_an_epoch_is_known_from_the_old_journal(tmp_path):
    exp = create(tmp_path)
    assert epoch_seconds(None) == epoch_seconds(exp) == 0.0
    with Journal(exp.journal) as journal:
        journal.write("job_started", epoch_seconds=2.0)
        journal.write("run_done", epoch_seconds=None)
        journal.write("run_interrupted", epoch_seconds=3.5)
    assert epoch_seconds(exp) == 3.5


def test_killed_while_carrying_over_and_over_the_source_is_found(tmp_path, old):
    first = create(tmp_path, restart=old)
    lock = Lock(first, "9.pbs")
    gone = json.loads(first.lock.read_text()) | {"host": "node2", "pid": 1, "start": "-1", "jobid": "7.pbs"}
    second = create(tmp_path, restart=first)
    with pytest.raises(UserError, match=r"EXP001 is in use by job 9.pbs"):
        source(second, tmp_path)
    lock.release()
    (old.root / "lock.json").write_text(json.dumps(gone))
    found, said = source(second, tmp_path)
    assert found == old
    assert said.pop().startswith("EXP000 was left by job 7.pbs on node2 (pid 1), which died")
    assert said == [
        "EXP002 ended before it had taken over EXP001: going on from EXP001",
        "EXP001 ended before it had taken over EXP000: going on from EXP000",
    ]
    assert source(started(second, tmp_path / "in"), tmp_path) == (second, [])
    shutil.rmtree(old.root)
    with pytest.raises(UserError, match=r"there is no EXP .*EXP000: "):
        source(first, tmp_path)
    first.restart.write_text("EXP001\n")
    with pytest.raises(UserError, match="goes on from EXP001 itself"):
        source(first, tmp_path)


def test_an_exp_whose_job_never_began_and_that_is_no_restart_is_taken_as_it_is(tmp_path):
    """It was killed as it was made."""
    exp = create(tmp_path)
    assert source(exp, tmp_path) == (exp, [])
    exp.journal.write_bytes(b"")
    assert source(exp, tmp_path) == (exp, []) and queued(exp) is None


def test_a_restart_beside_one_that_trains_the_same_runs_is_refused(tmp_path, old):
    """Two of them trained every RUN of EXP000 to the end."""
    other = create(tmp_path, restart=old)
    lock = Lock(other, "9.pbs")
    with pytest.raises(UserError, match=r"EXP001 goes on from EXP000 now, with RUN A: job 9.pbs on .* restart EXP001"):
        refuse_rivals(old, tmp_path, {"A"}, read_job)  # it copies models yet, and has not said what it runs
    specs(tmp_path / "in", "MID BAD")
    started(other, tmp_path / "in")
    with pytest.raises(UserError, match="with RUN BAD and 1 more of these RUNs: job"):
        refuse_rivals(old, tmp_path, {"BAD", "MID", "NEW"}, read_job)
    refuse_rivals(old, tmp_path, {"NEW"}, read_job)  # other RUNs
    refuse_rivals(old, tmp_path, {"MID"}, read_job, mine=other)
    refuse_rivals(old, tmp_path, {"MID"}, read_job, "9.pbs")  # its scheduler killed it
    refuse_rivals(other, tmp_path, {"MID"}, read_job)
    lock.release()
    refuse_rivals(old, tmp_path, {"MID"}, read_job)  # it ended, however it did


def test_a_restart_in_another_directory_names_the_exp_by_its_path(tmp_path, old):
    there = create(tmp_path / "there", restart=old)
    create(tmp_path / "there", restart=Exp(tmp_path / "there" / "EXP000"))
    for text in ("/removed/EXP000", "a\0b"):
        create(tmp_path / "there", restart=old).restart.write_text(text)
    assert list(restarts_of(old, tmp_path / "there")) == [there]
