"""A link that carries bytes between two protocol ends and mistreats how they are cut."""

from __future__ import annotations

import random

from shared.broker.projectx.records import RECORD_SEPARATOR
from shared.broker.projectx.signalr import HubConnection, HubEvent


class FaultyLink:
    """Carries what each end wants to send; a seed decides where frames are cut, glued and repeated.

    Attributes:
        repeat_share: Of whole records that arrive twice (after the handshake).
    """

    def __init__(
        self, client: HubConnection, server: HubConnection, *, seed: int, repeat_share: float = 0.0
    ) -> None:
        self._ends = {"client": client, "server": server}
        self._chance = random.Random(seed)
        self._repeat_share = repeat_share
        self._on_the_way: dict[str, bytes] = {"client": b"", "server": b""}
        self.heard: dict[str, list[HubEvent]] = {"client": [], "server": []}

    def carry(self, now_ns: int = 0) -> None:
        """Deliver until both ends are quiet."""
        while self._collect():
            for end in self._ends:
                self._deliver(end, now_ns)

    def _collect(self) -> bool:
        for end, other in (("client", "server"), ("server", "client")):
            data = self._ends[end].take_output()
            if data and self._ends[end].is_open and self._repeat_share:
                data = self._repeated(data)
            self._on_the_way[other] += data
        return any(self._on_the_way.values())

    def _repeated(self, data: bytes) -> bytes:
        records = [record + RECORD_SEPARATOR for record in data.split(RECORD_SEPARATOR)[:-1]]
        return b"".join(
            record * (2 if self._chance.random() < self._repeat_share else 1) for record in records
        )

    def _deliver(self, end: str, now_ns: int) -> None:
        data, self._on_the_way[end] = self._on_the_way[end], b""
        while data:
            size = self._chance.randint(1, max(1, min(len(data), 80)))
            self.heard[end] += self._ends[end].receive(data[:size], now_ns)
            data = data[size:]
