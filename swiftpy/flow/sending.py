"""What goes to the workers when a task starts: its calls, with the values that they need by then."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.core.task import TaskState
from swiftpy.flow.calls import CANCELLED_CALL, Owner, pack_calls
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future, begin_all
from swiftpy.runtime.call import Payload
from swiftpy.runtime.order import FunctionForgotten
from swiftpy.runtime.store import Exchange, InArguments, Packed
from swiftpy.runtime.transport import SERVER, Transport

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper


#: Bytes of functions that came by value and are kept, by rank 0 and by each worker that has called them.
ROOM = 64 << 20


class _Known:
    """A function that workers cannot import: how many of its calls have not ended, and who has it."""

    __slots__ = ("calls", "definition", "workers")

    def __init__(self, definition: bytes) -> None:
        self.definition = definition
        self.calls = 0
        self.workers: set[int] = set()


class Sending:
    """Makes payloads. `futures` are those of the program's calls, by id; `keepers` those who keep results, by function.

    `data` is rank 0's part in the exchange of large values: it holds their calls' large arguments.
    """

    def __init__(
        self, transport: Transport, data: Exchange, futures: dict[int, Future], keepers: dict[str, Keeper]
    ) -> None:
        self._data, self._futures, self._keepers = data, futures, keepers
        self._known: OrderedDict[str, _Known] = OrderedDict()  # by name, those that were submitted last at the end
        self._size = 0  # of their definitions
        self._send = transport.send

    def know(self, function: Function, calls: int) -> None:
        """So many calls of this function will come.

        A program may make a function for each step of a loop, with the step's data in it: what is not in use goes
        when there are too many of them, on the workers, too.
        """
        if function.definition is None:
            return
        known = self._known.get(function.name)
        if known is None:
            known = self._known[function.name] = _Known(function.definition)
            self._size += len(known.definition)
        known.calls += calls
        self._known.move_to_end(function.name)
        if self._size > ROOM:
            for name in [name for name, known in self._known.items() if not known.calls]:
                self._forget(name)
                if self._size <= ROOM:
                    break

    def _forget(self, name: str) -> None:
        known = self._known.pop(name)
        self._size -= len(known.definition)
        for worker in known.workers:
            self._send(worker, FunctionForgotten(name))

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        task = command.task
        name = command.gang[0] if command.gang else command.worker, task.id

        def hold(index: int, packed: Packed) -> InArguments:
            self._data.held[task.id + index] = packed
            return InArguments(SERVER, task.id + index)

        owner: Owner | None = task.owner
        if owner is not None:
            calls, stay, column = owner.begin(command), owner.may_be_held, owner.column
        else:
            keeper = self._keepers.get(task.kind.function)
            calls, column = self._begin(task.id, task.payload, keeper), False
            stay = keeper is None and self._futures[task.id].may_be_held
        return pack_calls(self._definition(command), calls, name if stay else None, hold, column)

    def ended(self, report: ReportOutcome) -> None:
        """These calls need their arguments no more; one that is tried again will hold them again."""
        known = self._known.get(report.task.kind.function)
        if known is not None and report.state is not TaskState.READY:
            known.calls -= report.task.count - len(report.failed)
        if self._data.held:
            for id in report.task.ids:
                self._data.held.pop(id, None)

    def _definition(self, command: StartTask) -> bytes | None:
        """The function's definition, if the process that will call it does not have it."""
        known = self._known.get(command.task.kind.function)
        if known is None:
            return None
        if not command.task.kind.isolated:  # else it is for a process that may be another one next time
            if command.worker in known.workers:
                return None
            known.workers.add(command.worker)
        return known.definition

    def _begin(self, first: int, calls: list[Any], keeper: Keeper | None) -> list[Any]:
        """These calls as they are to be sent. The task's own may be sent again."""
        cancelled = begin_all(map(self._futures.__getitem__, range(first, first + len(calls))))
        if keeper is not None:
            calls = [keeper.begin(self._futures[id], call) for id, call in enumerate(calls, first)]
        elif cancelled:
            calls = list(calls)
        for index in cancelled:
            calls[index] = CANCELLED_CALL
        return calls
