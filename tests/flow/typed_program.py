"""What a type checker must find in programs, and what it must let pass. `mypy` reads this; nobody runs it."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import assert_type

import swiftpy

A = TypeVar("A")


@swiftpy.task
def square(x: int) -> int:
    return x * x


@swiftpy.task(priority=1.5, timeout=3, retries=2, label="mean")
def mean(values: Sequence[float], scale: float = 1.0) -> float:
    return sum(values) / len(values) * scale


@swiftpy.task
def first(values: Sequence[A]) -> A:
    return values[0]


@swiftpy.task
def words(path: Path) -> list[str]:
    return path.read_text().split()


@swiftpy.task(ranks=2)
def together(comm: Any, n: int) -> float:
    return float(comm.size * n)


@swiftpy.task
def alone(comm: Any, n: int) -> float:
    return float(n)


@dataclass
class Box:
    size: int

    @swiftpy.task
    def grown(self, factor: int = 2) -> "Box":
        return Box(self.size * factor)


@swiftpy.resource
def table() -> dict[str, int]:
    return {"a": 1}


memo = swiftpy.memo("memo")


@memo
@swiftpy.task(priority=1)
def kept(x: int) -> str:
    return str(x)


@memo
def kept_function(x: int) -> str:
    return str(x)


def power(x: float, n: int = 3) -> float:
    return float(x**n)


def tasks() -> None:
    future = square(3)
    assert_type(future.result(), int)
    assert_type(square(x=future).result(), int)
    assert_type(square.options(priority=3)(4).result(), int)
    assert_type(square.function(3), int)
    assert_type(first(["a"]).result(), str)
    assert_type(mean([square(i) for i in range(3)], scale=mean([1])).result(), float)
    assert_type(mean([square(3)] * 2).result(), float)
    assert_type(together(4).result(), float)
    assert_type(alone.options(ranks=3)(4).result(), float)
    assert_type(table(), dict[str, int])
    assert_type(kept(1).result(), str)
    assert_type(kept.options(priority=2)(kept_function(3)).result(), str)
    square("3")  # type: ignore[arg-type]
    square()  # type: ignore[call-arg]
    square(1, 2)  # type: ignore[call-arg]
    mean([1.0], scal=2)  # type: ignore[call-arg]
    together(4, 4)  # type: ignore[call-arg]
    kept("1")  # type: ignore[arg-type]
    square.options(prio=3)  # type: ignore[call-overload]
    swiftpy.task(prio=3)  # type: ignore[call-overload]
    swiftpy.gathr([future])  # type: ignore[attr-defined]


def methods(box: Box) -> None:
    assert_type(box.grown(3).result().grown.options(priority=2)().result(), Box)
    assert_type(Box.grown(box, 3).result(), Box)
    assert_type(list(swiftpy.map(box.grown, [1, 2])), list[Box])
    box.grown("a")  # type: ignore[arg-type]


def futures(given: swiftpy.Future[bool], any_: swiftpy.Future) -> swiftpy.Future[float]:
    assert_type(swiftpy.gather([square(1), given]), list[int])
    assert_type([future.result() for future in swiftpy.as_completed([square(1)])], list[int])
    assert_type(list(swiftpy.map(square, [1, 2])), list[int])
    assert_type(list(swiftpy.map(power, [1, 2], [3, 4])), list[float])
    several = [square(1), mean([1.0]), any_]
    swiftpy.wait(several, timeout=3)
    by_hand: swiftpy.Future[int] = swiftpy.Future()
    by_hand.set(3)
    by_hand.set("x")  # type: ignore[arg-type]
    told: Callable[[swiftpy.Future[int]], None] = print
    by_hand.add_done_callback(told)
    return mean([given, by_hand])


def commands() -> None:
    output = swiftpy.Output("o.txt", prefix="--out=")
    made = swiftpy.app(["cp", "a", output], priority=2, timeout=3)
    assert_type(words(output).result(), list[str])
    words(made)
    swiftpy.app(["cp"], prio=2)  # type: ignore[call-arg]
    swiftpy.app(["cp"], ranks=2)  # type: ignore[call-arg]


async def coroutine(n: int) -> float:
    assert_type(await square(n), int)
    one, other = await asyncio.gather(square(3), mean([1.0]))
    return one + other


def programs() -> None:
    assert_type(swiftpy.run(coroutine, 3), float)
    assert_type(swiftpy.run(power, 3.0, 2, on_error="continue"), float)
    swiftpy.run(coroutine, "3")  # type: ignore[arg-type]
    with swiftpy.Executor(max_workers=2, initializer=print, initargs=("ready",)) as executor:
        future = executor.submit(power, 2, n=4)
        assert_type(future.result(), float)
        assert_type(executor.submit(power, future).result(), float)
        assert_type(executor.submit(power, 2.0, executor.submit(len, "a")).result(), float)
        number = {executor.submit(len, text): text for text in "ab"}
        print(*[number[done] for done in concurrent.futures.as_completed(number)])
        assert_type(list(executor.map(power, [1.0, 2.0], chunksize=3)), list[float])
        executor.submit(power, "2")  # type: ignore[call-overload]
