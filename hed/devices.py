"""One GPU or XPU tile per rank, with memory growth, so that the ranks of a node share its devices.

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
    """Give this process its device and let its memory grow; the device's name, or None without any.

    To be called before TensorFlow computes anything. In the second RUN of a process the devices are in use
    and cannot be changed any more: then the first choice stays.
    """
    import tensorflow as tf

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
