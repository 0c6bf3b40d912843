"""How a worker lives with a Redis that is away: it tries again until it is back, or it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from services.strategy.ends import Stopped
from services.strategy.progress import AWAY, TURNS, ProgressPage
from shared.bus.blocking import BlockingBus
from shared.bus.port import BusAway, BusRefused, Fenced, RolledBack
from shared.runtime.logs import Log

RETRY_S = 0.2

T = TypeVar("T")


class Patience:
    """One worker's; the page shows whether it waits."""

    def __init__(
        self,
        bus: BlockingBus,
        *,
        page: ProgressPage,
        log: Log,
        sleep: Callable[[float], None],
        stop_asked: Callable[[], bool],
    ) -> None:
        self._bus, self._page, self._log = bus, page, log
        self._sleep, self._stop_asked = sleep, stop_asked

    def reach(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, however long Redis stays away.

        Raises:
            Fenced, RolledBack: At once; trying again would not help.
            Stopped: If we are asked to stop meanwhile.
        """
        while True:
            self._page.words[TURNS] += 1  # many slow answers after one another are no standstill
            try:
                result = call()
            except (Fenced, RolledBack):
                raise
            except (BusAway, BusRefused) as error:
                self.away(error)
            else:
                self._page.words[AWAY] = 0
                return result

    def back(self, error: BusAway | BusRefused) -> None:
        """Return when Redis answers again after `error`."""
        if isinstance(error, (Fenced, RolledBack)):
            raise error
        self.away(error)
        self.reach(lambda: self._bus.call("PING"))

    def away(self, error: BusAway | BusRefused) -> None:
        """Wait a moment, then try to connect."""
        if not self._page.words[AWAY]:
            self._log.warning("redis_away", why=str(error))
            self._page.words[AWAY] = 1
        if self._stop_asked():
            raise Stopped
        self._sleep(RETRY_S)
        try:
            self._bus.ready()
        except (BusAway, BusRefused):
            return
