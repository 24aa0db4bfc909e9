"""The loss of the HED study: mean(|y - p| (1 - y)^alpha), which weighs strong responses (low AUC) more.

Use: `"custom_loss_module": "hed.uno.mae_poly", "alpha": 6`.
"""

from collections.abc import Callable, Mapping
from typing import Any

# All that `construct` looks at: RUNs that agree on it share one compiled network.
HYPERPARAMETERS = ("alpha",)


def construct(params: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """The loss as a function of (y_true, y_pred); ValueError without a hyperparameter `alpha` >= 0."""
    alpha = params.get("alpha")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or alpha < 0:
        raise ValueError(f"custom_loss_module mae_poly needs the hyperparameter alpha, a number >= 0, not {alpha!r}")

    def mae_poly(y_true: Any, y_pred: Any) -> Any:
        import tensorflow as tf

        # A response of more than 1 would give NaN where alpha is no integer.
        weight = tf.maximum(1.0 - y_true, 0.0) ** float(alpha)
        return tf.reduce_mean(tf.abs(y_true - y_pred) * weight)

    return mae_poly
