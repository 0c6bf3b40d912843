"""What the user hub really sends of the venue's events: all of them in order, unless a fault acts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from services.simulator.faults import Faults
from services.simulator.hub import HubClient
from services.simulator.state import Command, FillBooked
from services.simulator.timers import After

KINDS = ("event_drop", "event_repeat", "event_delay", "event_shuffle")
SHUFFLED_FOR_S = 0.5  # how long an event waits for others to change places with
Send = Callable[[list[HubClient], bytes], None]


class UserEvents:
    """The user hub's way out. Faults pick events by their name, such as GatewayUserTrade."""

    def __init__(self, *, faults: Faults, after: After, send: Send) -> None:
        self._faults = faults
        self._after = after
        self._send = send
        self._waiting: list[tuple[list[HubClient], bytes]] = []

    def arranged(self, commands: list[Command]) -> list[Command]:
        """Return a turn's commands in the order in which they are told."""
        if not self._faults.has("fills_first") or not any(isinstance(one, FillBooked) for one in commands):
            return commands
        if not self._faults.draw("fills_first", "GatewayUserTrade"):
            return commands
        return sorted(commands, key=lambda one: not isinstance(one, FillBooked))

    def publish(self, target: str, clients: list[HubClient], record: bytes) -> None:
        """Send one event to those who subscribed."""
        draw = self._faults.draw
        if not self._faults.has(*KINDS):
            self._send(clients, record)
            return
        if draw("event_drop", target):
            return
        repeated = draw("event_repeat", target)
        for _ in range(repeated.fault.copies if repeated else 1):
            if shuffled := draw("event_shuffle", target):
                self._shuffle(clients, record, shuffled.fault.window, shuffled.rng)
            elif late := draw("event_delay", target):
                self._later(late.delay_s, list(clients), record)
            else:
                self._send(clients, record)

    def _later(self, delay_s: float, clients: list[HubClient], record: bytes) -> None:
        self._after(delay_s, lambda: self._send(clients, record))

    def _shuffle(self, clients: list[HubClient], record: bytes, window: int, rng: Random) -> None:
        """Hold the event back until `window` of them wait, or for a while; then any of them goes."""
        if not self._waiting:
            self._after(SHUFFLED_FOR_S, lambda: self._release(0, rng))
        self._waiting.append((list(clients), record))
        self._release(window - 1, rng)

    def _release(self, keep: int, rng: Random) -> None:
        while len(self._waiting) > keep:
            self._send(*self._waiting.pop(rng.randrange(len(self._waiting))))
