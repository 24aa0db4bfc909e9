"""What a job is simulated under: what goes wrong, and how long messages take."""

from __future__ import annotations

import math
from dataclasses import dataclass

LATEST = 100.0  # seconds


@dataclass(frozen=True)
class Faults:
    """What goes wrong: `fail`, `die` and `hang` are probabilities for each call, `late` for each worker.

    A worker that dies is lost in the middle of the attempt, and is there again `back` seconds later. One that hangs
    takes `stuck` seconds more, and answers nobody meanwhile. One that is late joins up to LATEST seconds after the
    others.
    """

    fail: float = 0.0
    die: float = 0.0
    hang: float = 0.0
    late: float = 0.0
    back: float = math.inf
    stuck: float = math.inf


@dataclass(frozen=True)
class Conditions:
    """What a job is simulated under. The same `seed` gives the same history.

    `latency` is how long a message is on its way; `handling` what the server needs for each message that it gets or
    sends, in virtual time: 0 for a server that is infinitely fast. `obeys` is in how many seconds a task that is asked
    to stop does so, None if it does not.
    """

    faults: Faults = Faults()
    seed: int = 0
    latency: float = 0.0
    handling: float = 0.0
    obeys: float | None = None
