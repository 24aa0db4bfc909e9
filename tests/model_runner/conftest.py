import copy
import sys
from pathlib import Path

import pytest

from model_runner import isolation, run_model

THIRD_PARTY = Path(__file__).parent / "third_party"


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """No setting of the caller, and no module that an earlier test's RUN imported."""
    for name in ("DIR", "SCRIPT"):
        monkeypatch.delenv(f"MODEL_PYTHON_{name}", raising=False)
    for name in ("CANDLE_DEFAULT_MODEL_FILE", "MODEL_RETURN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(isolation, "_loaded", {})
    monkeypatch.setenv("ADLB_RANK_SELF", "17")
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(THIRD_PARTY)):
            del sys.modules[name]


@pytest.fixture
def third_party():
    """Directories of models that are no part of this project: `other` has a second version of one."""
    return THIRD_PARTY


@pytest.fixture
def models(monkeypatch):
    """The third party's directory, as MODEL_PYTHON_DIR."""
    monkeypatch.setenv("MODEL_PYTHON_DIR", str(THIRD_PARTY / "models"))
    return THIRD_PARTY / "models"


@pytest.fixture
def run(tmp_path):
    """run(model, RUN's name, **params) -> (what run_model returned, RUN directory)."""

    def start(model_name, run_id="RUN000", **params):
        directory = tmp_path / run_id
        directory.mkdir(exist_ok=True)
        params = {"instance_directory": str(directory), "model_name": model_name, "timeout": -1, **params}
        given = copy.deepcopy(params)
        answer = run_model(params)
        assert params == given, "the engine's parameters are not the RUN's to change"
        return answer, directory

    return start
