"""What users do with an executor, in a job (`python -m swiftpy use.py`) and without (`python use.py`), with checks."""

import concurrent.futures
import functools
import operator
import os
import sys
import threading
import time
from pathlib import Path

import beside

import swiftpy

LARGE = 3_000_000


class MyError(Exception):
    """Not even picklable as it is: it wants two arguments."""

    def __init__(self, what, code):
        super().__init__(f"{what} {code}")
        self.what, self.code = what, code

    def __reduce__(self):
        return MyError, (self.what, self.code)


class PlainError(Exception):
    """As people write them: pickle would call it with the text alone."""

    def __init__(self, code, what):
        super().__init__(f"{what} {code}")
        self.code = code


class AbsentError(OSError):
    def __init__(self, path, *, tries):
        super().__init__(2, "not there", path)
        self.tries = tries


class Counter:
    def __init__(self, start=0):
        self.count = start

    def __call__(self, by=1):
        self.count += by
        return self.count

    def at(self):
        return self.count


class Stubborn:
    """Arrives nowhere."""

    def __init__(self, sending):
        self.sending = sending

    def __reduce__(self):
        if self.sending:
            raise TypeError("it stays")
        return operator.truediv, (1, 0)


def boom(what):
    raise MyError(what, 7)


def refuse(error, *args, **kwargs):
    raise error(*args, **kwargs)


def square(x):
    return x * x


def inside(n):
    with swiftpy.Executor() as executor:
        return sum(executor.map(square, range(n))) + executor.submit(lambda: n).result()


def callables(executor):
    scale = 3
    counter = Counter(5)
    twice = [executor.submit(counter), executor.submit(counter)]
    assert [future.result() for future in twice] == [6, 6] and counter.count == 5  # each call gets a copy
    counter.count = 10
    assert executor.submit(counter.at).result() == 10
    assert executor.submit(counter, by=2).result() == 12
    assert executor.submit(lambda x: x * scale, 2).result() == 6
    assert [f.result() for f in [executor.submit(lambda: i) for i in range(3)]] == [0, 1, 2]
    assert executor.submit(functools.partial(pow, 2), 5).result() == 32
    assert executor.submit(dict, a=1).result() == {"a": 1}
    assert isinstance(executor.submit(Counter, 4).result(), Counter)  # this script's class, not a copy of it
    assert executor.submit(beside.double, 4).result() == 8
    assert executor.submit(len, bytes(LARGE)).result() == LARGE
    assert executor.submit(inside, 4).result() == 18


def failures(executor):
    try:
        executor.submit(boom, "bang").result()
    except MyError as error:
        assert (error.what, error.code) == ("bang", 7)
        assert isinstance(error.__cause__, swiftpy.TaskError) and "raise MyError(what, 7)" in str(error.__cause__)
    plain = executor.submit(refuse, PlainError, 4, "bang").exception()
    assert (type(plain), plain.args, str(plain), plain.code) == (PlainError, ("bang 4",), "bang 4", 4)
    assert isinstance(plain.__cause__, swiftpy.TaskError)
    absent = executor.submit(refuse, AbsentError, "a.txt", tries=3).exception()
    assert (type(absent), absent.errno, absent.filename, absent.tries) == (AbsentError, 2, "a.txt", 3)
    beyond = executor.submit(refuse, beside.BeyondError, limit=3).exception()
    assert (type(beyond), str(beyond), beyond.limit) == (beside.BeyondError, "beyond 3", 3)
    assert isinstance(executor.submit(sys.exit, 3).exception(), SystemExit)
    assert isinstance(executor.submit(operator.truediv, 1, 0).exception(), ZeroDivisionError)
    assert "it stays" in str(executor.submit(Stubborn, True).exception())
    assert "it stays" in str(executor.submit(square, Stubborn(True)).exception())
    assert executor.submit(Stubborn, False).exception() is not None
    assert isinstance(executor.submit(square, Stubborn(False)).exception(), ZeroDivisionError)
    assert executor.submit(square, 3).result() == 9


def hold(name):
    """Until there is a file of this name, in the job's directory and the program's."""
    while not Path(name).exists():
        time.sleep(0.01)


def mapping(executor):
    assert list(executor.map(square, range(10))) == [x * x for x in range(10)]
    assert list(executor.map(lambda x, y: x + y, range(1000), range(1000, 0, -1), chunksize=7)) == [1000] * 1000
    assert list(executor.map(square, [], chunksize=3)) == []
    for wrong in (0, -1):
        try:
            executor.map(square, [1], chunksize=wrong)
        except ValueError:
            continue
        raise AssertionError("no ValueError")
    assert list(executor.map(square, [1, 2], timeout=120)) == [1, 4]
    results = executor.map(hold, ["timed out"], timeout=0.3)
    try:
        next(results)
    except concurrent.futures.TimeoutError:
        Path("timed out").touch()
    else:
        raise AssertionError("no TimeoutError")


def waiting(executor):
    numbers = [executor.submit(square, number) for number in range(20_000)]
    assert sum(future.result() for future in numbers) == sum(x * x for x in range(20_000))
    done, rest = concurrent.futures.wait([executor.submit(square, i) for i in range(50)], timeout=120)
    assert len(done) == 50 and not rest
    assert (
        sum(f.result() for f in concurrent.futures.as_completed(executor.submit(square, i) for i in range(50))) == 40425
    )

    chained, ended = [], threading.Event()

    def again(future):
        """A callback may submit, and even wait."""
        chained.append(future.result() + executor.submit(square, 2).result())
        if len(chained) == 5:
            ended.set()
        else:
            executor.submit(square, len(chained)).add_done_callback(again)

    executor.submit(square, 0).add_done_callback(again)
    assert ended.wait(120) and chained == [4, 5, 8, 13, 20], chained

    slow = executor.submit(hold, "all are heard")
    thread = threading.Thread(target=slow.result)
    thread.start()
    assert all(executor.submit(square, i).result() == i * i for i in range(150))
    Path("all are heard").touch()  # a thread that waits does not keep another from hearing
    slow.result()

    sums = []
    threads = [threading.Thread(target=lambda: sums.append(sum(executor.map(square, range(300))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sums == [sum(x * x for x in range(300))] * 4


def inverse(name, x):
    hold(name)
    return 1 / x


def with_futures_of_others(executor, other):
    """With a job for each, such calls were never made, or without the value where its number was known."""
    half, failed, tenth = (other.submit(inverse, f"{x} is wanted", x) for x in (2, 0, 10))
    quarter = executor.submit(pow, half, 2)
    largest = executor.submit(max, quarter, half, tenth)
    hopeless = executor.submit(abs, failed)
    for x in (2, 0, 10):
        Path(f"{x} is wanted").touch()
    assert (largest.result(120), quarter.result(120)) == (0.5, 0.25)
    why = str(hopeless.exception(120))
    assert "needs the result" in why and "ZeroDivision" in why and "set by hand" not in why
    by_hand = swiftpy.Future()
    both = [each.submit(square, by_hand) for each in (executor, other)]
    by_hand.set(3)
    assert [future.result(120) for future in both] == [9, 9]


def main():
    with (
        swiftpy.Executor(max_workers=3) as executor,
        swiftpy.Executor(2, initializer=beside.remember, initargs=("x",)) as other,
    ):
        remembered = other.submit(beside.remembered)
        callables(executor)
        failures(executor)
        mapping(executor)
        waiting(executor)
        with_futures_of_others(executor, other)
        large = executor.submit(bytes, LARGE)
        assert remembered.result() == ["x"]
        late = [executor.submit(time.sleep, 0.2) for _ in range(5)]
        late.append(other.submit(repr, late[-1]))
    assert all(future.done() for future in late) and len(large.result()) == LARGE
    try:
        executor.submit(square, 1)
    except RuntimeError as error:
        assert "after shutdown" in str(error)
    else:
        raise AssertionError("no RuntimeError")
    print("all is well", os.getpid())


if __name__ == "__main__":
    main()
