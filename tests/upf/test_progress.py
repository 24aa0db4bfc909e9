"""Progress lines, the bar, the time that is left, and what is said of a journal that breaks."""

import errno
from types import SimpleNamespace

import pytest

from swiftpy.experiment.exp import Exp
from swiftpy.sites.times import duration
from swiftpy.upf.outcomes import Outcomes
from swiftpy.upf.progress import Progress


class FakeConsole:
    def __init__(self):
        self.lines, self.bars = [], []

    def line(self, text):
        self.lines.append(text)

    def bar(self, text):
        self.bars.append(text)


def test_eta_is_that_of_the_waves_that_are_left():
    now = [0.0]
    console = FakeConsole()
    progress = Progress(console, total=4, workers=2, clock=lambda: now[0], bar=True)
    progress.started("A")
    progress.started("B")
    assert progress.eta() is None
    now[0] = 10.0
    progress.ended("A", "done", done=True)
    progress.started("C")
    # B has had its mean time of 10 s, C needs 10 s and D 10 s, on two workers.
    assert progress.eta() == pytest.approx(10.0)
    progress.tick()
    progress.tick()
    assert len(console.bars) == 1, "drawn at most twice a second"
    assert "1/4 RUNs, 2 running, about 10.0 s left" in console.bars[0]
    progress.ended("B", "FAILED", failed=True)
    assert console.lines[-1].startswith("[2/4] B FAILED")


def test_a_retry_is_not_counted():
    progress = Progress(FakeConsole(), total=1, workers=1, clock=lambda: 0.0, bar=False)
    progress.started("A")
    progress.ended("A", "failed, will be tried again")
    assert progress.done == progress.failed == 0


def test_a_run_that_its_pre_module_skips_is_over_and_says_nothing_of_the_time():
    console = FakeConsole()
    progress = Progress(console, total=2, workers=1, clock=lambda: 0.0, bar=False)
    progress.started("A")
    progress.ended("A", "skipped: not now", skipped=True)
    assert console.lines == ["[1/2] A skipped: not now"]
    assert (progress.done, progress.skipped, progress.eta()) == (0, 1, None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00"), (3599.6, "1:00:00"), (90061, "25:01:01")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_journal_that_breaks_is_said_once_and_ends_the_job(tmp_path):
    """It was said for each event of the RUNs that were still running: 2,000 times with 1,000 of them."""

    def full(*arguments, **fields):
        raise OSError(errno.ENOSPC, "No space left on device")

    console, stop = FakeConsole(), SimpleNamespace(reason=None)
    lead = SimpleNamespace(console=console, stop=stop)
    experiment = SimpleNamespace(exp=Exp(tmp_path), journal=SimpleNamespace(write=full, flush=full))
    outcomes = Outcomes(lead, experiment, [], None, 0.0)
    for _ in range(2):
        outcomes.write("run_done", id="A")
        outcomes.flush()
    assert console.lines == [f"{tmp_path}/journal.jsonl: No space left on device: stopping early"]
    assert stop.reason == "the journal cannot be written"
