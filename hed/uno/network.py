"""The Uno network: a tower for the cell line, a tower for the drug, and joint layers on both.

Works with Keras 2 and 3. Imports TensorFlow.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from hed.uno.hyper import Hyper, Layer


def build(hyper: Hyper, genes: int, descriptors: int) -> keras.Model:
    """The network on feature inputs: [(batch, genes), (batch, descriptors)] -> (batch, 1), not compiled.

    Initial weights and dropout masks follow from `hyper.seed` alone: every layer has a seed of its own, since
    a global `tf.random.set_seed` in each RUN makes every later operation of the process slower. Layers have
    names of their own, because Keras' automatic ones count on from one RUN to the next.
    """
    seeds = _seeds(hyper.seed)
    canc_input = keras.Input((genes,), name="canc_input")
    drug_input = keras.Input((descriptors,), name="drug_input")
    canc = _stack(canc_input, hyper.canc, "canc", seeds)
    drug = _stack(drug_input, hyper.drug, "drug", seeds)
    joint = keras.layers.Concatenate(name="concatenate")([canc, drug])
    joint = _stack(joint, hyper.interaction, "interaction", seeds)
    output = _dense(1, hyper.regression_activation, "output", seeds)(joint)
    return keras.Model([canc_input, drug_input], output, name="uno")


def _seeds(seed: int) -> Iterator[int]:
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31 - 1))


def _stack(x: Any, layers: Sequence[Layer], name: str, seeds: Iterator[int]) -> Any:
    for number, layer in enumerate(layers, 1):
        x = _dense(layer.size, layer.activation, f"{name}_dense_{number}", seeds)(x)
        x = keras.layers.Dropout(layer.dropout, seed=next(seeds), name=f"{name}_dropout_{number}")(x)
    return x


def _dense(size: int, activation: str, name: str, seeds: Iterator[int]) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.layers.Dense(size, activation=activation, kernel_initializer=initializer, name=name)
