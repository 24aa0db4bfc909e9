"""A dumb second scheduler: one record for each call, lists, full scans. It says what must be true, not how to get there
fast; and where the real one is free to choose (how many calls travel together), it checks that the choice is legal."""

from collections import Counter, namedtuple
from dataclasses import dataclass, field

from swiftpy.core import events as e
from swiftpy.core.pieces import MOST_TASKS
from swiftpy.core.task import FINAL_STATES, TRANSITIONS, TaskState
from swiftpy.errors import TaskError

BLOCKED, READY, RUNNING = TaskState.BLOCKED, TaskState.READY, TaskState.RUNNING
DONE, FAILED, INTERRUPTED = TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED

Held = namedtuple("Held", "id attempt count")


@dataclass
class Call:
    id: int
    kind: object
    needs: set
    state: TaskState = BLOCKED
    failures: int = 0
    attempt: int = 0
    ended: list = field(default_factory=list)  # of a parallel call: how it ended on each worker
    gang: tuple = ()

    @property
    def order(self):
        return -self.kind.priority, -self.kind.depth, self.id


class Reference:
    def __init__(self, seats):
        self.seats = dict(seats)
        self.workers = dict(seats)
        self.up = set()
        self.calls = {}
        self.open = {}  # those of them that are not resolved
        self.holds = {worker: [] for worker in seats}
        self.suspended = {worker: [] for worker in seats}
        self.asked = set()
        self.draining = self.closed = self.over = False
        self.final = Counter()

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, event, commands):
        """Take in an event and what the scheduler made of it; raises AssertionError if that is wrong."""
        self.ready_before = [call for call in self.open.values() if call.state is READY]
        self.expected = []
        getattr(self, f"_{type(event).__name__}")(event)
        self._reject()
        self._compare_reports(commands)
        asked = []
        for command in commands:
            if isinstance(command, e.StartTask):
                self._started(command)
            elif isinstance(command, e.RecallTasks):
                assert command.worker not in self.asked and self.holds[command.worker]
                self.asked.add(command.worker)
            elif isinstance(command, e.InterruptTask | e.KillTask):
                asked.append((command.worker, command.task_id, command.attempt))
        if isinstance(event, e.InterruptRequested | e.GraceExpired):
            assert sorted(asked) == sorted(self._all_held())
        else:
            assert not asked
        self._nobody_waits_in_vain()
        self._stopped([command.worker for command in commands if isinstance(command, e.StopWorker)], event)

    def _compare_reports(self, commands):
        reported = []
        for command in commands:
            if isinstance(command, e.ReportOutcome):
                for index in range(command.task.count):
                    if command.state is not DONE or index not in command.failed:
                        reported.append((command.task.id + index, command.state))
        assert sorted(reported, key=str) == sorted(self.expected, key=str)

    def _stopped(self, stopped, event):
        quiet = not self.open
        if self.over:
            assert stopped == ([event.worker] if isinstance(event, e.WorkerReady) else [])
        elif self.closed and quiet:
            self.over = True
            assert sorted(stopped) == sorted(self.workers)
        else:
            assert not stopped

    # -- events --------------------------------------------------------------------------------------------------

    def _TaskSubmitted(self, event):  # noqa: N802
        task = event.task
        for call in range(task.id, task.id + task.count):
            needs = set(task.after) | ({call - 1} if task.kind.chained and call > task.id else set())
            self.calls[call] = self.open[call] = Call(call, task.kind, needs)
            if self.draining:
                self._report(self.calls[call], INTERRUPTED)
            elif not needs:
                self._become(self.calls[call], READY)

    def _ValueGiven(self, event):  # noqa: N802
        if event.error is None:
            self._resolve(event.id)
        else:
            self._fail_those_that_need(event.id)

    def _SubmissionClosed(self, event):  # noqa: N802
        self.closed = True

    def _WorkerReady(self, event):  # noqa: N802
        self.workers[event.worker] = self.seats[event.worker]
        if not self.over:
            self.up.add(event.worker)

    def _WorkerLost(self, event):  # noqa: N802
        worker = event.worker
        del self.workers[worker]
        self.up.discard(worker)
        self.asked.discard(worker)
        held, self.holds[worker] = self.holds[worker], []
        begun, self.suspended[worker] = self.suspended[worker], []
        for one in begun + [one for one in held if one is held[0] or not self._calls(one)[0].kind.divisible]:
            self._attempt_failed(one, TaskError("lost", event.reason))
        for one in held[1:]:
            if self._calls(one)[0].kind.divisible:
                self._not_begun(self._calls(one))

    def _TaskFinished(self, event):  # noqa: N802
        held = self._take(self.holds, event)
        if held is None:
            return
        calls = self._calls(held)
        if calls[0].kind.ranks > 1:
            self._part_ended(calls[0], event.failures[0][1] if event.failures else "done")
            return
        made = len(calls) if event.made is None else event.made
        failed = dict(event.failures)
        for index, call in enumerate(calls[:made]):
            if index not in failed:
                self._report(call, DONE)
        self._not_begun(calls[made:])
        for index, error in failed.items():
            self._fail(calls[index], error)

    def _TaskFailed(self, event):  # noqa: N802
        held = self._take(self.holds, event)
        if held is not None:
            self._attempt_failed(held, event.error)

    def _TaskKilled(self, event):  # noqa: N802
        held = self._take(self.holds, event)
        if held is not None and self._calls(held)[0].kind.ranks > 1:
            self._part_ended(self._calls(held)[0], "killed")
        elif held is not None:
            for call in self._calls(held):
                self._report(call, INTERRUPTED)

    def _TaskReturned(self, event):  # noqa: N802
        held = self._take(self.holds, event)
        if held is not None:
            if event.kept:
                self.holds[event.worker].insert(0, held._replace(count=event.kept))
            self._not_begun(self._calls(held)[event.kept :])

    def _RecallAnswered(self, event):  # noqa: N802
        self.asked.discard(event.worker)

    def _TaskSuspended(self, event):  # noqa: N802
        held = self._take(self.holds, event)
        if held is not None:
            self.suspended[event.worker].append(held)

    def _TaskResumed(self, event):  # noqa: N802
        held = self._take(self.suspended, event)
        if held is not None:
            self.holds[event.worker].insert(0, held)

    def _DrainRequested(self, event):  # noqa: N802
        self.draining = self.closed = True
        for call in list(self.open.values()):
            if call.state in (READY, BLOCKED):
                self._report(call, INTERRUPTED)

    def _InterruptRequested(self, event):  # noqa: N802
        assert self.draining

    _GraceExpired = _InterruptRequested

    # -- what becomes of calls -----------------------------------------------------------------------------------

    def _become(self, call, state):
        assert state in TRANSITIONS[call.state], f"{call} -> {state}"
        call.state = state

    def _report(self, call, state):
        if state is READY:
            self._become(call, BLOCKED if call.needs else READY)
        else:
            self._become(call, state)
        self.expected.append((call.id, state))
        self.final[call.id] += state in FINAL_STATES
        assert self.final[call.id] <= 1
        if state in FINAL_STATES:
            del self.open[call.id]
        if state is DONE:
            self._resolve(call.id)
        elif state is FAILED:
            self._fail_those_that_need(call.id)

    def _fail_those_that_need(self, call_id):
        for other in list(self.open.values()):
            if call_id in other.needs and other.state is BLOCKED:
                self._report(other, FAILED)

    def _resolve(self, call_id):
        for other in self.open.values():
            other.needs.discard(call_id)
            if other.state is BLOCKED and not other.needs:
                self._become(other, READY)

    def _not_begun(self, calls):
        for call in calls:
            if self.draining:
                self._report(call, INTERRUPTED)
            else:
                self._become(call, BLOCKED if call.needs else READY)

    def _fail(self, call, error):
        call.failures += 1
        again = INTERRUPTED if self.draining else READY
        self._report(call, FAILED if call.failures > call.kind.retries or error.kind == "cancelled" else again)

    def _attempt_failed(self, held, error):
        calls = self._calls(held)
        if calls[0].kind.ranks > 1:
            self._part_ended(calls[0], error)
            return
        for call in calls:
            if call.state is RUNNING:  # a chained run fails as one: those after the first are not cancelled by it
                self._fail(call, error)

    def _part_ended(self, call, how):
        call.ended.append(how)
        if len(call.ended) == call.kind.ranks:
            if "killed" in call.ended:
                self._report(call, INTERRUPTED)
            elif errors := [how for how in call.ended if isinstance(how, TaskError)]:
                self._fail(call, errors[0])
            else:
                self._report(call, DONE)

    def _reject(self):
        for call in list(self.open.values()):
            if call.state is READY and sum(self._fits(call, worker) for worker in self.workers) < call.kind.ranks:
                self._report(call, FAILED)

    # -- what the scheduler is free to choose --------------------------------------------------------------------

    def _started(self, command):
        task, worker, kind = command.task, command.worker, command.task.kind
        calls = [self.calls[call] for call in range(task.id, task.id + task.count)]
        assert task.count >= 1 and list(task.payload) == [call.id for call in calls]
        assert worker in self.up and not self.draining
        assert all(call.kind is kind for call in calls) and self._fits(calls[0], worker)
        for call in self.ready_before:
            in_vain = call.state is READY and self._fits(call, worker) and call.order < calls[0].order
            assert not in_vain, f"{call} should go before {task}"
        if kind.ranks > 1:
            assert not self.holds[worker] and worker in command.gang
            if calls[0].state is READY:
                assert len(set(command.gang)) == kind.ranks
                self._begin(calls, command)
                calls[0].ended, calls[0].gang = [], command.gang
            assert calls[0].gang == command.gang and calls[0].attempt == command.attempt
        else:
            held = [self._calls(one)[0].kind for one in self.holds[worker]]
            assert len(held) < MOST_TASKS and command.gang == ()
            assert all(other.divisible for other in [*held, kind]) or (not held and task.count == 1)
            self._begin(calls, command)
        self.holds[worker].append(Held(task.id, command.attempt, task.count))

    def _begin(self, calls, command):
        for index, call in enumerate(calls):
            chained = call.kind.chained and index > 0
            assert call.state is (BLOCKED if chained else READY)
            assert call.needs == ({call.id - 1} if chained else set())
            assert command.attempt > call.attempt, "two attempts with one number"
            call.attempt = command.attempt
            self._become(call, RUNNING)

    def _nobody_waits_in_vain(self):
        gathered = Counter()
        for worker in self.up:
            if not self.holds[worker]:
                first = min(
                    (call for call in self.open.values() if call.state is READY and self._fits(call, worker)),
                    key=lambda call: call.order,
                    default=None,
                )
                assert first is None or first.kind.ranks > 1, f"worker {worker} waits, {first} is ready"
                if first is not None:
                    gathered[first.id] += 1
        for call, workers in gathered.items():
            assert workers < self.calls[call].kind.ranks, f"enough workers wait for {call}"

    # -- look-ups ------------------------------------------------------------------------------------------------

    def _fits(self, call, worker):
        target, seat = call.kind.target, self.seats[worker]
        if target.soft:
            return True
        if target.rank is not None:
            return target.rank == worker
        return target.node in (None, seat.node) and target.kind in (None, seat.kind)

    def _calls(self, held):
        return [self.calls[call] for call in range(held.id, held.id + held.count)]

    def _take(self, holders, event):
        for held in holders[event.worker]:
            if (held.id, held.attempt) == (event.task_id, event.attempt):
                holders[event.worker].remove(held)
                return held
        return None

    def _all_held(self):
        for holders in (self.holds, self.suspended):
            for worker, held in holders.items():
                yield from ((worker, one.id, one.attempt) for one in held)
