"""Where a simulated process finds the simulated server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from proof.simulation.bus.client import SimClient
from proof.simulation.bus.link import SimBlockingConnection, SimConnection
from proof.simulation.bus.server import SimServer
from proof.simulation.calls import Calls
from shared.bus.client import Address

READ_REPEATS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SimAddress(Address):
    """Hand it to `RedisBus` or `BlockingBus`: their commands go to `server`, each through `calls`."""

    server: SimServer
    calls: Calls

    def raw_connection(self) -> Any:
        return SimConnection(self.server, self.calls)

    def blocking_connection(self, *, timeout_s: float) -> Any:
        return SimBlockingConnection(self.server, self.calls, timeout_s)

    def once_client(self) -> Any:
        return cast(Any, SimClient(self.server, self.calls, repeats=0))

    def retrying_client(self) -> Any:
        return cast(Any, SimClient(self.server, self.calls, repeats=READ_REPEATS))
