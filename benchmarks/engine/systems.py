"""The systems that are compared, each behind the same few methods and set up as well as we know how."""

import importlib.metadata
import os
from functools import partial

from benchmarks.engine import tasks


class System:
    """A way to run calls on `workers` worker processes.

    `chunks`: the sizes in which `map` may send calls, None where the system chooses. `dataflow`: whether futures may be
    arguments of calls. `omits`: cases that mean nothing for it. `setup`: how it is set up, for readers of the figures.
    """

    package = ""
    chunks = (None,)
    dataflow = False
    omits = ()
    setup = ""

    def __init__(self, workers):
        self.workers = workers

    def __enter__(self):
        self.start()
        napping = self.task(tasks.nap)
        self.results([napping(0.05) for _ in range(4 * self.workers)])  # all workers are up
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        pass

    def stop(self):
        pass

    def task(self, function):
        """What to call to submit a call; it returns a future."""
        raise NotImplementedError

    def map(self, function, items, chunk):
        """The results for all items, in order."""
        raise NotImplementedError

    def results(self, futures):
        return [future.result() for future in futures]

    def result(self, future):
        return future.result()

    def total(self, futures):
        """One call with the results of all these futures as its argument."""
        return self.task(tasks.total)(futures if self.dataflow else self.results(futures))

    def command(self):
        """What to call to run an external command; it returns a future."""
        return self.task(tasks.command)

    def version(self):
        return importlib.metadata.version(self.package) if self.package else None


class Swiftpy(System):
    package = "swiftpy"
    dataflow = True

    def start(self):
        import swiftpy

        self._swiftpy = swiftpy

    def task(self, function):
        return self._swiftpy.task(function)

    def map(self, function, items, chunk):
        return list(self._swiftpy.map(function, items))

    def results(self, futures):
        return self._swiftpy.gather(futures)

    def command(self):
        return self._swiftpy.app


class Executor(System):
    """Executors of the standard library's kind."""

    chunks = (1, 100, 1000, 4000)

    def stop(self):
        self.executor.shutdown()

    def task(self, function):
        return partial(self.executor.submit, function)

    def map(self, function, items, chunk):
        return list(self.executor.map(function, items, chunksize=chunk))


class Mpi4py(Executor):
    package = "mpi4py"
    setup = "its back-off as it is by default"

    def start(self):
        from mpi4py.futures import MPIPoolExecutor

        self.executor = MPIPoolExecutor(max_workers=self.workers)


class Mpi4pySpinning(Mpi4py):
    setup = "MPI4PY_FUTURES_BACKOFF=0: waiting ranks spin, which is faster and costs a core each"


class ProcessPool(Executor):
    setup = "processes forked from the start"

    def start(self):
        from concurrent.futures import ProcessPoolExecutor

        self.executor = ProcessPoolExecutor(self.workers)


class Parsl(Executor):
    package = "parsl"
    dataflow = True
    chunks = (1, 1000)
    setup = "HighThroughputExecutor, 16 tasks prefetched for each worker, no encryption; has no chunks: made by hand"

    def start(self):
        import parsl
        from parsl.concurrent import ParslPoolExecutor
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        htex = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            max_workers_per_node=self.workers,
            prefetch_capacity=16 * self.workers,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = parsl.Config(executors=[htex], strategy="none", initialize_logging=False)
        self.executor = ParslPoolExecutor(config)
        self.executor.submit(tasks.same, 0).result()

    def task(self, function):
        return self.executor.get_app(function)

    def map(self, function, items, chunk):
        if chunk == 1:
            return super().map(function, items, chunk)
        parts = [items[first : first + chunk] for first in range(0, len(items), chunk)]
        return [value for values in self.executor.map(partial(tasks.each, function), parts) for value in values]


class Dask(System):
    package = "distributed"
    dataflow = True
    chunks = (1, 1000)
    setup = "LocalCluster of processes with one thread each, no dashboard; its map in chunks is dask.bag"

    def start(self):
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.worker.profile.enabled": False})
        self._cluster = LocalCluster(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        self._client = Client(self._cluster)

    def stop(self):
        self._client.close()
        self._cluster.close()

    def task(self, function):
        return partial(self._client.submit, function, pure=False)

    def map(self, function, items, chunk):
        if chunk == 1:
            return self._client.gather(self._client.map(function, items, pure=False))
        from dask import bag

        return bag.from_sequence(items, partition_size=chunk).map(function).compute()

    def results(self, futures):
        return self._client.gather(futures)


class Ray(System):
    package = "ray"
    dataflow = True
    omits = ("computing",)  # its futures call nobody
    chunks = (1, 1000)
    setup = "ray.init(num_cpus=workers), no dashboard, no log forwarding; its map is ray.util.multiprocessing.Pool"

    def start(self):
        import ray

        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        ray.init(num_cpus=self.workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        self._ray = ray
        self._pool = None
        self._remote = {}

    def stop(self):
        self._ray.shutdown()

    def task(self, function):
        if function not in self._remote:
            self._remote[function] = self._ray.remote(function)
        return self._remote[function].remote

    def map(self, function, items, chunk):
        if self._pool is None:
            from ray.util.multiprocessing import Pool

            self._pool = Pool(self.workers)
        return self._pool.map(function, items, chunksize=chunk)

    def results(self, futures):
        return self._ray.get(futures)

    def result(self, future):
        return self._ray.get(future)

    def total(self, futures):
        return self.task(tasks.total_of_all)(*futures)  # it does not look into lists
