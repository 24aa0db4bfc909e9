"""Random histories of a job: bytes are read as decisions about what the program and the workers do next."""

from invariants import check

from swiftpy.core import events as e
from swiftpy.core.scheduler import Scheduler
from swiftpy.core.task import Kind, Seat, Target, Task
from swiftpy.errors import TaskError

ERROR = TaskError("exception", "boom")
CANCELLED = TaskError("cancelled", "it was cancelled")
SITES = {1: Seat("a"), 2: Seat("a", "gpu"), 3: Seat("b"), 4: Seat("b", "gpu"), 5: Seat("b", "gpu")}
TARGETS = [
    Target(),
    Target(rank=2),
    Target(rank=3, soft=True),
    Target(node="b"),
    Target(kind="gpu"),
    Target(node="b", kind="gpu"),
    Target(node="a", soft=True),
    Target(rank=9),
]
SECONDS = {"f": (1e-6, 1e-6, 2e-6), "g": (1e-5, 2e-4, 1.0)}


class History:
    """Drives a scheduler and its reference through the events that the bytes describe."""

    def __init__(self, data, make_reference):
        self.data = iter(data)
        self.scheduler = Scheduler(SITES)
        self.reference = make_reference(SITES)
        self.next_id = 0
        self.by_hand = []
        self.ended = []  # (worker, task id, attempt)
        self.killing = False
        self.kinds = {}

    def draw(self, count):
        return next(self.data) % count

    def run(self):
        """To the end of the bytes; then let everything come to its end."""
        actions = [self.submit] * 6 + [self.finish] * 6 + [self.ready] * 3 + [self.answer] * 4 + [self.give_back] * 3
        actions += [self.fail, self.suspend, self.resume, self.lose, self.value, self.stale, self.drain]
        try:
            while True:
                actions[self.draw(len(actions))]()
        except StopIteration:
            self.wind_up()

    def step(self, event):
        commands = self.scheduler.step(event)
        check(self.scheduler)
        self.reference.step(event, commands)
        return commands

    # -- the program ---------------------------------------------------------------------------------------------

    def submit(self):
        if self.reference.closed and not self.reference.draining:
            return
        form, shape, need = self.draw(256), self.draw(256), self.draw(256)
        count = (1, 1, 3, 12)[shape % 4]
        ranks = 1 + (shape >> 2) % 4 if count == 1 and shape > 160 else 1
        chained, alone = count > 1 and form & 64 > 0, count == 1 and form & 128 > 0
        key = (
            form % 3 - 1,
            (form >> 2) % 2,
            (form >> 3) % (8 if need & 16 else 1),
            (shape >> 5) % 3,
            ranks,
            chained,
            alone,
        )
        priority, depth, target, retries = key[:4]
        kind = self.kinds.setdefault(
            key,
            Kind("fg"[form % 2], "", priority, depth, TARGETS[target], None, retries, alone, ranks, chained),
        )
        unresolved = [*self.reference.open, *self.by_hand]
        after = {unresolved[-1 - self.draw(256) % min(len(unresolved), 6)] for _ in range(need % 4) if unresolved}
        ids = range(self.next_id, self.next_id + count)
        self.next_id += count
        self.step(e.TaskSubmitted(Task(ids[0], kind, list(ids), count, sorted(after) if need & 32 else ())))

    def value(self):
        """Make an id whose result the program gives, or give the oldest."""
        if self.draw(2) and self.by_hand:
            self.give()
        elif not self.reference.draining:
            self.by_hand.append(self.next_id)
            self.next_id += 1

    def give(self):
        error = self.error() if self.draw(4) == 3 else None  # first, for the bytes may end here
        self.step(e.ValueGiven(self.by_hand.pop(0), error))

    def error(self):
        return CANCELLED if self.draw(4) == 3 else ERROR

    def drain(self):
        """Seldom, because little happens after it: the job is told to end, then its tasks, then it is killed."""
        if self.draw(256) > (1 if not self.reference.draining else 64):
            return
        if not self.reference.draining:
            self.step(e.DrainRequested("test"))
        elif self.draw(2):
            self.step(e.InterruptRequested())
        else:
            self.killing = True
            self.step(e.GraceExpired())

    # -- the workers ---------------------------------------------------------------------------------------------

    def worker(self, among):
        among = sorted(among)
        return among[self.draw(len(among))] if among else None

    def busy(self):
        return [worker for worker, held in self.reference.holds.items() if held]

    def ready(self):
        worker = self.worker(set(SITES) - self.reference.up)
        if worker is not None and not self.reference.over:
            self.step(e.WorkerReady(worker))

    def end(self, worker, held):
        self.ended.append((worker, held.id, held.attempt))
        return worker, held.id, held.attempt

    def finish(self):
        """The first that a worker holds ends: whole or in part, some of its calls with errors."""
        worker = self.worker(self.busy())
        if worker is None:
            return
        held = self.reference.holds[worker][0]
        kind = self.reference.calls[held.id].kind
        how, seconds = self.draw(256), SECONDS[kind.function][self.draw(3)]
        made = None if how < 128 else how % (held.count + 1)
        indices = range(held.count if made is None else made)
        failed = [index for index in indices if how & 1 << index % 6] if how % 5 == 0 else []
        if kind.chained and failed:  # it ends with the first call that raises
            made, failed = failed[0] + 1, failed[:1]
        if kind.ranks > 1:
            made = None
        failures = tuple([(index, self.error()) for index in failed])
        self.step(e.TaskFinished(*self.end(worker, held), b"v", seconds, made, failures))

    def fail(self):
        worker = self.worker(self.busy())
        if worker is not None:
            held = self.reference.holds[worker][0]
            if self.killing and self.draw(2):
                self.step(e.TaskKilled(*self.end(worker, held), 1.0))
            else:
                self.step(e.TaskFailed(*self.end(worker, held), self.error(), 1.0))

    def answer(self):
        """A worker that was asked gives back what it has not begun."""
        worker = self.worker(self.reference.asked)
        if worker is not None:
            self.give_back(worker)
            self.step(e.RecallAnswered(worker))

    def give_back(self, worker=None):
        worker = self.worker(self.busy()) if worker is None else worker
        if worker is None:
            return
        for number, held in enumerate(list(self.reference.holds[worker])):
            kind = self.reference.calls[held.id].kind
            kept = 1 + self.draw(held.count) if number == 0 else 0
            if kept < held.count and kind.divisible and not (kept and kind.chained):
                self.step(e.TaskReturned(worker, held.id, held.attempt, kept))

    def suspend(self):
        worker = self.worker(self.busy())
        if worker is not None:
            held = self.reference.holds[worker][0]
            self.step(e.TaskSuspended(worker, held.id, held.attempt, timed=bool(self.draw(2))))

    def resume(self):
        suspended = self.reference.suspended
        worker = self.worker(worker for worker in suspended if suspended[worker])
        if worker is not None and len(self.reference.holds[worker]) < 3:
            held = suspended[worker][-1]
            self.step(e.TaskResumed(worker, held.id, held.attempt))

    def lose(self):
        worker = self.worker(self.reference.workers)
        if worker is not None and self.draw(3) == 0:
            self.step(e.WorkerLost(worker, "gone"))

    def stale(self):
        """A message about an attempt that is over arrives late, or once more: it changes nothing."""
        if not self.ended:
            return
        late = self.ended[self.draw(len(self.ended))]
        worker = late[0]
        for event in (
            e.TaskFinished(*late, b"", 1.0),
            e.TaskFinished(*late, b"", 1.0, 0),
            e.TaskFailed(*late, ERROR, 1.0),
            e.TaskKilled(*late, 1.0),
            e.TaskReturned(*late, 0),
            e.TaskSuspended(*late),
            e.TaskResumed(*late),
            *([] if worker in self.reference.asked else [e.RecallAnswered(worker)]),
        ):
            assert self.step(event) == []

    # -- the end -------------------------------------------------------------------------------------------------

    def wind_up(self):
        """Whatever was asked for is given; then all must be resolved, each call once, and the workers stopped."""
        self.data = iter(lambda: 0, None)
        if not self.reference.closed:
            self.step(e.SubmissionClosed())
        while self.by_hand:
            self.give()
        for worker in set(SITES) - self.reference.up:
            if not self.reference.over:
                self.step(e.WorkerReady(worker))
        while self.busy() or any(self.reference.suspended.values()):
            while any(self.reference.suspended.values()):
                self.resume()
                self.finish()
            self.finish()
        assert self.scheduler.over and self.reference.over
        assert all(self.reference.final[call] == 1 for call in self.reference.calls)
