"""Uno's hyperparameters: one dataclass, read from a parameter dict and checked. Knows no TensorFlow.

Names and defaults are those of the public IMPROVE model Uno, so that its users' DFLTS and INI files keep
working.
"""

import ast
import importlib
import importlib.util
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from model_runner.params import read_ini

DEFAULT_FILE = Path(__file__).with_name("uno_default_model.txt")

SPACES = ("global", "block", "layer")
PARTS = ("canc", "drug", "interaction")
# The space `global` has no sizes of its own.
GLOBAL_SIZES = {"canc": [1000] * 3, "drug": [1000] * 3, "interaction": [1000] * 5}

# Other names in use for the same thing (forks of Uno, older DFLTS files).
ALIASES = {
    "raw_max_lr": "learning_rate",
    "patience": "early_stopping_patience",
    "early_stop_patience": "early_stopping_patience",
    "rng_seed": "seed",  # CANDLE's own name
}

# Keras' names, listed so that a check loads no TensorFlow.
OPTIMIZERS = ("Adam", "AdamW", "Adamax", "Adadelta", "Adagrad", "Ftrl", "Nadam", "RMSprop", "SGD")
WARM_UPS = ("linear", "quadratic", "exponential", "constant", "none")
LOSSES = tuple(
    "mse mae mape msle mean_squared_error mean_absolute_error mean_absolute_percentage_error"
    " mean_squared_logarithmic_error huber log_cosh poisson binary_crossentropy".split()
)
ACTIVATIONS = tuple(
    "relu leaky_relu elu selu gelu silu swish softplus softsign tanh sigmoid hard_sigmoid exponential linear".split()
)


class Layer(NamedTuple):
    """One dense layer and the dropout after it."""

    size: int
    activation: str
    dropout: float


@dataclass(frozen=True)
class Hyper:
    """What decides a training, besides the data. Rates are fractions; `learning_rate` is per sample.

    `jit_compile` is None where the size of the network decides, `steps_per_execution` 0 where time does.
    """

    epochs: int
    batch_size: int
    generator_batch_size: int
    learning_rate: float
    warmup_epochs: int
    warmup_type: str
    reduce_lr_patience: int
    reduce_lr_factor: float
    early_stopping_patience: int
    optimizer: str
    loss: str
    regression_activation: str
    seed: int
    jit_compile: bool | None
    mixed_precision: bool
    fused_optimizer: bool
    steps_per_execution: int
    calc_infer_scores: bool
    canc: tuple[Layer, ...]
    drug: tuple[Layer, ...]
    interaction: tuple[Layer, ...]

    @property
    def max_rate(self) -> float:
        """The full learning rate: warm-up starts at 1/100 of it, plateaus end at 1/10,000."""
        return self.learning_rate * self.batch_size

    @property
    def policy(self) -> str:
        """Keras' name for the types of the layers' numbers."""
        return "mixed_bfloat16" if self.mixed_precision else "float32"

    def parameters(self, genes: int, descriptors: int) -> int:
        """The number of the network's weights with inputs of these sizes."""
        count = 0
        ends: list[int] = []
        for layers, inputs in ((self.canc, genes), (self.drug, descriptors), (self.interaction, None)):
            sizes = [sum(ends) if inputs is None else inputs, *(layer.size for layer in layers)]
            count += sum((above + 1) * below for above, below in itertools.pairwise(sizes))
            ends.append(sizes[-1])
        return count + ends[-1] + 1


class HyperError(ValueError):
    """Hyperparameters that cannot be used; `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_hyper(params: Mapping[str, Any]) -> Hyper:
    """Hyperparameters of `params`, which may lack what has a default; HyperError lists all that is wrong."""
    reader = _Reader(params)
    space = reader.choice("hyperparam_space", SPACES)
    hyper = Hyper(
        epochs=reader.integer("epochs", 1),
        batch_size=reader.integer("batch_size", 1),
        generator_batch_size=reader.integer("generator_batch_size", 1),
        learning_rate=reader.number("learning_rate", 0.0, open_low=True),
        warmup_epochs=reader.integer("warmup_epochs", 0),
        warmup_type=reader.choice("warmup_type", WARM_UPS),
        reduce_lr_patience=reader.integer("reduce_lr_patience", 0),
        reduce_lr_factor=reader.number("reduce_lr_factor", 0.0, 1.0, open_low=True),
        early_stopping_patience=reader.integer("early_stopping_patience", 0),
        optimizer=reader.choice("optimizer", OPTIMIZERS),
        loss=reader.choice("loss", LOSSES),
        regression_activation=reader.choice("regression_activation", ACTIVATIONS),
        seed=reader.integer("seed", 0),
        jit_compile=reader.boolean_or("jit_compile", "auto"),
        mixed_precision=bool(reader.boolean_or("mixed_precision")),
        fused_optimizer=bool(reader.boolean_or("fused_optimizer")),
        steps_per_execution=reader.integer("steps_per_execution", 0),
        calc_infer_scores=bool(reader.boolean_or("calc_infer_scores")),
        **{part: tuple(reader.layers(part, space)) for part in PARTS},
    )
    reader.loss_module("custom_loss_module")
    if reader.problems:
        raise HyperError(reader.problems)
    return hyper


def loss_module_name(name: str) -> str | None:
    """The importable name of a loss module: the user's own, else one of `hed.uno`; None if there is none."""
    for candidate in (name, f"hed.uno.{name}"):
        try:
            if importlib.util.find_spec(candidate):
                return candidate
        except (ImportError, ValueError):
            continue
    return None


def _binds(module: str, name: str) -> bool:
    """Whether the source of a module binds `name`; importing it would tell, but might load TensorFlow.

    True where nobody knows: no Python source, or one that imports all of another module.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.has_location:  # a directory, or built into Python
        return False
    if not spec.origin.endswith(".py"):
        return True
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name)
        or (isinstance(node, ast.alias) and (node.asname or node.name) in (name, "*"))
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name)
        for node in ast.walk(tree)
    )


class _Reader:
    """Reads typed values from the given parameters, over the defaults, and collects all that is wrong."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        defaults = read_ini(DEFAULT_FILE)
        self.params = {**defaults, **given}
        self.problems: list[str] = []
        self._resolve_aliases(given, defaults)

    def _resolve_aliases(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        for alias, key in ALIASES.items():
            if given.get(alias) is None:
                continue
            # Model defaults lie under every parameter set, so a default value next to an alias is not the
            # user's.
            if given.get(key, defaults[key]) not in (defaults[key], given[alias]):
                self.problems.append(f"give {key} or {alias}, not both: they are two names for the same thing")
            self.params[key] = given[alias]

    def integer(self, key: str, low: int) -> int:
        value = self.params.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= low:
            return value
        self.problems.append(f"{key} must be an integer >= {low}, not {value!r}")
        return low

    def number(self, key: str, low: float, high: float = math.inf, open_low: bool = False) -> float:
        """A finite number in [low, high), or in (low, high) if `open_low`."""
        value = self.params.get(key)
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
        if low < number < high or (number == low and not open_low):
            return number
        bounds = f"{'>' if open_low else '>='} {low:g}" + (f" and < {high:g}" if high < math.inf else "")
        self.problems.append(f"{key} must be a number {bounds}, not {value!r}")
        return low

    def choice(self, key: str, options: tuple[str, ...]) -> str:
        value = self.params.get(key)
        for option in options:
            if isinstance(value, str) and value.lower() == option.lower():
                return option
        self.problems.append(f"{key} must be one of {', '.join(options)}, not {value!r}")
        return options[0]

    def boolean_or(self, key: str, word: str | None = None) -> bool | None:
        """True or false, or None for `word`, if there is one."""
        value = self.params.get(key)
        if isinstance(value, bool):
            return value
        if word is None or value != word:
            self.problems.append(f"{key} must be true or false{f' or {word!r}' if word else ''}, not {value!r}")
        return None

    def loss_module(self, key: str) -> None:
        given = self.params.get(key)
        if given is None:
            return
        name = loss_module_name(given) if isinstance(given, str) else None
        if name is None:
            self.problems.append(f"{key}: there is no module {given!r} on the Python path or in hed.uno")
        elif not _binds(name, "construct"):
            self.problems.append(f"{key}: the module {given!r} has no function construct(params), so it is no loss")
        elif name.startswith("hed.uno."):  # ours need no TensorFlow to say what they lack; a user's module might
            try:
                importlib.import_module(name).construct(self.params)
            except ValueError as error:
                self.problems.append(str(error))

    def sizes(self, key: str) -> list[int]:
        value = self.params.get(key)
        if isinstance(value, str):  # "1000 500", which becomes a list before a RUN begins
            value = [int(word) if word.isdecimal() else word for word in value.split()]
        items = value if isinstance(value, (list, tuple)) else [value]
        if items and all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in items):
            return list(items)
        self.problems.append(f"{key} must be a list of layer sizes (integers >= 1), not {self.params.get(key)!r}")
        return []

    def layers(self, part: str, space: str) -> list[Layer]:
        count, usual = f"{part}_num_layers", len(GLOBAL_SIZES[part])
        if space == "layer":
            self.params.setdefault(count, usual)
            prefixes = [f"{part}_layer_{n + 1}" for n in range(self.integer(count, 1))]
            return [self._layer(self.integer(f"{p}_size", 1), f"{p}_") for p in prefixes]
        if space == "block":
            sizes, prefix = self.sizes(f"{part}_arch"), f"{part}_"
            if count in self.params:
                number = self.integer(count, 1)
                # Whoever names the public model's file of defaults has not chosen the usual numbers, which it holds.
                if 0 < len(sizes) < number != usual:
                    self.problems.append(f"{count} is {number}, but {part}_arch has {len(sizes)} sizes")
                sizes = sizes[:number]
        else:
            sizes, prefix = GLOBAL_SIZES[part], ""
        if not sizes:
            return []
        first = self._layer(sizes[0], prefix)
        return [first._replace(size=size) for size in sizes]

    def _layer(self, size: int, prefix: str) -> Layer:
        return Layer(size, self.choice(f"{prefix}activation", ACTIVATIONS), self.number(f"{prefix}dropout", 0.0, 1.0))
