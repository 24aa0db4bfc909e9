"""Who wins when names collide."""

import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from model_runner import resolve
from model_runner.errors import RunError
from model_runner.isolation import isolated


@pytest.fixture
def collision(monkeypatch, tmp_path):
    """One pre module and one model under the same names in every place that is searched; lists them, winner first."""

    def module(*parts):
        file = tmp_path.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        return file

    for directory in ("script", "python_dir", "working"):
        for name in ("hed_setup", "unorun_train_improve"):
            module(directory, name + ".py")
    module("site", "strangers.py")
    metadata = module("site", "stranger-1.0.dist-info", "METADATA")
    metadata.write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    metadata.with_name("entry_points.txt").write_text(
        "[model_runner.modules]\nhed_setup = strangers\n[model_runner.models]\nunorun = strangers\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(tmp_path / "python_dir"))
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path


def found(find, *args):
    work_dir = Path.cwd()
    with isolated(resolve.own_directories(work_dir), work_dir):
        result = find(*args, work_dir)
    return result.source, result.file


def test_order(collision, monkeypatch):
    def both():
        return found(resolve.find_model, "unorun", "keras"), found(resolve.find_module, "hed_setup")

    script = collision / "script" / "unorun_train_improve.py"
    monkeypatch.setenv("MODEL_PYTHON_SCRIPT", str(script))
    assert both()[0] == ("MODEL_PYTHON_SCRIPT", str(script))
    monkeypatch.delenv("MODEL_PYTHON_SCRIPT")

    here = collision / "python_dir"
    names = ("unorun_train_improve.py", "hed_setup.py")
    assert both() == tuple(("MODEL_PYTHON_DIR", str(here / name)) for name in names)
    monkeypatch.delenv("MODEL_PYTHON_DIR")

    strangers = str(collision / "site" / "strangers.py")
    assert both() == (("entry point of stranger", strangers),) * 2
    sys.path.remove(str(collision / "site"))

    here = collision / "working"
    assert both() == tuple(("Python path", str(here / name)) for name in names)
    for name in names:
        (here / name).unlink()
        (here / name.removesuffix(".py")).mkdir()  # a directory of outputs is no module

    assert [source for source, _ in both()] == ["entry point of swiftpy"] * 2


def test_names_of_candle_and_frameworks(collision):
    for name in ("a_baseline_pytorch", "a_baseline_keras2", "b_baseline_pytorch"):
        (collision / "python_dir" / f"{name}.py").write_text("")

    def file(name, framework):
        return Path(found(resolve.find_model, name, framework)[1]).stem

    assert file("a", "keras") == "a_baseline_keras2"
    assert file("a", "pytorch") == "a_baseline_pytorch"
    assert file("b", "keras") == "b_baseline_pytorch"
    (collision / "python_dir" / "a_train_improve.py").write_text("")
    assert file("a", "pytorch") == "a_train_improve"


def test_a_model_is_never_a_module_of_python(collision, monkeypatch):
    with pytest.raises(RunError, match="model_name 'random': no such module"):
        found(resolve.find_model, "random", "keras")
    monkeypatch.setenv("MODEL_PYTHON_SCRIPT", "nowhere.py")
    with pytest.raises(RunError, match=r"MODEL_PYTHON_SCRIPT=nowhere\.py"):
        found(resolve.find_model, "unorun", "keras")


def test_distributions_are_read_once_in_a_process(collision, monkeypatch):
    """Each RUN opened the METADATA of ours a dozen times, on the file system of all workers."""

    def both():
        return found(resolve.find_model, "unorun", "keras"), found(resolve.find_module, "hed_setup")

    monkeypatch.delenv("MODEL_PYTHON_DIR")
    before, reads, read_text = both(), [], PathDistribution.read_text
    monkeypatch.setattr(
        PathDistribution, "read_text", lambda self, name: reads.append((self, name)) or read_text(self, name)
    )
    assert both() == before
    assert before[0][0] == "entry point of stranger"
    assert not reads
