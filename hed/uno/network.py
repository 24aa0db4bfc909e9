"""The Uno network: a tower for the cell line, a tower for the drug, and joint layers on both.

Works with Keras 2 and 3. Imports TensorFlow.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hed.uno.hyper import Hyper, Layer

# Keras 2 does not expose the states of Dropout's generators: there, a network serves one RUN only.
REUSABLE = keras.__version__.startswith("3")


def build(hyper: Hyper, genes: int, descriptors: int) -> keras.Model:
    """The network on feature inputs: [(batch, genes), (batch, descriptors)] -> (batch, 1), not compiled.

    Initial weights and dropout masks follow from `hyper.seed` alone: every layer has a seed of its own, since
    a global `tf.random.set_seed` in each RUN makes every later operation of the process slower. Layers have
    names of their own, because Keras' automatic ones count on from one RUN to the next.
    """
    canc_input = keras.Input((genes,), name="canc_input")
    drug_input = keras.Input((descriptors,), name="drug_input")
    canc = _stack(canc_input, hyper.canc, "canc", hyper)
    drug = _stack(drug_input, hyper.drug, "drug", hyper)
    joint = keras.layers.Concatenate(name="concatenate")([canc, drug])
    joint = _stack(joint, hyper.interaction, "interaction", hyper)
    output = _dense(1, hyper.regression_activation, "output", hyper.seed, "float32")(joint)
    return keras.Model([canc_input, drug_input], output, name="uno")


class Start:
    """Gives `model` the weights and generators that `build` would give it with another seed (Keras 3)."""

    def __init__(self, model: keras.Model) -> None:
        self._dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
        # Without a rate, a layer has no generator.
        self._dropout = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]

        # One graph uses all threads, and the memory of a product for the next sum: half the time of single operations.
        @tf.function(input_signature=[tf.TensorSpec([len(self._dense)], tf.int32)])
        def draw(seeds: tf.Tensor) -> None:
            for number, layer in enumerate(self._dense):
                shape, kind = layer.kernel.shape, layer.kernel.dtype
                limit = math.sqrt(6 / sum(shape))  # as keras.initializers.GlorotUniform does it
                values = tf.random.stateless_uniform(shape, [seeds[number], 0], -limit, limit, kind)
                layer.kernel.assign(values)
                layer.bias.assign(tf.zeros(layer.bias.shape, layer.bias.dtype))

        self._draw = draw

    def again(self, seed: int) -> None:
        """Become a network that has just been built with `seed`."""
        self._draw([_seed(seed, layer.name) for layer in self._dense])
        for layer in self._dropout:
            # Not from a new SeedGenerator: TensorFlow keeps 36 KB for each variable that there ever was.
            layer.seed_generator.state.assign([_seed(seed, layer.name), 0])


def _seed(seed: int, name: str) -> int:
    """A layer's seed: what SeedSequence generates is the same in every release of NumPy."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0] >> 1)


def _stack(x: Any, layers: Sequence[Layer], name: str, hyper: Hyper) -> Any:
    for number, layer in enumerate(layers, 1):
        dropout = f"{name}_dropout_{number}"
        x = _dense(layer.size, layer.activation, f"{name}_dense_{number}", hyper.seed, hyper.policy)(x)
        x = keras.layers.Dropout(layer.dropout, seed=_seed(hyper.seed, dropout), name=dropout, dtype=hyper.policy)(x)
    return x


def _dense(size: int, activation: str, name: str, seed: int, policy: str) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=_seed(seed, name))
    return keras.layers.Dense(size, activation=activation, kernel_initializer=initializer, name=name, dtype=policy)
