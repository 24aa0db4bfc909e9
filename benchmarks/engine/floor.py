"""The floor: what a bare loop of messages over mpi4py does, with no scheduling, no failures and no dependencies.

Rank 0 keeps two batches with each worker; a batch is one pickled message of a function and columns of arguments,
answered by one message of results. Ranks that wait poll, yielding at first and then with sleeps of up to 1 ms: a
blocking receive of MPICH spins, and where ranks share cores it costs them milliseconds.
"""

import os
import time

from benchmarks.engine.systems import System

_TAG = 3
#: Calls in a message, where the case does not say.
_BATCH = 1000


class _Slot:
    __slots__ = ("args", "done", "function", "value")

    def __init__(self, function, args):
        self.function, self.args, self.done = function, args, False


class Floor(System):
    package = "mpi4py"
    chunks = (1, 16, 1000)
    omits = ("queue", "computing", "unlike")  # nothing is sent before somebody waits; calls of one function at a time
    setup = "a bare loop of messages, two batches in flight for each worker, batches of 1,000 except for naps"

    def start(self):
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        self._status = MPI.Status()
        self._pending = []
        self._unfinished = []
        if self._comm.rank:
            self._serve()
            raise SystemExit

    def stop(self):
        for worker in range(1, self.workers + 1):
            self._send(None, worker)
        self._wait_for(lambda: all(request.Test() for request in self._unfinished))

    def task(self, function):
        pending = self._pending

        def submit(*args):
            slot = _Slot(function, args)
            pending.append(slot)
            return slot

        return submit

    def map(self, function, items, chunk):
        values = [None] * len(items)

        def settle(first, results):
            values[first : first + len(results)] = results

        self._run(function, [items], chunk, settle)
        return values

    def results(self, futures):
        slots = [slot for slot in self._pending if not slot.done]
        self._pending.clear()

        def settle(first, results):
            for slot, result in zip(slots[first : first + len(results)], results, strict=True):
                slot.value, slot.done = result, True

        if slots:
            few = -(-len(slots) // (2 * self.workers))
            columns = list(zip(*(slot.args for slot in slots), strict=True))
            self._run(slots[0].function, columns, min(few, _BATCH), settle)
        return [slot.value for slot in futures]

    def result(self, future):
        return self.results([future])[0]

    def _run(self, function, columns, chunk, settle):
        starts = iter(range(0, len(columns[0]), chunk))
        flying = {worker: [] for worker in range(1, self.workers + 1)}

        def give(worker):
            first = next(starts, None)
            if first is not None:
                self._send((function, [column[first : first + chunk] for column in columns]), worker)
                flying[worker].append(first)

        for _ in range(2):
            for worker in flying:
                give(worker)
        while any(flying.values()):
            worker, results = self._receive()
            first = flying[worker].pop(0)
            give(worker)
            settle(first, results)

    def _serve(self):
        while (message := self._receive()[1]) is not None:
            function, columns = message
            self._send(list(map(function, *columns)), 0)

    def _send(self, message, dest):
        """Large messages leave when their receiver looks."""
        self._unfinished = [request for request in self._unfinished if not request.Test()]
        self._unfinished.append(self._comm.isend(message, dest, _TAG))

    def _receive(self):
        message = self._wait_for(lambda: self._comm.improbe(status=self._status))
        return self._status.source, message.recv()

    def _wait_for(self, look):
        began, pause = time.perf_counter(), 20e-6
        while not (found := look()):
            for request in self._unfinished:
                request.Test()
            if time.perf_counter() - began < 100e-6:
                os.sched_yield()
            else:
                time.sleep(pause)
                pause = min(2 * pause, 1e-3)
        return found
