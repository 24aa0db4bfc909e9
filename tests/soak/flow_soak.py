"""Run random dataflow programs, and compare their results with those of the same programs without tasks.

    python tests/soak/flow_soak.py [--programs 100] [--seed 0] [--timeout 90]

A program is a list of expressions that follows from its seed: calls of calls of tasks of every sort, with futures in
containers, shared between calls, set by hand, made by tasks that submit others; with large results, failures, retries,
cancelled calls. Each is a job of 2 to 6 ranks, now and then with two servers more, and waits in one of several ways. A
line is printed for each. The exit code is 1 if any was wrong, hung, or said on stderr what it should not; all that it
said is printed then. Once more, program 17 alone:

    python tests/soak/flow_soak.py --programs 1 --seed 17
"""

import argparse
import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from flow_programs import LARGE, PRIME, Failed, Meaning, WithoutTasks, draw, mixed

import swiftpy
from swiftpy.sites.launch import find_launcher

LONGEST_END = 20.0  # seconds after SIGTERM
EXPECTED = re.compile(
    r"swiftpy: a task failed: .*(ArithmeticError: failed with \d+|: cancelled|timeout).*"
    r"|swiftpy: \d+ tasks failed, and the script did not ask for their results"
    r"|\d+ calls in .*|rank \d+ on .*"  # --summary
)

# -- the tasks ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Box:
    """A container that the engine does not know."""

    first: object
    rest: object


def flat(value):
    """The numbers in containers, in order."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, Box):
        yield from flat((value.first, value.rest))
    else:
        for element in value.values() if isinstance(value, dict) else value:
            yield from flat(element)


@swiftpy.task
def mix(*values, **named):
    return mixed(*flat((values, named)))


@swiftpy.task
def slow(seconds, value):
    time.sleep(seconds)
    return value


def filled(value):
    return np.full(LARGE, value)


spread = swiftpy.task(filled)


@swiftpy.resource
def prime():
    """What loads it may wait for tasks, which let the worker run others that need it."""
    return swiftpy.gather([slow(0.01, PRIME), slow(0.02, 0)])[0]


@swiftpy.task
def look_up(value):
    return mixed(value) % prime()


@swiftpy.task
def read(path):
    return mixed(int(path.read_text()))


@swiftpy.task
def total(array):
    array += 1  # each call has a copy of its own
    return mixed(int(array[0]) - 1, len(array))


@swiftpy.task
def fail(value):
    raise ArithmeticError(f"failed with {value}")


@swiftpy.task(retries=2)
def flaky(marker, value):
    if not marker.exists():
        marker.touch()
        raise ConnectionError("the first time")
    return value


@swiftpy.task(ranks=2)
def together(comm, value):
    return mixed(comm.allreduce(value), comm.size)


@swiftpy.task
def nested(specs, how, scratch):
    """Submit these in a task."""
    inner = WithTasks(scratch, swiftpy.task, [])
    futures = [inner.make(spec) for spec in specs]
    if how == "gather":
        return mixed(*swiftpy.gather(futures))
    if how == "a future":  # as its value
        return mix(futures)
    if how == "a call":
        return mix(futures).result()
    if how == "as completed":
        list(swiftpy.as_completed(futures))
    return mixed(*[future.result() for future in futures])


# -- what expressions mean with tasks --------------------------------------------------------------------------------


class WithTasks(Meaning):
    """Expressions become futures. `shared` are those of the program so far; `keep` makes a task of a function, and may
    keep its results."""

    def __init__(self, scratch, keep, shared):
        super().__init__()
        self.scratch, self.keep, self.shared = scratch, keep, shared

    def leaf(self, number, options):
        return mix.options(**options)(number)

    def combine(self, specs, style, options):
        futures = [self.make(spec) for spec in specs]
        call = mix.options(**options)
        if style == "arguments":
            return call(*futures)
        if style == "keywords":
            return call(**{f"k{number}": future for number, future in enumerate(futures)})
        if style == "box":
            return call(Box(futures[0], tuple(futures[1:])))
        container = {"list": list, "dict": lambda all_: dict(enumerate(all_)), "deque": collections.deque}[style]
        return call(container(futures))

    def chain(self, number, length):
        for _ in range(length):
            number = mix(number)
        return number

    def slow(self, seconds, spec):
        return slow(seconds, self.make(spec))

    def large(self, spec, readers):
        array = spread(self.make(spec))
        self.arrays.append(array)
        return mix([total(array) for _ in range(readers)])

    def old_array(self, spec):
        return total(self.arrays.pop() if self.arrays else spread(self.make(spec)))

    def fail(self, spec):
        return fail(self.make(spec))

    def flaky(self, marker, spec):
        return flaky(self.scratch / marker, self.make(spec))

    def isolated(self, spec):
        return mix.options(isolated=True)(self.make(spec))

    def with_resource(self, spec):
        return look_up(self.make(spec))

    def too_late(self, spec):
        return slow.options(timeout=0.5)(60, self.make(spec))

    def timed(self, spec):
        return mix.options(timeout=60)(self.make(spec))

    def together(self, spec):
        return together(self.make(spec))

    def by_hand(self, number, late):
        future = swiftpy.Future()
        if late:
            threading.Timer(late, future.set, [number]).start()
        else:
            future.set(number)
        return mix(future)

    def mapped(self, numbers):
        return mix(list(swiftpy.map(lambda number: mixed(number), numbers)))

    def nested(self, specs, how):
        return nested(specs, how, self.scratch)

    def again(self, index):
        return mix(self.shared[index])

    def kept(self, spec):
        return self.keep(mixed)(self.make(spec))

    def kept_array(self, spec):
        return total(self.keep(filled)(self.make(spec)))

    def command(self, name, spec):
        """One command's output is another's file."""
        copy = swiftpy.Output(self.scratch / f"{name}.copy")
        swiftpy.app(["cp", swiftpy.app(["echo", self.make(spec)], stdout=self.scratch / name), copy])
        return read(copy)

    def cancelled(self, spec):
        """A call that may or may not be made, and one that does not need it."""
        self.make(spec).cancel()
        return mix(1)

    def left(self, spec):
        """A call that nobody waits for, and one that does not need it."""
        mix(self.make(spec))
        return mix(2)


# -- how programs wait -------------------------------------------------------------------------------------------------


def outcome(future):
    try:
        return future.result()
    except swiftpy.TaskError as error:
        return error


def in_order(futures):
    return [outcome(future) for future in futures]


def backwards(futures):
    return in_order(futures[::-1])[::-1]


def as_completed(futures):
    found = {future: outcome(future) for future in swiftpy.as_completed(futures)}
    return [found[future] for future in futures]


def in_threads(futures):
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        return list(threads.map(outcome, futures))


def in_coroutines(futures):
    async def main():
        return await asyncio.gather(*futures, return_exceptions=True)

    return swiftpy.run(main, on_error="continue")


def by_looking(futures):
    while not all(future.done() for future in futures):
        time.sleep(0.01)
    return in_order(futures)


WAYS = {way.__name__: way for way in (in_order, backwards, as_completed, in_threads, in_coroutines, by_looking)}

# -- running programs --------------------------------------------------------------------------------------------------


def run_program(seed, scratch):
    """On rank 0: one program. Returns the exit code."""
    program = draw(seed)
    futures, values = [], []
    with_tasks = WithTasks(scratch, functools.cache(swiftpy.memo(scratch / "memo")), futures)
    without_tasks = WithoutTasks(values)
    for spec in program.specs:
        futures.append(with_tasks.make(spec))
        time.sleep(program.pause)
        values.append(without_tasks.value(spec))
    wrong = 0
    for spec, result, value in zip(program.specs, WAYS[program.wait](futures), values, strict=True):
        failed = isinstance(result, swiftpy.TaskError)
        if failed != isinstance(value, Failed) or (not failed and result != value):
            wrong += 1
            print(f"WRONG: {result!r} instead of {value!r}: {spec}")
    failures = sum(isinstance(value, Failed) for value in values)
    print(f"{len(futures)} expressions, {failures} fail, {wrong} wrong, awaited {program.wait}")
    return 1 if wrong else 0


def run_job(seed, timeout):
    """One program as a job: what it said last, and what was wrong with it, if anything."""
    program = draw(seed)
    with tempfile.TemporaryDirectory(prefix="soak ") as scratch:
        command = [find_launcher(), "-n", str(program.ranks), sys.executable, "-m", "swiftpy", *program.options]
        command += [__file__, "--seed", str(seed), "--scratch", scratch]
        job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            job.terminate()  # mpiexec passes it on to the ranks
            threading.Timer(LONGEST_END, job.kill).start()
            out, err = job.communicate()
            return "hung", f"what it said until it was ended:\n{out}{err}"
    unexpected = [line for line in err.splitlines() if not EXPECTED.fullmatch(line)]
    about = " ".join([str(program.ranks), "ranks", *program.options]) + ": " + "".join(out.splitlines()[-1:])
    usual = job.returncode in ((0, 3) if program.fails else (0,))  # 3: nobody asked for a call that failed
    return about, "" if usual and not unexpected else f"exit code {job.returncode}\n{out}{err}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the next has the next number")
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds after which a program hangs")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)  # as a job's script
    options = parser.parse_args()
    if options.scratch is not None:
        return run_program(options.seed, options.scratch)
    bad = 0
    for seed in range(options.seed, options.seed + options.programs):
        began = time.monotonic()
        about, problem = run_job(seed, options.timeout)
        bad += bool(problem)
        print(f"{seed}: {'BAD' if problem else 'good'}, {time.monotonic() - began:.1f} s, {about}", flush=True)
        print(problem, end="", flush=True)
    print(f"{options.programs} programs, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
