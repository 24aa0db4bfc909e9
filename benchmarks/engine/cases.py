"""What is measured: each case takes a started system, and returns figures: {(name, unit): value}.

The number of tasks is raised until a measurement takes long enough, so that a system that runs 800 tasks a second and
one that runs three million are both measured in about a second.
"""

import os
import statistics
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from benchmarks.engine import tasks
from benchmarks.processes import megabytes, processor_use

#: Seconds that a measurement should take at least.
ENOUGH = 0.5
#: Seconds that a single measurement may take, as far as that can be foreseen.
TOO_LONG = 12.0
PAYLOADS = {"100 B": 100, "10 kB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}


def timed(function, *args):
    began = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - began, result


def rate(run, most=1_000_000, first=200):
    """Per second: `run(count)` with counts that grow until it takes long enough."""
    count = first
    while True:
        seconds, _ = timed(run, count)
        if seconds >= ENOUGH or count >= most:
            return count / seconds
        count = min(most, 20 * count, int(1.3 * count * ENOUGH / seconds) + 1)


def bulk(system):
    """No-op tasks with a small argument each, results in order."""
    figures, rates = {}, {}

    def run(chunk, items, count):
        chosen = items[:count]
        assert system.map(tasks.same, chosen, chunk) == chosen

    numbers = list(range(2_000_000))
    for chunk in system.chunks:
        rates[chunk] = rate(partial(run, chunk, numbers), len(numbers))
    best = max(rates, key=rates.get)
    figures["bulk, an integer each", "tasks/s"] = rates[best]
    if len(rates) > 1:
        figures["bulk, one at a time", "tasks/s"] = rates[1]
        figures["best chunk", ""] = best
    strings = [f"{number:020d}" for number in numbers[:1_000_000]]
    figures["bulk, 20 characters each", "tasks/s"] = rate(partial(run, best, strings), len(strings))
    return figures


def submit(system):
    """One future per no-op task."""
    task = system.task(tasks.same)

    def run(count):
        assert system.results([task(number) for number in range(count)])[-1] == count - 1

    return {("one future each", "tasks/s"): rate(run)}


def roundtrip(system):
    """One task on a system that has nothing else to do."""
    task = system.task(tasks.same)

    def once():
        return 1e6 * timed(lambda: system.result(task(1)))[0]

    trial = statistics.median(once() for _ in range(20))
    hot = [once() for _ in range(int(min(3000, 1e6 / trial)) + 5)]
    idle = []
    for _ in range(7):
        time.sleep(1)
        idle.append(once())
    return {
        ("round trip, hot", "us"): statistics.median(hot),
        ("round trip, hot, 99 %", "us"): sorted(hot)[int(0.99 * len(hot))],
        ("round trip after 1 s idle", "us"): statistics.median(idle),
    }


def naps(system):
    """Tasks that sleep: the part of the workers' time that is spent so."""
    figures = {}
    for seconds, each, label in ((1e-3, 1000, "1 ms"), (1e-2, 150, "10 ms"), (1.0, 2, "1 s")):
        items = [seconds] * (each * system.workers)
        chunks = [chunk for chunk in system.chunks if chunk is None or chunk == 1 or (chunk == 16 and seconds < 0.1)]
        if len(system.chunks) > 1 and seconds == 1e-3 and 16 not in chunks:
            chunks.append(8)
        used = []
        for chunk in chunks:
            spent, _ = timed(system.map, tasks.nap, items, chunk)
            used.append(100 * each * seconds / spent)
        figures[f"efficiency, {label} tasks", "%"] = max(used)
    return figures


def computing(system):
    """Tasks that sleep while the program computes and waits for nothing."""
    task, count, ended = system.task(tasks.nap), 100 * system.workers, []
    began = time.perf_counter()
    for _ in range(count):
        task(1e-2).add_done_callback(ended.append)
    while len(ended) < count:
        pass
    return {("efficiency, 10 ms tasks, program computes", "%"): 100 / (time.perf_counter() - began)}


def queue(system):
    """Tasks that wait for a worker: what one costs the submitting process in memory, and all in time."""
    figures = {}
    task, hold = system.task(tasks.same), system.task(tasks.hold)
    seconds = 0.0
    for count in (1_000, 10_000, 100_000, 1_000_000):
        if 10 * seconds > TOO_LONG:
            break
        with tempfile.TemporaryDirectory() as directory:
            gate = Path(directory) / "open"
            held = [hold(str(gate)) for _ in range(system.workers)]
            submitting, futures = timed(lambda count=count: [task(number) for number in range(count)])
            memory = megabytes()
            gate.touch()
            draining, _ = timed(system.results, held + futures)
        seconds = submitting + draining
        figures[f"queue of {count:,}: per task", "us"] = 1e6 * seconds / count
        if count >= 100_000:
            figures[f"queue of {count:,}: memory", "MB"] = memory
        del held, futures
    return figures


def flat(system):
    """Memory of the submitting process while many tasks come and go, 10,000 at a time."""
    task = system.task(tasks.same)
    memory, began = [], time.perf_counter()
    while len(memory) < 100 and time.perf_counter() - began < TOO_LONG:
        system.results([task(number) for number in range(10_000)])
        memory.append(megabytes())
    figures = {("tasks that came and went", ""): 10_000 * len(memory)}
    if len(memory) >= 10:
        figures["memory after a tenth of them", "MB"] = memory[len(memory) // 10]
        figures["memory after all", "MB"] = memory[-1]
    return figures


def payload(system):
    """Bytes as argument, and as result."""
    figures = {}
    size, make = system.task(tasks.size), system.task(tasks.make)
    for label, length in PAYLOADS.items():
        most = min(100_000, max(8, 80_000_000 // length))
        different = [bytes(length) for _ in range(most)]  # pickle sends what it has met before as a reference

        def give(count, different=different, length=length):
            assert system.results([size(data) for data in different[:count]])[-1] == length

        def take(count, length=length):
            assert len(system.results([make(length) for _ in range(count)])[-1]) == length

        figures[f"argument of {label}", "MB/s"] = rate(give, most, 8) * length / 1e6
        figures[f"result of {label}", "MB/s"] = rate(take, most, 8) * length / 1e6
    return figures


def fan(system):
    """One task that needs many results, and many tasks that need one."""
    task, second = system.task(tasks.same), system.task(tasks.second)

    def fan_in(count):
        assert system.result(system.total([task(number) for number in range(count)])) == count * (count - 1) // 2

    def fan_out(count):
        one = task(1)
        if not system.dataflow:
            one = system.result(one)
        assert system.results([second(one, number) for number in range(count)])[-1] == count - 1

    return {
        ("fan-in, up to 100,000", "tasks/s"): rate(fan_in, 100_000),
        ("fan-out, up to 100,000", "tasks/s"): rate(fan_out, 100_000),
    }


def unlike(system):
    """Calls that cannot travel as one run: of two functions in turn, and of a tree, where each needs two others."""
    first, second, add = system.task(tasks.same), system.task(tasks.increment), system.task(tasks.add)

    def in_turn(count):
        calls = [(second if number % 2 else first)(number) for number in range(count)]
        assert system.results(calls)[:2] == [0, 2]

    def tree(count):
        values = [first(number) for number in range(count // 2)]
        while len(values) > 1:
            odd = values[-1:] if len(values) % 2 else []
            if not system.dataflow:
                values = system.results(values)
            values = [add(a, b) for a, b in zip(values[::2], values[1::2], strict=False)] + odd
        assert system.result(values[0]) == sum(range(count // 2))

    return {
        ("two functions in turn", "tasks/s"): rate(in_turn, 100_000),
        ("tree of sums", "tasks/s"): rate(tree, 100_000),
    }


def chain(system):
    """Tasks of which each needs the one before."""
    task = system.task(tasks.increment)

    def waiting(count):
        value = 0
        for _ in range(count):
            value = system.result(task(value))
        assert value == count

    def ahead(count):
        value = task(0)
        for _ in range(count - 1):
            value = task(value)
        assert system.result(value) == count

    figures = {("one chain, by waiting", "hops/s"): rate(waiting)}
    if system.dataflow:
        figures["one chain, submitted ahead", "hops/s"] = rate(ahead, 50_000)
    many = _chains_ahead if system.dataflow else _chains_called_back
    figures["100 chains at once", "hops/s"] = rate(partial(many, system, task, 100), first=1000)
    return figures


def _chains_ahead(system, task, chains, count):
    values = [0] * chains
    for _ in range(count // chains):
        values = [task(value) for value in values]
    assert system.results(values) == [count // chains] * chains


def _chains_called_back(system, task, chains, count):
    """Futures cannot be arguments: the next task is submitted when the one before is done."""
    if not hasattr(task(0), "add_done_callback"):
        values = [0] * chains
        for _ in range(count // chains):
            values = system.results([task(value) for value in values])
        return
    ended = threading.Semaphore(0)

    def go_on(left, future):
        if left:
            task(future.result()).add_done_callback(partial(go_on, left - 1))
        else:
            ended.release()

    for _ in range(chains):
        task(0).add_done_callback(partial(go_on, count // chains - 1))
    for _ in range(chains):
        ended.acquire()


def commands(system):
    """External commands that do nothing."""
    command = system.command()

    def run(count):
        system.results([command(["/bin/true"]) for _ in range(count)])

    run(4 * system.workers)  # what starts them is started
    return {("external commands", "/s"): rate(run, 5_000, 100)}


def idle(system):
    """What waiting costs: one task sleeps, the program waits for it, all else has nothing to do."""
    watch = system.task(processor_use)
    used = system.result(watch(int(os.environ["BENCHMARK_ROOT"]), 3.0))
    return {
        ("idle, busiest process", "% of a core"): max(used.values()),
        ("idle, all", "% of a core"): sum(used.values()),
    }


CASES = {
    case.__name__: case
    for case in (bulk, submit, roundtrip, naps, computing, queue, flat, payload, fan, unlike, chain, commands, idle)
}
