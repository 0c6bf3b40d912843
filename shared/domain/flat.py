"""Making an account flat: look at the broker, cancel and close what is there, look again. Pure.

Guard asks the broker, hands in what it showed and sends what comes back, until the account was seen flat
twice. (`julie panic` has a blunter rule of its own, in `julie/flat.py`: it runs for a minute with a person
beside it, and acts once more on what it saw last when the broker does not answer.) The rules:

* Only a look says what is there. An answer proves nothing: a stop may fill beside the close, closing leaves
  resting orders alive, and an order that was under way may land after all was gone.
* A look counts for a thing only when it began after that thing's last cancel or close was answered and had
  a moment to take effect. So nothing is closed twice because the first close was not shown yet.
* Half a look is acted upon (positions known, orders not), but never called flat.
* What does not go away is tried again for ever, with pauses that double: a closed market or a stubborn
  order must not eat the request budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from shared.domain.report import OrderReport, PositionReport

NS_PER_S = 1_000_000_000
LOOK_AFTER_S = 0.5
"""Between an answer and the look that may judge its effect."""
RETRY_MAX_S = 8.0
"""Longest pause before the same cancel or close is sent again."""
ANSWER_WAIT_S = 10.0
"""A cancel or close without an answer for so long may be sent again, when a look still shows the need."""
FLAT_LOOKS = 2
"""Looks in a row that must show nothing."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker showed of one account.

    Attributes:
        started_ns: Our monotonic clock before the first question was sent.
        working: Every order that may still execute, suspended ones too; None: the question failed.
        positions: None: the question failed.
    """

    started_ns: int
    working: Sequence[OrderReport] | None
    positions: Sequence[PositionReport] | None


class Cancel(msgspec.Struct, frozen=True):
    broker_order_id: int


class Close(msgspec.Struct, frozen=True):
    """The whole position, at market."""

    contract_id: str


Remedy = Cancel | Close


@dataclass(slots=True)
class Attempt:
    """Attributes: sent_ns: of the last try. answered_ns: None while it has no answer."""

    sent_ns: int
    answered_ns: int | None = None
    tries: int = 1


@dataclass(slots=True)
class MakingFlat:
    """What was sent so far, and how often nothing was left.

    Attributes:
        rounds: Looks that led to something being sent.
        flat_looks: Looks in a row that showed nothing at all.
    """

    attempts: dict[Remedy, Attempt] = field(default_factory=dict)
    rounds: int = 0
    flat_looks: int = 0

    @property
    def is_flat(self) -> bool:
        return self.flat_looks >= FLAT_LOOKS

    def waits(self, now_ns: int) -> bool:
        """Is something under way whose answer may still come?"""
        return any(_in_flight(attempt, now_ns) for attempt in self.attempts.values())


def decide(look: Look, making: MakingFlat, now_ns: int) -> list[Remedy]:
    """Take one look and return what to send now, cancels first.

    Args:
        now_ns: Monotonic, as `look.started_ns`.
    """
    wanted: list[Remedy] = [
        Cancel(number)
        for number in sorted(o.broker_order_id for o in look.working or () if o.status.may_fill)
    ]
    wanted += [Close(name) for name in sorted(p.contract_id for p in look.positions or () if p.net_qty)]
    if wanted or look.working is None or look.positions is None:
        making.flat_looks = 0
    elif all(_counts(look, attempt, now_ns, LOOK_AFTER_S) for attempt in making.attempts.values()):
        making.flat_looks += 1
    remedies = [remedy for remedy in wanted if _is_due(look, remedy, making, now_ns)]
    for remedy in remedies:
        known = making.attempts.get(remedy)
        tries = known.tries + 1 if known is not None else 1
        making.attempts[remedy] = Attempt(sent_ns=now_ns, tries=tries)
    making.rounds += bool(remedies)
    return remedies


def answered(remedy: Remedy, making: MakingFlat, now_ns: int, sent_ns: int) -> None:
    """Take the answer to one remedy; what it says does not matter, only that it is over.

    Args:
        now_ns: Monotonic.
        sent_ns: The `now_ns` of the `decide` that it was sent by. A late answer to an older try says nothing
            of the newer one, which is still under way.
    """
    attempt = making.attempts.get(remedy)
    if attempt is not None and attempt.sent_ns == sent_ns and attempt.answered_ns is None:
        attempt.answered_ns = now_ns


def _is_due(look: Look, remedy: Remedy, making: MakingFlat, now_ns: int) -> bool:
    attempt = making.attempts.get(remedy)
    if attempt is None:
        return True
    return _counts(look, attempt, now_ns, min(RETRY_MAX_S, LOOK_AFTER_S * 2 ** (attempt.tries - 1)))


def _counts(look: Look, attempt: Attempt, now_ns: int, pause_s: float) -> bool:
    """Did `look` begin after `attempt` was over and had a pause to take effect?"""
    if _in_flight(attempt, now_ns):
        return False
    over_ns = attempt.answered_ns
    if over_ns is None:
        over_ns = attempt.sent_ns + _ns(ANSWER_WAIT_S - LOOK_AFTER_S)
    return look.started_ns >= over_ns + _ns(pause_s)


def _in_flight(attempt: Attempt, now_ns: int) -> bool:
    return attempt.answered_ns is None and now_ns - attempt.sent_ns < _ns(ANSWER_WAIT_S)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
