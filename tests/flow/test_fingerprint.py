import copy
import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftpy.flow.fingerprint import key_of_call, of_function
from swiftpy.flow.future import Future

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=200) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def key(*args, **kwargs):
    return key_of_call(b"f", args, kwargs)


def kinds(value):
    """What `==` does not tell apart: 1, 1.0 and True, 0.0 and -0.0."""
    if isinstance(value, list | tuple):
        return [type(value), *map(kinds, value)]
    if isinstance(value, dict):
        return {name: kinds(element) for name, element in value.items()}
    return repr(value)


@given(VALUES, VALUES)
def test_keys_are_equal_exactly_for_equal_arguments(a, b):
    assert key(a, b) == key(*copy.deepcopy((a, b)))
    assert (key(a) == key(b)) == (kinds(a) == kinds(b))


@dataclass
class Point:
    x: int
    y: object


def test_what_counts_is_the_value():
    done = Future()
    done.settle([1, 2], None)
    text = "".join(["sha", "red"])
    assert key(text, text) == key("shared", "sha" + "red")
    assert key(done, x=done) == key([1, 2], x=[1, 2])
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key(Point(1, Path("a"))) == key(Point(1, Path("a"))) != key(Point(1, Path("b")))
    assert key(np.arange(6.0)) == key(np.arange(6.0)) != key(np.arange(6))
    assert key(np.arange(6)) != key(np.arange(6).reshape(2, 3))
    assert key(itertools) == key(itertools) != key(copy), "modules go by their names"
    assert key(re.compile("a")) == key(re.compile("a")) != key(re.compile("b")), "how is known to copyreg alone"
    assert key(np.add) == key(np.add) != key(np.multiply)
    assert key(True) != key(False) and key("a", "b") != key("asb")
    assert len({key(kind(100 * letter)) for kind in (str, str.encode) for letter in "xy"}) == 4, "long ones as well"
    assert key(1, 2) != key((1, 2)) and key(x=1) != key(y=1) and key(1) != key(x=1)
    own = []
    own.append(own)
    assert key(own) == key(own)
    with pytest.raises(TypeError):
        key(x for x in text)


SCRIPT = """
import functools, re, threading
from dataclasses import dataclass
import numpy as np
import beside, package.inner
from beside import imported
from math import exp as activation
from swiftpy.flow.fingerprint import key_of_call, of_function
LIMIT = 3
SIZES = {"layers": [(10, 20)]}
@functools.cache
def cached(x):
    return x - 1 + cached.__wrapped__.shift
cached.__wrapped__.shift = 9
class Meta(type):
    def __call__(cls, *args):
        return super().__call__(*args[:8])
@dataclass(frozen=True)
class Settings:
    rate: float
    decay: float = 0.125
SETTINGS = {"best": [Settings(0.5)]}
WEIGHTS = np.array([1.0, 2.5])
UNSENT = [threading.Lock(), 10]
OFFSET = 1000
NAME = re.compile("abc")
class Base(metaclass=Meta):
    WIDTH = 64
    LOCK = threading.Lock()
    def inherited(self):
        return 41
class Net(Base):
    def run(self, x):
        return x ^ OFFSET
    @staticmethod
    def static():
        return 42
    @classmethod
    def of_class(cls):
        return 43
    @property
    def read(self):
        return 44
    @functools.cached_property
    def read_once(self):
        return 45
def silent(x, log=UNSENT):
    return x // 5
def helper(x):
    beside.direct(SETTINGS), package.inner.deep(WEIGHTS), imported(UNSENT), activation(silent(0)), NAME
    return cached(x + 1) + Net().run(SIZES["layers"][0])
def model(x, *, names={"a", "b", "c", "d"}):
    inner = lambda y: y * LIMIT  # a comment
    return helper(inner(x))
print(key_of_call(of_function(model), ({"x", "y", "z", "w"},), {}).hex())
"""


BESIDE = """
FACTOR = 7
OTHER = 1
def imported(x): return x % FACTOR
def direct(x): return Table.of(x) | 1
def other(x): return OTHER
class Table:
    @staticmethod
    def of(x): return x & 3
"""


#: Runs the script in each of the directories as if by itself, with the modules beside it; numpy is imported once.
EACH = """
import runpy, sys
for directory in sys.argv[1:]:
    sys.path[0] = directory
    for name in ("beside", "package", "package.inner"):
        sys.modules.pop(name, None)
    runpy.run_path(directory + "/script.py", run_name="__main__")
"""


def keys_of_changed(directory, changes, seed):
    """What the script prints after each of the changes."""
    for number, change in enumerate(changes):
        package = directory / str(number) / "package"  # without __init__.py
        package.mkdir(parents=True, exist_ok=True)
        for name, text in (("../script", SCRIPT), ("../beside", BESIDE), ("inner", "def deep(x): return x @ x")):
            (package / f"{name}.py").write_text(text.replace(*change))
    command = [sys.executable, "-B", "-c", EACH, *(str(directory / str(number)) for number in range(len(changes)))]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_functions_differ_by_what_they_compute_and_not_from_run_to_run(tmp_path):
    same = [("nothing", ""), ("# a comment", "# another"), ("\nLIMIT", "\n\nUNUSED = 5\n\nLIMIT")]
    same += [("OTHER = 1", "OTHER = 2"), ("Lock(), 10", "Lock(), 20")]
    changes = [("LIMIT = 3", "LIMIT = 4"), ("x + 1", "x + 2"), ('"b"', '"B"'), ("y * ", "y + "), ("model", "MODEL")]
    changes += [("20)]", "30)]"), ("x - 1", "x - 2"), ("x ^ OFFSET", "x ^ 2"), ("OFFSET = 1000", "OFFSET = 2000")]
    changes += [("(0.5)", "(0.25)"), ("0.125", "0.0625"), ("2.5]", "3.5]"), ("WIDTH = 64", "WIDTH = 32")]
    changes += [("exp as", "sqrt as"), ("FACTOR = 7", "FACTOR = 8"), ("% FACTOR", "* FACTOR"), ("| 1", "| 2")]
    changes += [("x & 3", "x & 7"), ("x @ x", "x + x"), ("x // 5", "x // 6"), ("abc", "xyz")]
    changes += [(f"return 4{n}", "return 0") for n in range(1, 6)]
    changes += [("shift = 9", "shift = 8"), ("args[:8]", "args[:7]")]
    keys = keys_of_changed(tmp_path, [*same, *changes], "0")
    assert {*keys[: len(same)], *keys_of_changed(tmp_path, same[:1], "7")} == {keys[0]}
    alike = [change for change, key in zip(changes, keys[len(same) :], strict=True) if key in keys[: len(same)]]
    assert not alike and len(set(keys)) == 1 + len(changes)


LIMIT = 3


class Settings:
    rate = 0.1
    layers = (64, 64)
    out = sys.stdout

    def limit(self, out=sys.stdout):
        return LIMIT


def test_what_the_class_of_an_argument_has_counts_too(monkeypatch):
    """`train(Settings)` and `train(Settings())` gave the results of another rate."""
    for argument in (Settings, Settings(), [Settings()]):
        keys = [key(argument)]
        with monkeypatch.context() as patch:
            patch.setattr(Settings, "rate", 0.2)
            keys.append(key(argument))
            patch.setattr(Settings, "layers", (64, 32))
            keys.append(key(argument))
            patch.setitem(globals(), "LIMIT", 4)  # which a method names
            keys.append(key(argument))
        assert len(set(keys)) == 4 and key(argument) == keys[0]


def test_an_argument_that_has_closed_over_what_cannot_be_compared_is_refused():
    with pytest.raises(TypeError):
        key(lambda out=sys.stdout: out)


def test_objects_that_all_know_each_other_are_gone_through_once():
    """The ways through a grid of 8 by 8 nodes are more than anybody could go."""

    def grid(value):
        nodes = [[SimpleNamespace(near=[], value=0) for _ in range(8)] for _ in range(8)]
        for row, column in itertools.product(range(8), repeat=2):
            for other_row, other in ((row - 1, column), (row, column - 1)):
                nodes[row][column].near.append(nodes[other_row][other])
                nodes[other_row][other].near.append(nodes[row][column])
        nodes[7][7].value = value
        return nodes[0][0]

    assert key(grid(1)) == key(grid(1)) != key(grid(2))


def test_closures_count():
    def scaled(by):
        return lambda x: x * by

    assert of_function(scaled(2)) == of_function(scaled(2)) != of_function(scaled(3))


def test_helpers_that_all_name_each_other_are_gone_through_once(tmp_path):
    """In every order, fifteen of them would take years."""
    names = [f"f{i}" for i in range(15)]
    script = tmp_path / "script.py"

    def run(text):
        script.write_text(text)
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60).stdout

    text = "from swiftpy.flow.fingerprint import of_function\nOWN = []\nOWN.append(OWN)\n"
    text += "".join(f"def {name}(x): return x or [OWN, {', '.join(names)}]\n" for name in names)
    text += "print(of_function(f0).hex())\n"
    assert run(text) == run(text) != run(text.replace("def f14(x): return x or", "def f14(x): return x and"))
