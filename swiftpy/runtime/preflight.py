"""Before any task starts: what every rank finds in its own environment, and where that differs between them.

A rank looks by calling a function by name in a child process, as it will run its tasks. The function answers
(problems, facts): texts, and values by name that must be the same everywhere, such as versions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """What one rank found."""

    node: str
    rank: int
    problems: Sequence[str]
    facts: Mapping[str, str]


def complaints(found: Sequence[Found]) -> list[str]:
    """One line for each node and problem, naming its ranks; [] if all is well.

    Of a fact, what most ranks have is taken to be right; a rank that could not look has none.
    """
    ranks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in found:
        for problem in one.problems:
            ranks[one.node, problem].append(one.rank)
    looked = [one for one in found if one.facts]
    for name in sorted({name for one in looked for name in one.facts}):
        values = Counter(one.facts.get(name, "nothing") for one in looked)
        usual = values.most_common(1)[0][0]
        for one in looked:
            value = one.facts.get(name, "nothing")
            if value != usual:
                ranks[one.node, f"{name} is {value}, but {usual} on most ranks"].append(one.rank)
    return [f"{node} (rank {_numbers(which)}): {problem}" for (node, problem), which in ranks.items()]


def _numbers(ranks: Sequence[int]) -> str:
    """Ranks as people write them: 1, 2-12."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and spans[-1][1] == rank - 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)
