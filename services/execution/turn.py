"""One decision: the state it changes, when it is made, what led to it, and the commands it results in."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.execution.events import Alarm, Command, Moment, Publish
from services.execution.state import State
from shared.domain.execution import OrderMessage


@dataclass(slots=True)
class Turn:
    """Handed down to everything that takes part in a decision."""

    state: State
    at: Moment
    cause: str = ""
    commands: list[Command] = field(default_factory=list)

    def do(self, command: Command) -> None:
        self.commands.append(command)

    def publish(self, message: OrderMessage) -> None:
        self.commands.append(Publish(message=message, cause=self.cause))

    def alarm(self, name: str, text: str) -> None:
        self.commands.append(Alarm(name=name, text=text))
