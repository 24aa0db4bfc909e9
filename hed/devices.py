"""A rank's share of its node: one GPU or XPU tile, with memory growth, and its part of the cores.

No device means no action: a laptop and the CPU nodes of a cluster need no setting.
"""

import os
from collections.abc import Mapping

# What the launchers call the rank's number on its node. Slurm's comes last: under `salloc`, mpiexec's own
# children all inherit SLURM_LOCALID=0 from the batch step.
LOCAL_RANK_VARIABLES = (
    "PALS_LOCAL_RANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PMIX_LOCAL_RANK",
    "SLURM_LOCALID",
)

# Cores for one worker, as the engine counts them; the user's own choice, which TensorFlow reads, wins.
CORES_VARIABLE = "SWIFTPY_CORES"
USERS_THREADS = "TF_NUM_INTRAOP_THREADS"


def local_rank(environment: Mapping[str, str]) -> int:
    """This rank's number on its node, 0 where no launcher says it."""
    for name in LOCAL_RANK_VARIABLES:
        value = environment.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0


def choose_device(count: int, environment: Mapping[str, str]) -> int | None:
    """Which of the `count` devices that TensorFlow sees this rank uses; None if there are none.

    An affinity mask (ZE_AFFINITY_MASK, CUDA_VISIBLE_DEVICES) has already taken effect in `count`: when it
    leaves one device that is number 0, whatever the local rank. More ranks than devices share them in turn.
    """
    return local_rank(environment) % count if count else None


def cfg_xpu() -> str | None:
    """Give this process its device and let its memory grow; the device's name, None without any or TensorFlow.

    To be called before TensorFlow computes anything. In the second RUN of a process the devices are in use
    and cannot be changed any more: then the first choice stays.
    """
    try:
        import tensorflow as tf
    except ModuleNotFoundError:  # a model of the user's own needs none
        return None

    for kind in ("XPU", "GPU"):
        devices = tf.config.list_physical_devices(kind)
        number = choose_device(len(devices), os.environ)
        if number is None:
            continue
        try:
            tf.config.set_visible_devices(devices[number], kind)
            tf.config.experimental.set_memory_growth(devices[number], True)
        except RuntimeError:  # "... after being initialized": an earlier RUN of this process has done it
            pass
        return str(devices[number].name)
    return None


def cfg_threads() -> int:
    """Give this process as many threads as it has cores; the number in use.

    Several workers of one node that each use all of its cores are slower than one thread each: for a small network on
    two cores, two RUNs at once are then no faster than one after the other. The second RUN of a process finds the
    threads as they are.
    """
    import tensorflow as tf

    if USERS_THREADS not in os.environ:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(cores(os.environ))
            tf.config.threading.set_inter_op_parallelism_threads(cores(os.environ))
        except RuntimeError:  # TensorFlow has begun to compute
            pass
    return threads_in_use()


def threads_in_use() -> int:
    """The threads that one of TensorFlow's operations uses."""
    import tensorflow as tf

    users = os.environ.get(USERS_THREADS, "")
    return tf.config.threading.get_intra_op_parallelism_threads() or int(users if users.isdecimal() else 0) or _all()


def cores(environment: Mapping[str, str]) -> int:
    """This worker's part of the cores that it may run on; all of them where no engine says more."""
    value = environment.get(CORES_VARIABLE, "")
    return max(int(value), 1) if value.isdecimal() else _all()


def _all() -> int:
    # Not os.cpu_count(): a batch system gives a job some of a node's cores.
    return len(os.sched_getaffinity(0))
