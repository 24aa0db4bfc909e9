"""Which calls travel together, and that they do not share what they are given."""

import fnmatch
import functools
import inspect
import pickle
import sys
import types
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import cloudpickle
import pytest

from swiftpy.core.task import Kind
from swiftpy.errors import TaskError
from swiftpy.flow import program
from swiftpy.flow.calls import CANCELLED_CALL, Deferred, because_of, needs, pack_calls, pack_one, unpack_values
from swiftpy.flow.functions import Functions
from swiftpy.flow.future import Future
from swiftpy.flow.gathering import Gathering
from swiftpy.flow.nested import NestedEngine
from swiftpy.flow.tasks import map as flow_map
from swiftpy.flow.tasks import task
from swiftpy.runtime.call import PREVIOUS, Run
from swiftpy.runtime.exceptions import describe
from swiftpy.runtime.executors import InlineExecutor


def grow(values, value):
    values.append(value)
    return len(values)


def add(a, b=0):
    return a + b


def shown(value):
    return repr(value)


def made(function, calls):
    answer = Run(f"{__name__}:{function.__name__}", pack_calls(None, calls, None, hold=None)).make()
    return pickle.loads(answer.value), [index for index, _ in answer.failures]


class Pair(NamedTuple):
    left: object
    right: object


def good(value):
    future = Future()
    future.settle(value, None)
    return future


class Unloadable:
    def __reduce__(self):
        return int, ("not a number",)


@dataclass(slots=True)
class Node:
    value: Any
    parent: Any = None
    unset: Any = field(init=False)


class PicklingExitsError(Exception):
    def __reduce__(self):
        sys.exit(3)


class UnpicklingExitsError(Exception):
    def __reduce__(self):
        return sys.exit, (3,)


def throw(kind):
    raise {"pickled": PicklingExitsError, "unpickled": UnpicklingExitsError}[kind]


def give(kind):
    return {"pickled": PicklingExitsError, "unpickled": UnpicklingExitsError}[kind]()


@pytest.mark.parametrize("given", [lambda: [], lambda: good([])], ids=["value", "future"])
def test_a_task_that_changes_its_argument_does_not_change_that_of_the_next(given):
    shared = given()
    calls = [Deferred((shared, i), {}) if isinstance(shared, Future) else (shared, i) for i in range(3)]
    assert made(grow, calls) == ([1, 1, 1], [])


def test_arguments_of_all_forms_in_one_message():
    calls = [(1, 2), Deferred((good(3), 4), {}), Deferred((5,), {"b": good(6)}), (7.5,), ([1], [2])]
    assert made(add, calls) == ([3, 7, 11, 7.5, [1, 2]], [])


def test_an_argument_that_cannot_be_unpickled_is_that_of_one_call():
    assert made(add, [(1,), (Unloadable(),), (2,)]) == ([1, None, 2], [1])


@pytest.mark.parametrize(
    "hold",
    [
        lambda future: {future: 1},
        lambda future: {Pair(1, future): 1},
        lambda future: Pair(1, [future]),
        lambda future: deque([future]),
        lambda future: OrderedDict(a=future),
        lambda future: defaultdict(list, a=frozenset([future])),
    ],
    ids=["key", "in key", "named tuple", "deque", "ordered", "default"],
)
def test_futures_are_found_in_whatever_is_like_a_list_or_a_dict(hold):
    future = Future()
    assert needs((hold(future),), {}) == [future]


def test_futures_are_found_in_what_knows_what_it_is_in():
    future, ring = Future(), []
    root = Node([])
    root.value += [Node(future, root), ring]
    ring.append(ring)
    assert needs((root,), {}) == [future]


@pytest.mark.parametrize("future", [Future(), good(3)], ids=["pending", "done"])
def test_a_future_that_is_not_found_is_refused(future):
    """It would be taken for the result of the call before, and the task work with that."""
    hidden = SimpleNamespace(a=future)
    calls = [Deferred((good(1),), {}), (hidden,), Deferred(([good(2), hidden],), {})]
    assert made(shown, calls) == (["1", None, None], [1, 2])


def test_what_goes_on_with_the_call_before():
    """In one message: what is pickled with the others, and what is opened when its turn has come."""
    calls = [(1, 2), (PREVIOUS, 3), Deferred((Future(), 4), {}), Deferred((Future(),), {"b": 5}), (5, PREVIOUS)]
    answer = Run(f"{__name__}:add", pack_calls(None, calls, None, hold=None), chained=True).make()
    assert (pickle.loads(answer.value), answer.failures) == ([3, 6, 10, 15, 20], ())


def test_chains_grow_side_by_side():
    step, other = Kind("step"), Kind("other")
    gathering, function = Gathering(), Functions().find(add)

    def submit(kind, *args):
        future = Future()
        future.engine = "an engine"
        gathering.add(future, kind, function, args, {})
        return future

    roots = [submit(step, i) for i in range(2)]
    left, right = (submit(step, root) for root in roots)
    for _ in range(2):
        left, right = submit(step, left), submit(step, right)
    submit(other, right)
    middle, right = right, submit(step, right)
    submit(step, middle)  # the chain has gone on without it
    runs, _, _ = gathering.take()
    assert [(run.first, len(run.calls), run.variant.chained) for run in runs] == [
        (0, 2, False),
        (2, 3, True),
        (5, 4, True),
        (9, 1, False),
        (10, 1, False),
    ]
    assert [[future.id for future in run.needed] for run in runs] == [[], [0], [1], [7], [7]]
    assert [future.id for future in gathering.futures.values()] == list(range(11))
    again = submit(step, right)
    (run,), _, _ = gathering.take()
    assert run.needed == [right] and again.id == 11


def test_a_future_that_gets_its_value_just_when_it_is_met_is_not_waited_for(monkeypatch):
    gathering, by_hand, call, done = Gathering(), Future(), Future(), Future.done

    def set_by_another_thread_meanwhile(future):
        was = done(future)
        future.settle(1, None)
        return was

    call.engine = SimpleNamespace(given=gathering.give)
    gathering.add(call, Kind("f"), Functions().find(add), (by_hand,), {})
    monkeypatch.setattr(Future, "done", set_by_another_thread_meanwhile)
    (run,), given, _ = gathering.take()
    assert not run.needed and given == [by_hand.id]


@pytest.mark.parametrize("when", ["pickled", "unpickled"])
def test_what_exits_where_it_is_pickled_ends_its_call_and_no_process(when):
    """A SystemExit that left the worker's loop would be no crash: the other ranks would wait for ever."""
    answer = Run(f"{__name__}:throw", pack_calls(None, [(when,)], None, None)).make()
    assert "ExitsError" in answer.failures[0][1].message
    answer = Run(f"{__name__}:give", pack_calls(None, [(when,)], None, None)).make()
    error = answer.failures[0][1] if answer.failures else unpack_values(answer.value)
    assert "exit(3)" in error.message
    assert made(shown, [(give(when),)]) == ([None], [0])


class MuteError(Exception):
    """Its attributes cannot be asked for, which traceback does; nor can it be printed."""

    def __getattr__(self, name):
        raise KeyError(name)

    def __repr__(self):
        raise MuteError


def fail(exception):
    raise exception


@pytest.mark.parametrize("exception", [MuteError(), SystemExit(MuteError())], ids=["raised", "as an exit code"])
def test_an_exception_of_which_nothing_can_be_said_is_that_of_its_call(exception):
    assert made(fail, [(exception,), (ValueError(),)])[1] == [0, 1]
    assert type(exception).__name__ in describe(exception).message


def test_a_message_of_pages_is_cut_in_its_middle():
    """It was a line of 100 kB at the end of a job, and in its journal, for each RUN."""
    error = describe(ValueError("begins" + "x" * 100_000 + "ends"))
    assert error.message.startswith("ValueError: begins") and error.message.endswith("ends")
    assert len(error.message) < 1100 and "x" * 100_000 in error.traceback
    assert describe(ValueError("x" * 900)).message == "ValueError: " + "x" * 900
    assert describe(error).message == error.message, "of a task of its own: it told of 29 characters"


@pytest.mark.parametrize("exception", [MuteError(), ValueError()], ids=["mute", "any"])
def test_a_traceback_begins_in_the_task(exception):
    ((_, error),) = Run(f"{__name__}:fail", pack_calls(None, [(exception,)], None, None)).make().failures
    assert error.traceback.count("File") == 1 and "in fail\n" in error.traceback


def test_a_call_that_was_cancelled_is_no_failure():
    """`run` would end the program for one, see `Failures`."""
    answer = Run(f"{__name__}:add", pack_calls(None, [CANCELLED_CALL, (1, 2)], None, None)).make()
    assert [(index, error.kind) for index, error in answer.failures] == [(0, "cancelled")]


@pytest.mark.parametrize("error", [TaskError("exit", "code 3", "a\ntraceback"), ValueError("mine"), None])
def test_who_fails_because_of_another_says_so_in_one_line(error):
    culprit = Future()
    culprit.cancel() if error is None else culprit.settle(None, error)
    message = because_of(culprit).message
    assert "\n" not in message and (str(error).split("\n")[0] if error else "it was cancelled") in message


def test_a_failure_that_is_passed_up_a_recursion_stays_one_line():
    error = TaskError("exception", "ValueError: three", "its traceback", "host", 3)
    for _ in range(9):
        error = describe(error)
    assert error.message == "ValueError: three" and "its traceback" in error.traceback
    assert describe(TaskError("timeout", "5 s")).message == "timeout: 5 s"


def test_what_needs_a_cancelled_call_of_a_task_is_cancelled_too():
    """In any order; and what was cancelled is forgotten."""
    sent = []
    data = SimpleNamespace(held={})
    engine = NestedEngine(SimpleNamespace(rank=1, depth=0, send=sent.append, data=data))

    def submit(*args):
        return engine.submit(Kind("add"), Functions().find(add), args, {})

    first = submit(1)
    second = submit(first)
    before = submit(second)
    assert second.cancel()
    after = submit(second)
    assert before.error().kind == after.error().kind == "cancelled"
    first.settle(1, None)
    first.tell()
    assert len(sent) == 1 and list(engine._futures) == [first.id]


class Model:
    def __init__(self, factor):
        self.factor = factor

    @task
    def scale(self, x):
        """The product."""
        return self.factor * x

    @task(priority=1)
    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    @task
    def name(cls, suffix):
        return cls.__name__ + suffix


def test_a_task_in_a_class_is_a_method(monkeypatch):
    engine = SimpleNamespace(functions=Functions(), submit=lambda kind, function, args, kwargs: args)
    monkeypatch.setattr(program, "_engine", engine)
    model = Model(3)
    assert model.scale(2) == Model.scale(model, 2) == (model, 2)
    assert model.double(2) == Model.double(2) == (2,)
    assert model.name("!") == Model.name("!") == (Model, "!")
    assert model.scale.options(priority=1)(2) == (model, 2) and model.scale.options(priority=1).described(engine)


def test_a_bound_task_is_what_a_bound_method_is(monkeypatch):
    """To `map` as well: its calls are the workers' own, and not those of a task there that submits another."""
    whole = []
    engine = SimpleNamespace(
        functions=Functions(),
        submit_all=lambda kind, function, calls, column: whole.append((kind.priority, function.name, column)) or calls,
        submit=lambda kind, function, args, kwargs: good(args),
    )
    monkeypatch.setattr(program, "_engine", engine)
    model, other, late = Model(3), Model(3), good(5)
    assert list(flow_map(model.scale, [1, 2])) == [(model, 1), (model, 2)]
    assert list(flow_map(model.scale.options(priority=7), [1], [2])) == [(model, 1, 2)]
    assert list(flow_map(model.double, [1, 2])) == [1, 2]
    assert [priority for priority, _, _ in whole] == [0, 7, 1]
    assert whole[0][1:] == whole[1][1:] and whole[2][2]
    assert list(flow_map(model.scale, [late])) == [(model, late)] and len(whole) == 3
    assert model.scale == model.scale != other.scale and len({model.scale, model.scale, other.scale}) == 2
    assert model.scale.function(2) == 6
    plain = types.MethodType(Model.scale.function, model)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(model.scale, name) == getattr(plain, name)
    assert inspect.signature(model.scale) == inspect.signature(plain)
    again = pickle.loads(pickle.dumps(model.scale))
    assert again.__self__.factor == 3 and again.__func__ is Model.scale
    changed = pickle.loads(cloudpickle.dumps(model.scale.options(priority=7)))
    assert changed.__self__.factor == 3 and changed.described(engine)[0].priority == 7


def test_an_object_as_a_task_keeps_its_attributes_to_itself():
    class Called:
        options = "its own"

        def __call__(self):
            return self.options

    called = Called()
    called.options = "also its own"
    assert task(called).options(priority=1).function is called


class Communicator:
    there = True

    def __bool__(self):
        return self.there

    def Free(self):  # noqa: N802
        assert self.there, "it is MPI_COMM_NULL"
        self.there = False


@pytest.mark.parametrize("name", ["Free", "__bool__"])
def test_a_parallel_task_may_free_its_communicator(name):
    communicator = Communicator()
    run = Run(f"{__name__}:Communicator.{name}", pack_calls(None, [()], None, None))
    outcome = InlineExecutor("host", 1, lambda gang: communicator).make(run, None, (1, 2))
    assert outcome.error is None and not communicator.there


def test_cached_functions_and_properties_of_the_script_go_by_value(monkeypatch):
    """Workers do not have them under their names; those of modules they do."""
    script = types.ModuleType("__main__")
    exec(
        "import functools\n"
        "@functools.cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "class Table:\n    @functools.cached_property\n    def size(self): return fib(40)\n"
        "def of_both(table): return fib(50), table.size\n",
        script.__dict__,
    )
    monkeypatch.setitem(sys.modules, "__main__", script)
    definition = Functions().find(script.of_both).definition
    arguments = pack_one((script.Table(),), {})
    library = cloudpickle.dumps(functools.lru_cache(add)), cloudpickle.dumps(fnmatch._compile_pattern)
    monkeypatch.undo()
    (table,), _ = pickle.loads(arguments)
    assert pickle.loads(definition)(table) == (12586269025, 102334155) and "size" in vars(table)
    assert pickle.loads(library[0]).__wrapped__ is add and pickle.loads(library[1]) is fnmatch._compile_pattern
