"""What goes to the workers when a task starts: its calls, with the values that they need by then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swiftpy.core.events import ReportOutcome, StartTask
from swiftpy.flow.calls import CANCELLED_CALL, pack_calls
from swiftpy.flow.functions import Function
from swiftpy.flow.future import Future, begin_all
from swiftpy.runtime.call import Payload
from swiftpy.runtime.server import Server
from swiftpy.runtime.store import Exchange, InArguments, Packed
from swiftpy.runtime.transport import SERVER

if TYPE_CHECKING:
    from swiftpy.flow.memo import Keeper


class Sending:
    """Makes payloads. `futures` are those of the program's calls, by id; `keepers` those who keep results, by function.

    `data` is rank 0's part in the exchange of large values: it holds their calls' large arguments.
    """

    def __init__(self, server: Server, futures: dict[int, Future], keepers: dict[str, Keeper]) -> None:
        self._futures, self._keepers = futures, keepers
        self._functions: dict[str, Function] = {}  # those that workers cannot import
        self._sent: set[tuple[int, str]] = set()  # (worker, function) whose definition is there
        self.data = Exchange(SERVER, server.send)

    def know(self, function: Function) -> None:
        """Calls of this function will come."""
        if function.definition is not None:
            self._functions[function.name] = function

    def payload(self, command: StartTask) -> Payload:
        """See Client."""
        task = command.task
        place = command.gang[0] if command.gang else command.worker, task.id

        def hold(index: int, packed: Packed) -> InArguments:
            self.data.held[task.id + index] = packed
            return InArguments(SERVER, task.id + index)

        if task.owner is not None:
            calls, stay, column = task.owner.begin(command), task.owner.may_be_held, task.owner.column
        else:
            keeper = self._keepers.get(task.kind.function)
            calls, column = self._begin(task.id, task.payload, keeper), False
            stay = keeper is None and self._futures[task.id].may_be_held
        return pack_calls(self._definition(command), calls, place if stay else None, hold, column)

    def ended(self, report: ReportOutcome) -> None:
        """These calls need their arguments no more; one that is tried again will hold them again."""
        if self.data.held:
            for id in range(report.task.id, report.task.id + report.task.count):
                self.data.held.pop(id, None)

    def _definition(self, command: StartTask) -> bytes | None:
        """The function's definition, if the process that will call it does not have it."""
        function = self._functions.get(command.task.kind.function)
        if function is None:
            return None
        if not command.task.kind.isolated:  # else it is for a process that may be another one next time
            if (command.worker, function.name) in self._sent:
                return None
            self._sent.add((command.worker, function.name))
        return function.definition

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
