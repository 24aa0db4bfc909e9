import copy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
    assert key(1, 2) != key((1, 2)) and key(x=1) != key(y=1) and key(1) != key(x=1)
    own = []
    own.append(own)
    assert key(own) == key(own)
    with pytest.raises(TypeError):
        key(x for x in text)


SCRIPT = """
import functools
from swiftpy.flow.fingerprint import key_of_call, of_function
LIMIT = 3
SIZES = {"layers": [(10, 20)]}
@functools.cache
def cached(x):
    return x - 1
class Base:
    def inherited(self):
        return 41
class Net(Base):
    def run(self, x):
        return x ^ 1
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
def helper(x):
    return cached(x + 1) + Net().run(SIZES["layers"][0])
def model(x, *, names={"a", "b", "c", "d"}):
    inner = lambda y: y * LIMIT  # a comment
    return helper(inner(x))
print(key_of_call(of_function(model), ({"x", "y", "z", "w"},), {}).hex())
"""


def test_functions_differ_by_what_they_compute_and_not_from_run_to_run(tmp_path):
    def run(old="", new="", seed="0"):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.replace(old, new) if old else SCRIPT)
        done = subprocess.run(
            [sys.executable, script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        return done.stdout

    first = run()
    assert run(seed="7") == run("# a comment", "# another") == run("\nLIMIT", "\n\nOTHER = 5\n\nLIMIT") == first
    changes = [("LIMIT = 3", "LIMIT = 4"), ("x + 1", "x + 2"), ('"b"', '"B"'), ("y * ", "y + "), ("model", "MODEL")]
    changes += [("20", "30"), ("x - 1", "x - 2"), ("x ^ 1", "x ^ 2")]
    changes += [(f"return 4{n}", "return 0") for n in range(1, 6)]
    assert len({first, *[run(*change) for change in changes]}) == len(changes) + 1


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
