"""Submitting that is interrupted; see tests/jobs/test_chain.py for whole jobs."""

import json

import pytest

from swiftpy.sites import schedulers
from swiftpy.upf import submit


def interrupt(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["understand", "provenance.write_environment"])
def test_ctrl_c_before_the_scheduler_is_asked_leaves_nothing(tmp_path, monkeypatch, capsys, where):
    for name, value in {"CANDLE_DATA_DIR": "out", "MODEL_NAME": "m", "PROCS": "2", "PPN": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upf.json").write_text(json.dumps({"id": "A"}))
    monkeypatch.setattr(f"swiftpy.upf.submit.{where}", interrupt)
    assert submit.main(["slurm", "upf.json", "--task", "json:dumps"]) == schedulers.Interrupted.exit_code
    assert capsys.readouterr().err == "interrupted: no job was submitted\n"
    assert not list(tmp_path.glob("out/m/Output/*"))
