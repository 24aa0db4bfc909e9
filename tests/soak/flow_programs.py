"""The programs of flow_soak.py: lists of expressions, drawn from a seed, and what should come of them.

An expression is a tuple (kind, its arguments), some of which may be expressions. What a kind means is a method of that
name: here without tasks, in flow_soak.py with them.
"""

import dataclasses
import random

PRIME = 2**31 - 1
LARGE = 20_000  # numbers: as an array they stay with the worker that made them
WAYS = ("in_order", "backwards", "as_completed", "in_threads", "in_coroutines", "by_looking")


def mixed(*numbers):
    """A number that depends on these and their order."""
    total = 17
    for number in numbers:
        total = (total * 31 + number + 7) % PRIME
    return total


class Meaning:
    """What expressions mean. `arrays` are those that `large` has made and `old_array` has not used up."""

    def __init__(self):
        self.arrays = []

    def make(self, spec):
        name, *rest = spec
        return getattr(self, name)(*rest)


class Failed(Exception):  # noqa: N818 - as in "it failed"
    """The expression needs a call that fails."""


class WithoutTasks(Meaning):
    """Expressions become the values that their futures should have, or raise Failed. `shared`: see WithTasks."""

    def __init__(self, shared):
        super().__init__()
        self.shared = shared

    def value(self, spec):
        """The same, but Failed is returned."""
        try:
            return self.make(spec)
        except Failed as failed:
            return failed

    @staticmethod
    def known(value):
        """A value that was made before; raises it if it is Failed."""
        if isinstance(value, Failed):
            raise value
        return value

    def combine(self, specs, style=None, options=None):
        values = [self.value(spec) for spec in specs]  # of each, though one fails: it may make or use up an array
        return mixed(*map(self.known, values))

    def leaf(self, number, options=None):
        return mixed(number)

    by_hand = leaf

    def chain(self, number, length):
        for _ in range(length):
            number = mixed(number)
        return number

    def same(self, _, spec):
        return self.make(spec)

    slow = flaky = same

    def large(self, spec, readers):
        value = self.value(spec)
        self.arrays.append(value if isinstance(value, Failed) else mixed(value, LARGE))
        return mixed(*[self.known(self.arrays[-1])] * readers)

    def old_array(self, spec):
        return self.known(self.arrays.pop()) if self.arrays else mixed(self.make(spec), LARGE)

    def fail(self, spec):
        self.make(spec)
        raise Failed

    too_late = fail

    def isolated(self, spec):
        return mixed(self.make(spec))

    timed = kept = with_resource = isolated

    def kept_array(self, spec):
        return mixed(self.make(spec), LARGE)

    def command(self, _, spec):
        return mixed(self.make(spec))

    def together(self, spec):
        return mixed(2 * self.make(spec), 2)

    def mapped(self, numbers):
        return mixed(*map(mixed, numbers))

    def nested(self, specs, how):
        return WithoutTasks([]).combine(specs)

    def again(self, index):
        return mixed(self.known(self.shared[index]))

    def cancelled(self, spec):
        self.value(spec)
        return mixed(1)

    def left(self, spec):
        self.value(spec)
        return mixed(2)


@dataclasses.dataclass
class Program:
    """What follows from a seed. `pause` is between two expressions; `fails`: calls may fail."""

    ranks: int
    options: list[str]
    fails: bool
    specs: list[tuple]
    wait: str
    pause: float


def draw(seed):
    rng = random.Random(seed)
    ranks, fails = rng.randrange(2, 7), rng.random() < 0.5
    servers = 2 if ranks == 6 and rng.random() < 0.8 else 0
    options = [*(["--servers", str(servers)] if servers else []), *(["--summary"] if rng.random() < 0.1 else [])]
    drawing = Drawing(rng, ranks, fails, all_soft=bool(servers))
    specs = [drawing.spec(rng.randrange(1, 6), shared) for shared in range(rng.choice([1, 3, 10, 25, 100]))]
    return Program(ranks + servers, options, fails, specs, rng.choice(WAYS), rng.choice([0, 0, 0.02]))


class Drawing:
    """Draws expressions. `all_soft`: the ranks up to `ranks` are not all workers, so a target may only be a wish."""

    def __init__(self, rng, ranks, fails, all_soft):
        self.rng, self.ranks, self.fails, self.all_soft = rng, ranks, fails, all_soft
        self.kinds = ["combine"] * 5 + ["large", "nested"] * 2 + ["chain", "slow", "old_array", "mapped", "by_hand"]
        self.kinds += ["cancelled", "left", "flaky", "kept_array", "with_resource"] + ["kept"] * 2
        self.kinds += ["together"] * (ranks > 3) + ["fail"] * fails
        self.files = 0

    def options(self):
        options, rng = {}, self.rng
        if rng.random() < 0.2:
            options["priority"] = rng.randrange(-2, 3)
        if rng.random() < 0.15:
            options |= {"rank": rng.randrange(1, self.ranks), "soft": self.all_soft or rng.random() < 0.5}
        return options

    def spec(self, depth, shared=0, inside=False):
        """An expression of at most this depth. `shared`: how many are there already; `inside` of a task."""
        rng, number = self.rng, self.rng.randrange(1000)
        if depth <= 0 or rng.random() < 0.15:
            return "leaf", number, self.options()
        processes = ["isolated", "timed", "command", *(["too_late"] * self.fails)] if rng.random() < 0.4 else []  # slow
        kind = rng.choice([*self.kinds, *processes, *(["again"] * 3 if shared else [])])

        def below():
            return self.spec(depth - 1, shared, inside)

        if kind == "combine":
            style = rng.choice(["arguments", "list", "dict", "box", "deque", "keywords"])
            return kind, [below() for _ in range(rng.randrange(1, 5))], style, self.options()
        if kind == "nested":
            how = rng.choice(["gather", "one by one", "as completed", "a call", "a future"])
            return kind, [self.spec(depth - 2, inside=True) for _ in range(rng.randrange(1, 4))], how
        if kind in ("flaky", "command"):
            self.files += 1
            return kind, f"file-{self.files}", below()
        arguments = {
            "chain": lambda: (number, rng.randrange(1, 60)),
            "slow": lambda: (rng.choice([0.001, 0.01, 0.05]), below()),
            "large": lambda: (below(), rng.randrange(1, 4)),
            "by_hand": lambda: (number, 0 if inside else rng.choice([0, 0.01])),
            "mapped": lambda: ([rng.randrange(1000) for _ in range(rng.choice([0, 3, 40, 700]))],),
            "again": lambda: (rng.randrange(shared),),
        }
        return kind, *arguments.get(kind, lambda: (below(),))()
