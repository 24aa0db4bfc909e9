"""What the server's messages cost in MPI, without what the engine does about them.

    mpiexec -n 3 python benchmarks/messages.py

`us_per_task` is the CPU time of rank 0 for one task's two messages, an event in and an order out. Each worker has 64
tasks in flight, so that rank 0 is never without: it is what a server that is the bottleneck pays. Its scheduler costs
extra: `python -m swiftpy.sim`, and docs/simulator.md for both together. `round_trip_us` is the median time for an order
to one worker and its answer, one after another, and `round_trip_after_idle_us` the same after 0.3 s of silence: no
task's round trip can take less, as long as its messages are these. `ping_pong_us` is the raw floor: 100 bytes to and
fro between two ranks that do nothing but wait inside of MPI, while the others sleep.
"""

import json
import statistics
import time

from environment import environment
from swiftpy.core.events import TaskFinished
from swiftpy.runtime.call import payload_of
from swiftpy.runtime.mpi import World
from swiftpy.runtime.order import Order
from swiftpy.runtime.transport import SERVER

COUNT = 20000
FLYING = 64
HOT, IDLE = 5000, 30


def receive(transport):
    while (message := transport.recv(1.0)) is None:
        pass
    return message


def keep_flying(transport):
    """A worker's part."""
    for number in range(COUNT + FLYING):
        if number >= FLYING:
            receive(transport)
        if number < COUNT:
            transport.send(SERVER, TaskFinished(transport.rank, number, 1, b"x" * 20, 0.1))


def answer(transport):
    """The first worker's part."""
    for number in range(HOT + IDLE):
        receive(transport)
        transport.send(SERVER, TaskFinished(transport.rank, number, 1, b"x" * 20, 0.1))


def round_trips(transport, count, pause):
    """Microseconds for each of so many."""
    times = []
    for number in range(count):
        time.sleep(pause)
        began = time.perf_counter()
        transport.send(1, Order(number, 1, "package.module:name", payload_of(1, 2)))
        receive(transport)
        times.append(1e6 * (time.perf_counter() - began))
    return times


def ping_pong(world):
    """Microseconds there and back, the mean of many; on the first two ranks."""
    two, message = world.communicator([0, 1]), bytearray(100)
    steps = (two.Send, two.Recv) if two.rank == 0 else (two.Recv, two.Send)
    began = time.perf_counter()
    for _ in range(HOT):
        for step in steps:
            step(message, 1 - two.rank)
    return 1e6 * (time.perf_counter() - began) / HOT


def main():
    world = World()
    transport = world.transport
    world.gather(None)
    if world.rank != SERVER:
        keep_flying(transport)
        world.broadcast(None)
        if world.rank == 1:
            answer(transport)
        world.broadcast(None)
        if world.rank == 1:
            ping_pong(world)
        world.broadcast(None)
        return
    payload, tasks = payload_of(1, 2), (world.size - 1) * COUNT
    began = time.thread_time()
    for _ in range(tasks):
        event = receive(transport)
        transport.send(event.worker, Order(event.task_id, 1, "package.module:name", payload))
    spent = time.thread_time() - began
    world.broadcast(None)
    hot = statistics.median(round_trips(transport, HOT, 0.0))
    idle = statistics.median(round_trips(transport, IDLE, 0.3))
    world.broadcast(None)
    raw = ping_pong(world)
    world.broadcast(None)
    figures = {"us_per_task": round(1e6 * spent / tasks, 2), "tasks": tasks, "ping_pong_us": round(raw, 1)}
    figures |= {"round_trip_us": round(hot, 1), "round_trip_after_idle_us": round(idle)}
    print(json.dumps(figures | environment("mpi4py")))


if __name__ == "__main__":
    main()
