"""The network with its optimizer and its graphs, built and compiled once for all RUNs of one kind. Imports TensorFlow.

Building, tracing and compiling take seconds, and each time leave some memory behind; setting variables back takes
milliseconds. What is reset here is all that a RUN changes, so that a RUN computes the same bits whether it is the first
of its process or the hundredth.
"""

import functools
import gc
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hed.uno import network, optimizer
from hed.uno.data import Features, Responses
from hed.uno.evaluate import Predictor
from hed.uno.feed import batches
from hed.uno.hyper import Hyper, loss_module_name

# XLA makes training faster on a CPU, but takes seconds more to compile, which a small network does not win back.
XLA_FROM = 100_000
# Batches of one call of the graph at most, and rows of features named in it: its inputs have a fixed size.
MOST_STEPS, MOST_ROWS = 1024, 1 << 18
# Bytes: TensorFlow takes over other memory too, and aborts when it computes with it.
ALIGNMENT = 64

Loss = Callable[[Any, Any], Any]


class Compiled:
    """A network, its `loss`, the graph that trains it (`learn`), and its predictions (`predict`)."""

    def __init__(self, hyper: Hyper, genes: int, descriptors: int, loss: Loss, xla: bool) -> None:
        self.xla, self.loss = xla, loss
        self.capacity = capacity(hyper)
        self._size = hyper.batch_size
        self.model = network.build(hyper, genes, descriptors)
        self.model.compile(optimizer=optimizer.make(hyper))
        self.model.optimizer.build(self.model.trainable_variables)
        self.predict = Predictor(self.model, hyper)
        self._starts = network.Start(self.model), optimizer.Start(self.model.optimizer)
        self._whole = _training_graph(self.model, loss, [self.capacity, hyper.batch_size], xla)
        # The last, smaller batch has another size in each RUN, for which XLA would compile anew.
        self._last = _training_graph(self.model, loss, [1, None], xla=False)

    def begin(self, seed: int) -> None:
        """Become a network that has just been built with `seed`."""
        weights, moments = self._starts
        weights.again(seed)
        moments.again()
        self.model.stop_training = False

    def learn(self, cells: Any, drugs: Any, responses: Responses, rows: np.ndarray) -> np.ndarray:
        """Learn the responses numbered by `rows`, at most `capacity` batches; the last one may be smaller.

        Returns loss and sum of squared errors (float32) of each batch.
        """
        whole = len(rows) - len(rows) % self._size
        results = []
        if whole:
            given = batches(responses, rows[:whole], self._size, self.capacity)
            count = whole // self._size
            results.append(self._whole(cells, drugs, *given, count).numpy()[:count])
        if whole < len(rows):
            given = batches(responses, rows[whole:], len(rows) - whole)
            results.append(self._last(cells, drugs, *given, 1).numpy())
        return np.concatenate(results)


def _training_graph(model: keras.Model, loss: Loss, shape: list[int | None], xla: bool) -> Callable[..., Any]:
    """One loop in one graph over batches given as `feed.Batches` of `shape`.

    Sums over an epoch are left to the caller: added up in here, they would depend on how an epoch is cut into calls.
    """
    variables = model.trainable_variables
    tables = [tf.TensorSpec([None, *x.shape[1:]], tf.float32) for x in model.inputs]
    rows, values = tf.TensorSpec(shape, tf.int32), tf.TensorSpec(shape, tf.float32)

    @tf.function(jit_compile=xla, input_signature=[*tables, rows, rows, values, tf.TensorSpec([], tf.int32)])
    def learn(cells: Any, drugs: Any, cell: Any, drug: Any, y: Any, count: Any) -> Any:
        results = tf.TensorArray(tf.float32, size=shape[0], element_shape=[2])
        # Not in tf.range(count), whose end XLA takes for a constant: it would compile for seconds for each new count.
        i = tf.constant(0)
        while i < count:
            true = y[i][:, None]
            with tf.GradientTape() as tape:
                predicted = model([tf.gather(cells, cell[i]), tf.gather(drugs, drug[i])], training=True)
                value = tf.reduce_mean(loss(true, predicted))
            model.optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
            results = results.write(i, tf.stack([value, tf.reduce_sum(tf.square(true - predicted))]))
            i += 1
        return results.stack()

    return learn


_current: tuple[Any, Compiled] | None = None


def compiled_for(params: Mapping[str, Any], hyper: Hyper, genes: int, descriptors: int) -> Compiled:
    """The network that `hyper` describes, as if it had been built for this RUN.

    One is kept per process: for another one, the Keras session is cleared first.
    """
    global _current
    xla = hyper.jit_compile
    if xla is None:
        xla = hyper.parameters(genes, descriptors) >= XLA_FROM and not accelerators()
    loss, loss_key = make_loss(params, hyper)
    key = (
        *(hyper.canc, hyper.drug, hyper.interaction, hyper.regression_activation, hyper.policy, genes, descriptors),
        *(hyper.optimizer, hyper.fused_optimizer, hyper.batch_size, hyper.generator_batch_size, capacity(hyper)),
        *(loss_key, xla),
    )
    if _current is None or _current[0] != key or not network.REUSABLE:
        if _current is not None:
            _current = None
            gc.collect()
            keras.backend.clear_session()
        _current = key, Compiled(hyper, genes, descriptors, loss, xla)
    if network.REUSABLE:
        _current[1].begin(hyper.seed)
    return _current[1]


def capacity(hyper: Hyper) -> int:
    """The most batches that one call of the graph learns."""
    return hyper.steps_per_execution or max(1, min(MOST_STEPS, MOST_ROWS // hyper.batch_size))


def accelerators() -> list[str]:
    """Names of the GPUs and XPUs that this process uses."""
    return [device.name for kind in ("GPU", "XPU") for device in tf.config.get_visible_devices(kind)]


def make_loss(params: Mapping[str, Any], hyper: Hyper) -> tuple[Loss, Any]:
    """The loss named by `loss`, or by `construct(params)` of `custom_loss_module`; and what it depends on.

    A module says in HYPERPARAMETERS which parameters its `construct` looks at. Of one that does not, nobody knows
    whether its loss for another RUN is the same: it depends on all of them.
    """
    if params.get("custom_loss_module") is None:
        return keras.losses.get(hyper.loss), hyper.loss
    name = params["custom_loss_module"]
    module = importlib.import_module(loss_module_name(name) or name)
    names = getattr(module, "HYPERPARAMETERS", sorted(params))
    return module.construct(params), (module.__file__, repr([(name, params.get(name)) for name in names]))


@functools.lru_cache(maxsize=2)
def on_device(features: Features) -> Any:
    """The matrix as a tensor, once per process; on a CPU it shares the memory of a mapped file."""
    if features.matrix.ctypes.data % ALIGNMENT or accelerators():
        return tf.constant(features.matrix)
    try:
        return tf.experimental.dlpack.from_dlpack(features.matrix.__dlpack__())
    except (BufferError, ValueError, TypeError):  # read-only for an older NumPy, for instance
        return tf.constant(features.matrix)
