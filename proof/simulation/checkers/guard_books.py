"""The firm's rules by the broker's own books, apart from guard: what is broken, and what may have been.

Guard sees pictures that are some seconds old and puts them together with prices of other seconds. So what it
calls broken is held against every price and every state of the books of its last seconds.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from proof.simulation.loop import EPOCH_NS, NS_PER_S
from proof.simulation.scaled import FLAT_LEAD_S, START_BALANCE
from proof.simulation.venue import ACCOUNT_ID
from services.simulator.orders import Fill
from services.simulator.state import Command, PositionUpdated

if TYPE_CHECKING:
    from proof.simulation.world import World

TICK_USD = Decimal("1.25")
MICRO = Decimal("0.1")
KEPT_S = 20.0
CLOCK_S = 1.1
"""The broker's clock counts whole seconds."""

RULES = DAILY_LOSS, MAX_LOSS, CONTRACTS = "daily loss", "maximum loss", "contracts"


class Entry(NamedTuple):
    """The books at one moment.

    Attributes:
        realized: Of the trading day, with fees.
        avg: Ticks.
        floor: Equity at which the maximum loss is reached.
        allowed: Contracts, ten of ours are one.
    """

    at_ns: int
    balance: Decimal
    realized: Decimal
    net: int
    avg: Decimal
    floor: Decimal
    allowed: Decimal
    works: bool

    @property
    def is_flat(self) -> bool:
        return self.net == 0 and not self.works


class GuardBooks:
    """See the module.

    Attributes:
        entries: The newest of the books, oldest first; each holds until the next.
        marks: When the venue showed which bid, ticks.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._plan = plan = world.plan.guard
        self.entries: deque[Entry] = deque()
        self.marks: deque[tuple[int, int]] = deque()
        self._turns_ns = EPOCH_NS + plan.reopen_s * NS_PER_S if plan.reopen_s else None
        self.eod_balance = self.high_balance = START_BALANCE
        self._turned = False

    def happened(self, command: Command) -> None:
        """Take down what was true between two things that happened at once, and how things stand now."""
        self.note()
        if isinstance(command, PositionUpdated):
            position, now = command.position, self.entries[-1]
            if (position.net_qty, position.avg_ticks) != (now.net, now.avg):
                self.entries.append(now._replace(net=position.net_qty, avg=position.avg_ticks))
                self.entries.append(now)

    def note(self) -> None:
        """Take down how things stand."""
        world, now_ns = self._world, self._world.clock.true_ns()
        state = world.venue.state
        if self._turns_ns is not None and not self._turned and now_ns >= self._turns_ns:
            self._turned = True
            later = [one for one in state.fills if one.created_ns >= self._turns_ns]
            self.eod_balance = self._balance() - sum(map(_net, later), Decimal(0))
            self.high_balance = max(self.high_balance, self.eod_balance)
        position = state.positions.get((ACCOUNT_ID, world.venue.contract.id))
        since_ns = self._turns_ns if self._turned and self._turns_ns is not None else 0
        entry = Entry(
            at_ns=now_ns,
            balance=self._balance(),
            realized=sum((_net(one) for one in state.fills if one.created_ns >= since_ns), Decimal(0)),
            net=position.net_qty if position is not None else 0,
            avg=position.avg_ticks if position is not None else Decimal(0),
            floor=self._floor(),
            allowed=self._allowed(),
            works=bool(world.venue.working()),
        )
        if not self.entries or self.entries[-1][1:] != entry[1:]:
            self.entries.append(entry)
        if not self.marks or self.marks[-1][1] != world.surroundings.bid:
            self.marks.append((now_ns, world.surroundings.bid))
        oldest_ns = now_ns - round(KEPT_S * NS_PER_S)
        while len(self.entries) > 1 and self.entries[1].at_ns < oldest_ns:
            self.entries.popleft()
        while len(self.marks) > 1 and self.marks[1][0] < oldest_ns:
            self.marks.popleft()

    def _balance(self) -> Decimal:
        return self._world.venue.state.accounts[ACCOUNT_ID].balance

    def _floor(self) -> Decimal:
        level = self.high_balance - self._plan.max_loss
        return min(level, START_BALANCE) if self._plan.floor_stops else level

    def _allowed(self) -> Decimal:
        profit = self.eod_balance - START_BALANCE
        allowed = [Decimal(qty) for least, qty in self._plan.contracts if profit >= Decimal(least)]
        return allowed[-1] if allowed else Decimal(self._plan.contracts[0][1] if self._plan.contracts else 0)

    # -- what is asked ------------------------------------------------------------

    @property
    def now(self) -> Entry:
        return self.entries[-1]

    def broken(self) -> list[str]:
        """Return which rules are broken now."""
        return [rule for rule in RULES if self._breaks(rule, self.now, self.marks[-1][1])]

    def may_be_broken(self, rule: str, from_ns: int) -> bool:
        """Return whether books and prices of any moments since then together break a rule."""
        entries, bids = self._since(from_ns)
        floor, allowed = max(one.floor for one in entries), min(one.allowed for one in entries)
        return any(
            self._breaks(rule, entry._replace(floor=floor, allowed=allowed), bid)
            for entry in entries
            for bid in bids
        )

    def were_kept(self, from_ns: int) -> bool:
        """Return whether books and prices of any moments since then together break no rule."""
        entries, bids = self._since(from_ns)
        return any(
            not any(self._breaks(rule, entry, bid) for rule in RULES) for entry in entries for bid in bids
        )

    def was_flat(self, from_ns: int) -> bool:
        """Return whether there was nothing at the broker at any moment since then."""
        return any(one.is_flat and self._until(at) >= from_ns for at, one in enumerate(self.entries))

    def closing(self, now_ns: int, margin_s: float) -> bool:
        """Return whether the account must be flat by the hours; with a margin also shortly around them."""
        if not self._plan.flat_by_s:
            return False
        after_s = (now_ns - EPOCH_NS) / NS_PER_S
        begins_s = self._plan.flat_by_s - FLAT_LEAD_S
        return begins_s + CLOCK_S - margin_s <= after_s < self._plan.reopen_s + margin_s

    def _since(self, from_ns: int) -> tuple[list[Entry], list[int]]:
        last = len(self.marks) - 1
        bids = [
            bid for at, (_, bid) in enumerate(self.marks) if at == last or self.marks[at + 1][0] >= from_ns
        ]
        return [one for at, one in enumerate(self.entries) if self._until(at) >= from_ns], bids

    def _until(self, at: int) -> int:
        return self.entries[at + 1].at_ns if at + 1 < len(self.entries) else 1 << 63

    def _breaks(self, rule: str, entry: Entry, bid: int) -> bool:
        plan = self._plan
        if rule == CONTRACTS:
            return bool(plan.contracts) and abs(entry.net) * MICRO > entry.allowed
        mark = bid if entry.net > 0 else bid + 1
        open_pnl = (mark - entry.avg) * entry.net * TICK_USD if entry.net else Decimal(0)
        if rule == DAILY_LOSS:
            return bool(plan.daily_loss) and entry.realized + open_pnl <= -plan.daily_loss
        return bool(plan.max_loss) and entry.balance + open_pnl <= entry.floor


def _net(fill: Fill) -> Decimal:
    return (fill.profit_and_loss or Decimal(0)) - fill.fees
