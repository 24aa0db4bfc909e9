"""What the server's messages cost in MPI: CPU time of rank 0 for one task's two, an event in and an order out.

    mpiexec -n 3 python benchmarks/messages.py

Each worker has 64 tasks in flight, so that rank 0 is never without: it is what a server that is the bottleneck pays.
Its scheduler costs extra: `python -m swiftpy.sim`, and docs/simulator.md for both together.
"""

import json
import time

from environment import environment
from swiftpy.core.events import TaskFinished
from swiftpy.runtime.call import pack
from swiftpy.runtime.mpi import World
from swiftpy.runtime.order import Order
from swiftpy.runtime.transport import SERVER

COUNT = 20000
FLYING = 64


def main():
    world = World()
    transport = world.transport
    world.gather(None)
    if world.rank != SERVER:
        for number in range(COUNT + FLYING):
            if number >= FLYING:
                while transport.recv(1.0) is None:
                    pass
            if number < COUNT:
                transport.send(SERVER, TaskFinished(world.rank, number, 1, b"x" * 20, 0.1))
        world.broadcast(None)
        return
    payload, tasks = pack(1, 2), (world.size - 1) * COUNT
    began = time.thread_time()
    for _ in range(tasks):
        while (event := transport.recv(1.0)) is None:
            pass
        transport.send(event.worker, Order(event.task_id, 1, "package.module:name", payload))
    spent = time.thread_time() - began
    world.broadcast(None)
    print(json.dumps({"us_per_task": round(1e6 * spent / tasks, 2), "tasks": tasks, **environment("mpi4py")}))


if __name__ == "__main__":
    main()
