"""What a task is, as it travels."""

import dataclasses
import pickle

import pytest

from swiftpy.core.task import ANYWHERE, Kind, Target

OTHER = {
    "function": "m:f",
    "label": "RUN001",
    "priority": 1.5,
    "depth": 3,
    "target": Target(node="a", kind="gpu", soft=True),
    "timeout": 7.0,
    "retries": 2,
    "isolated": True,
    "ranks": 4,
    "chained": True,
}


@pytest.mark.parametrize("target", [ANYWHERE, Target(), Target(rank=3), OTHER["target"]], ids=str)
def test_a_target_arrives_as_it_was(target):
    arrived = pickle.loads(pickle.dumps(target))
    assert (arrived, arrived.place) == (target, target.place)


@pytest.mark.parametrize("changed", [(), *((name,) for name in OTHER), tuple(OTHER)], ids=" ".join)
def test_a_kind_arrives_as_it_was(changed):
    kind = dataclasses.replace(Kind("a:b"), **{name: OTHER[name] for name in changed})
    arrived = pickle.loads(pickle.dumps(kind))
    assert [getattr(arrived, field.name) for field in dataclasses.fields(Kind)] == [
        getattr(kind, field.name) for field in dataclasses.fields(Kind)
    ]
    assert set(OTHER) == {field.name for field in dataclasses.fields(Kind) if field.init}
