"""The prop firm at the venue: judges accounts by its rules, liquidates and locks them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.simulator.closing import Liquidate
from services.simulator.firm_rules import FirmRules, Standing, begin, judge
from services.simulator.state import State
from services.simulator.store import Store
from services.simulator.venue import Venue
from shared.runtime.clock import Clock
from shared.runtime.logs import Log


def equity_of(state: State, account_id: int) -> Decimal:
    """Return balance plus open P&L."""
    equity = state.accounts[account_id].balance
    for position in state.positions.values():
        if position.account_id == account_id:
            book = state.books.get(position.contract_id)
            mark = None if book is None else (book.bid if position.net_qty > 0 else book.ask)
            if mark is None and book is not None:
                mark = book.last
            if mark is not None:
                value = state.known_contract(position.contract_id).tick_value
                equity += (Decimal(mark) - position.avg_ticks) * position.net_qty * value
    return equity


def is_flat(state: State, account_id: int) -> bool:
    """Return whether an account has neither positions nor orders."""
    has_position = any(one.account_id == account_id for one in state.positions.values())
    # Suspended children need no look: they live no longer than the entry that works.
    has_order = any(one.account_id == account_id for orders in state.working.values() for one in orders)
    return not has_position and not has_order


class Firm:
    """Apply the rules to the accounts that have any."""

    def __init__(
        self, *, venue: Venue, store: Store, rules: dict[int, FirmRules], clock: Clock, log: Log
    ) -> None:
        """Args:
        rules: By account id.
        """
        self._venue = venue
        self._store = store
        self._rules = rules
        self._clock = clock
        self._log = log
        self._allowed = {one: venue.state.accounts[one].can_trade for one in rules}
        self._standings: dict[int, Standing] = {}
        for account_id, own in rules.items():
            known = store.fact(f"firm:{account_id}", Standing)
            balance = venue.state.accounts[account_id].balance
            self._standings[account_id] = known or begin(own, balance, venue.now_ns())

    @property
    def has_accounts(self) -> bool:
        return bool(self._rules)

    def check(self) -> None:
        """Judge every account, and act on what follows."""
        for account_id, rules in self._rules.items():
            self._check(account_id, rules)

    def _check(self, account_id: int, rules: FirmRules) -> None:
        state, standing, now_ns = self._venue.state, self._standings[account_id], self._venue.now_ns()
        account, before = state.accounts[account_id], msgspec.structs.replace(standing)
        equity = equity_of(state, account_id)
        verdict = judge(rules, standing, balance=account.balance, equity=equity, now_ns=now_ns)
        if standing != before:
            self._store.put_fact(f"firm:{account_id}", standing)
        can_trade = verdict.can_trade and self._allowed[account_id]
        must_close = verdict.why and state.session_open and not is_flat(state, account_id)
        if not must_close and can_trade == account.can_trade:
            return
        if verdict.why:
            told = {"accountId": account_id, "equity": str(equity)}
            body = msgspec.json.encode(told)
            self._store.journal.attempt(f"by the firm: {verdict.why}", body, self._clock.now_ns())
            self._log.warning("firm_liquidates", account=account_id, why=verdict.why, equity=str(equity))
        self._venue.apply(Liquidate(now_ns=now_ns, account_id=account_id, can_trade=can_trade))
