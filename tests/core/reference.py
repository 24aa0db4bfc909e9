"""A dumb second scheduler: lists, full scans, no indexes. It says what must be true, not how to get there fast."""

from swiftpy.core.events import (
    DrainRequested,
    SubmissionClosed,
    TaskFailed,
    TaskFinished,
    TaskKilled,
    TaskSubmitted,
    WorkerLost,
    WorkerReady,
)
from swiftpy.core.task import TaskState


class Reference:
    def __init__(self, workers):
        self.workers = dict(workers)
        self.tasks, self.state, self.attempts = {}, {}, {}
        self.idle, self.running = [], {}
        self.draining = False

    def step(self, event):
        if isinstance(event, TaskSubmitted):
            self.tasks[event.task.id] = event.task
            self.attempts[event.task.id] = 0
            self.state[event.task.id] = TaskState.INTERRUPTED if self.draining else TaskState.READY
        elif isinstance(event, WorkerReady):
            self.idle.append(event.worker)
        elif isinstance(event, WorkerLost):
            del self.workers[event.worker]
            self.idle = [w for w in self.idle if w != event.worker]
            if event.worker in self.running:
                self._attempt_failed(self.running.pop(event.worker))
        elif isinstance(event, TaskFinished | TaskFailed | TaskKilled):
            if self.running.get(event.worker) == event.task_id and self.attempts[event.task_id] == event.attempt:
                del self.running[event.worker]
                self.idle.append(event.worker)
                if isinstance(event, TaskFailed):
                    self._attempt_failed(event.task_id)
                elif isinstance(event, TaskFinished):
                    self.state[event.task_id] = TaskState.DONE
                else:
                    self.state[event.task_id] = TaskState.INTERRUPTED
        elif isinstance(event, DrainRequested):
            self.draining = True
            for t, s in self.state.items():
                if s is TaskState.READY:
                    self.state[t] = TaskState.INTERRUPTED
        elif not isinstance(event, SubmissionClosed):
            raise AssertionError(event)
        self._reject()
        self._match()

    def _attempt_failed(self, task_id):
        if self.attempts[task_id] > self.tasks[task_id].retries:
            self.state[task_id] = TaskState.FAILED
        else:
            self.state[task_id] = TaskState.INTERRUPTED if self.draining else TaskState.READY

    def _may_run(self, task, worker):
        target = task.target
        return target.rank in (None, worker) and target.node in (None, self.workers[worker])

    def _ready(self):
        ready = [self.tasks[t] for t, s in self.state.items() if s is TaskState.READY]
        return sorted(ready, key=lambda task: (-task.priority, task.id))

    def _reject(self):
        for task in self._ready():
            if not any(self._may_run(task, worker) for worker in self.workers):
                self.state[task.id] = TaskState.FAILED

    def _match(self):
        for worker in list(self.idle):
            for task in self._ready():
                if self._may_run(task, worker):
                    self.state[task.id] = TaskState.RUNNING
                    self.attempts[task.id] += 1
                    self.running[worker] = task.id
                    self.idle.remove(worker)
                    break
