"""The ProjectX gateway, put together: one object per process, one port per power it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from shared.broker.port import AccountPort, Clock, Credentials, Limiter, MarketPort, OrderPort, SessionPort
from shared.broker.projectx.client import ProjectXAccount, ProjectXMarket, ProjectXOrders, ProjectXSession
from shared.broker.projectx.gateway import Gateway, TokenSource
from shared.broker.projectx.link_words import LinkSettings
from shared.broker.projectx.links import HubAccess
from shared.broker.projectx.transport import Http
from shared.domain.instrument import Instrument


class ProjectXSettings(Struct, frozen=True, kw_only=True):
    """Where the gateway is; other firms on the same platform have other hosts.

    Attributes:
        stop_limit: This gateway takes stop-limit orders.
        live: Ask the live data subscription; practice and simulated accounts have only the other one.
    """

    api_url: str = "https://api.topstepx.com"
    hub_url: str = "https://rtc.topstepx.com/hubs"
    live: bool = False
    stop_limit: bool = False
    link: LinkSettings = LinkSettings()


class ProjectX:
    """Hands out the ports. All share one connection pool, one limiter and the newest token."""

    def __init__(
        self,
        *,
        settings: ProjectXSettings,
        clock: Clock,
        limiter: Limiter,
        token: TokenSource,
        chance: Callable[[], float],
        on_refused: Callable[[], None] = lambda: None,
        on_sent: Callable[[str], None] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            token: Newest session token or None; asked before each request and each hub connection.
            chance: Numbers in [0, 1), for the jitter of pauses.
            on_refused: Called when the broker does not accept the token.
            on_sent: Called with the path of each request that has just left.
        """
        self._settings = settings
        self._http = Http(base_url=settings.api_url, clock=clock, on_sent=on_sent)
        self._gateway = Gateway(
            http=self._http, limiter=limiter, clock=clock, token=token, on_refused=on_refused
        )
        self._hub = HubAccess(
            url=settings.hub_url,
            token=token,
            clock=clock,
            chance=chance,
            venue_now_ns=self.venue_now_ns,
            settings=settings.link,
        )

    def session(self, credentials: Credentials) -> SessionPort:
        return ProjectXSession(self._gateway, credentials)

    def market(self) -> MarketPort:
        return ProjectXMarket(self._gateway, self._hub, live=self._settings.live)

    def account(self, instruments: Mapping[str, Instrument] | None = None) -> AccountPort:
        """Return the account port.

        Args:
            instruments: contract_id -> instrument, read at each use: prices of these are checked
                against their ticks.
        """
        return ProjectXAccount(self._gateway, self._hub, {} if instruments is None else instruments)

    def orders(self) -> OrderPort:
        return ProjectXOrders(self._gateway, stop_limit=self._settings.stop_limit)

    def venue_now_ns(self) -> int | None:
        return self._http.venue_now_ns()

    async def close(self) -> None:
        await self._http.close()
