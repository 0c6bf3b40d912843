"""The venue's books as they were some seconds ago: what searches tell that lag behind the truth."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable

from services.simulator.orders import Fill, Order, Position
from services.simulator.state import Command, FillBooked, OrderUpdated, PositionUpdated, State


class LaggingBooks:
    """Follow a state at a distance, by the commands that its turns return."""

    def __init__(self, state: State, *, lag_s: float, monotonic_ns: Callable[[], int]) -> None:
        self.orders: dict[int, Order] = {one.id: copy.copy(one) for one in state.orders.values()}
        self.positions: dict[tuple[int, str], Position] = {
            key: copy.copy(one) for key, one in state.positions.items()
        }
        self.fills: list[Fill] = list(state.fills)
        self._lag_ns = int(lag_s * 1e9)
        self._monotonic_ns = monotonic_ns
        self._coming: deque[tuple[int, list[Command]]] = deque()

    def hear(self, commands: list[Command]) -> None:
        """Take what has just happened, to be told later."""
        self._coming.append((self._monotonic_ns() + self._lag_ns, commands))

    def catch_up(self) -> LaggingBooks:
        """Apply what is old enough by now."""
        now_ns = self._monotonic_ns()
        while self._coming and self._coming[0][0] <= now_ns:
            for command in self._coming.popleft()[1]:
                self._apply(command)
        return self

    def _apply(self, command: Command) -> None:
        match command:
            case OrderUpdated(order=order):
                self.orders[order.id] = order
            case FillBooked(fill=fill):
                self.fills.append(fill)
            case PositionUpdated(position=position):
                key = (position.account_id, position.contract_id)
                if position.net_qty == 0:
                    self.positions.pop(key, None)
                else:
                    self.positions[key] = position
            case _:
                pass
