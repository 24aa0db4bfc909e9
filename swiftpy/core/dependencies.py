"""Tasks that need results of others: who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swiftpy.core.queue import position
from swiftpy.core.task import Task


class Dependencies:
    """Blocked tasks, and for each unresolved call the tasks that need its result."""

    def __init__(self) -> None:
        self._missing: dict[int, int] = {}  # id of a blocked task -> how many results it still needs
        self._blocked: dict[int, Task] = {}
        self._dependents: dict[int, list[int]] = {}  # id of a call -> ids of tasks

    def __len__(self) -> int:
        return len(self._blocked)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._blocked.values())

    def add(self, task: Task) -> None:
        """Block a task until every call in its `after` is resolved."""
        needed = set(task.after) if len(task.after) > 1 else task.after
        self._blocked[task.id] = task
        self._missing[task.id] = len(needed)
        for call in needed:
            self._dependents.setdefault(call, []).append(task.id)

    def add_rest(self, rest: Task) -> None:
        """Block the rest of a chain until the call before it is resolved."""
        rest.after = (rest.id - 1,)
        self.add(rest)

    def resolved(self, first: int, count: int, failed: Iterable[int] = ()) -> list[Task]:
        """The calls `first` to `first + count` returned, except those at the indices `failed`: whom that frees.

        They are in the order in which they shall start.
        """
        freed: list[Task] = []
        if not self._dependents:
            return freed
        for call in range(first, first + count):
            if call in self._dependents and call - first not in failed:
                for task_id in self._dependents.pop(call):
                    if task_id not in self._missing:
                        continue  # it was cancelled because of another
                    self._missing[task_id] -= 1
                    if not self._missing[task_id]:
                        del self._missing[task_id]
                        task = self._blocked.pop(task_id)
                        task.after = ()
                        freed.append(task)
        freed.sort(key=position)
        return freed

    def failed(self, call: int) -> list[Task]:
        """A call will have no result: the tasks that needed it, which are blocked no more."""
        return [
            self._blocked.pop(task_id)
            for task_id in self._dependents.pop(call, ())
            if self._missing.pop(task_id, None) is not None
        ]

    def pop_all(self) -> list[Task]:
        """Take every blocked task, in order of submission."""
        tasks = [self._blocked[task_id] for task_id in sorted(self._blocked)]
        self._blocked.clear()
        self._missing.clear()
        self._dependents.clear()
        return tasks
