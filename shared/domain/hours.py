"""When new exposure may be taken: the venue's hours, the end of a session, and windows set by hand.

All by the venue's time, so that a recorded day is judged by its own clock.
"""

from __future__ import annotations

import re

import msgspec

from shared.domain.calendar import NS_PER_S, Closed, UnknownSession, minute_of_day, session_state
from shared.domain.denials import Denied, deny

MINUTES_A_DAY = 24 * 60
ZONES = ("UTC", "America/Chicago", "America/New_York")
_BLACKOUT = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d) (\S+)")


class Blackout(msgspec.Struct, frozen=True):
    """A window of every day, [`from_min`, `to_min`) after midnight of its zone; it may span midnight."""

    from_min: int
    to_min: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> Blackout:
        """Return the window that `text` describes, such as `08:25-08:35 America/Chicago`.

        Raises:
            ValueError: With how it is to be written.
        """
        found = _BLACKOUT.fullmatch(text)
        if found is None or found[5] not in ZONES:
            raise ValueError(f"{text!r}: write HH:MM-HH:MM and a zone of {', '.join(ZONES)}")
        hours = [int(found[1]), int(found[3])]
        minutes = [int(found[2]), int(found[4])]
        if max(hours) > 23 or max(minutes) > 59:
            raise ValueError(f"{text!r}: there is no such time of day")
        from_min, to_min = (60 * hour + minute for hour, minute in zip(hours, minutes, strict=True))
        if from_min == to_min:
            raise ValueError(f"{text!r}: the window is empty")
        return cls(from_min, to_min, found[5])

    def holds(self, minute: int) -> bool:
        if self.from_min < self.to_min:
            return self.from_min <= minute < self.to_min
        return minute >= self.from_min or minute < self.to_min

    def __str__(self) -> str:
        times = (f"{minute // 60:02}:{minute % 60:02}" for minute in (self.from_min, self.to_min))
        return f"{'-'.join(times)} {self.zone}"


def hours(
    symbol: str,
    market_ns: int | None,
    *,
    always_open: bool,
    before_close_s: int,
    blackouts: tuple[Blackout, ...],
) -> Denied | None:
    """Return why no new exposure may be taken in `symbol` at `market_ns`, None when it may.

    Args:
        symbol: Exchange ticker.
        market_ns: The venue's time, UTC; None when nobody has told it.
        always_open: The venue never closes: no calendar is asked.
        before_close_s: No new exposure so long before a close, in the venue's seconds.
        blackouts: Windows of every day.
    """
    if market_ns is None:
        return deny("market_time_unknown")
    for blackout in blackouts:
        minute = minute_of_day(market_ns, blackout.zone)
        if minute is None:
            return deny("session_unknown", symbol=symbol, why=f"no summer times for {blackout.zone}")
        if blackout.holds(minute):
            return deny("blackout", window=blackout, minute=f"{minute // 60:02}:{minute % 60:02}")
    if always_open:
        return None
    match session_state(symbol, market_ns):
        case UnknownSession(why=why):
            return deny("session_unknown", symbol=symbol, why=why)
        case Closed(until_ns=until_ns):
            return deny("market_closed", symbol=symbol, opens_in_s=(until_ns - market_ns) // NS_PER_S)
        case opened:
            left_s = (opened.until_ns - market_ns) // NS_PER_S
            if left_s < before_close_s:
                return deny("near_close", closes_in_s=left_s, least=before_close_s)
            return None
