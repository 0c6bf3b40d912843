"""The newest minutes that went out, kept to fold an interval from that somebody asks for later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.domain.bars import MINUTE_NS, NEVER_NS
from shared.domain.market import Bar

KEPT_MAX = 1_500
"""A session has 1,380 minutes."""


@dataclass(slots=True)
class Recent:
    """Attributes: whole_from_ns: From here on every minute that traded is here; `NEVER_NS` for none."""

    whole_from_ns: int = NEVER_NS
    _minutes: dict[int, Bar] = field(default_factory=dict)

    def starts_whole_at(self, ts_ns: int) -> None:
        """Every minute from `ts_ns` on will be put in, unless that is known already of an earlier time."""
        if self.whole_from_ns == NEVER_NS:
            self.whole_from_ns = ts_ns

    def has_hole_before(self, ts_ns: int) -> None:
        """Minutes before `ts_ns` are missing for good."""
        self.whole_from_ns = ts_ns

    def forget(self) -> None:
        """What was kept belongs to another contract month."""
        self.whole_from_ns = NEVER_NS
        self._minutes.clear()

    def put(self, minute: Bar) -> None:
        """Keep a minute that goes out."""
        self._minutes[minute.ts_open_ns] = minute
        if len(self._minutes) > KEPT_MAX:
            oldest_ns = min(self._minutes)
            del self._minutes[oldest_ns]
            self.whole_from_ns = max(self.whole_from_ns, oldest_ns + MINUTE_NS)

    def put_missing(self, minute: Bar) -> None:
        """Keep a minute that went out before this run; what went out in this run stays as it is."""
        if minute.ts_open_ns not in self._minutes:
            self.put(minute)

    def over(self, others: Iterable[Bar]) -> list[Bar]:
        """Return `others` and our minutes, oldest first; what went out beats what did not."""
        minutes = {bar.ts_open_ns: bar for bar in others} | self._minutes
        return [minutes[ts] for ts in sorted(minutes)]
