"""Uno's optimizer: Keras' own, with the one fused kernel that TensorFlow has for Adam's update. Imports TensorFlow.

Keras 3 updates each weight by a dozen small operations, which read and write it and its moments again and again: on a
CPU, a third of a step of the study's network. The kernel computes the same formula in one pass.
"""

from typing import Any

import keras
import tensorflow as tf

from hed.uno.hyper import Hyper


class FusedAdam(keras.optimizers.Adam):
    """Keras 3's Adam, without amsgrad, with ResourceApplyAdam for the update of a weight."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update `variable` and its two moments, within a graph."""
        kind = variable.dtype
        step = tf.cast(self.iterations + 1, kind)
        beta_1, beta_2 = tf.constant(self.beta_1, kind), tf.constant(self.beta_2, kind)
        number = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[number]),
            v=_handle(self._velocities[number]),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, kind),
            grad=gradient,
        )


def _handle(variable: Any) -> Any:
    return variable.handle if hasattr(variable, "handle") else variable.value.handle  # TensorFlow's own, or Keras'


def make(hyper: Hyper) -> keras.optimizers.Optimizer:
    """The optimizer named by `hyper.optimizer`, fused where that is wanted and there is a kernel for it."""
    fused = (
        hyper.fused_optimizer and hyper.optimizer == "Adam" and hasattr(keras.optimizers.Adam, "_backend_update_step")
    )
    kind = FusedAdam if fused else getattr(keras.optimizers, hyper.optimizer)
    return kind(learning_rate=hyper.max_rate)


class Start:
    """What an optimizer's variables hold before its first step, to begin anew with another RUN."""

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        variables = list(optimizer.variables)
        # Keras fills each with one number: 0, or such as Adagrad's initial_accumulator_value.
        self._fills = [float(variable.numpy().flat[0]) for variable in variables]

        @tf.function(input_signature=[tf.TensorSpec([len(variables)], tf.float64)])
        def fill(values: tf.Tensor) -> None:
            for number, variable in enumerate(variables):
                variable.assign(tf.fill(variable.shape, tf.cast(values[number], variable.dtype)))

        self._fill = fill

    def again(self) -> None:
        """Bring that state back."""
        self._fill(self._fills)  # an argument: constants of the weights' sizes would stay in memory
