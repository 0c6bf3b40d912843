"""How a venue begins, or goes on after a restart: its time, its accounts and orders, its synthetic market."""

from __future__ import annotations

from datetime import datetime

from services.simulator import sessions
from services.simulator.bars import MINUTE_NS
from services.simulator.config import HOST_TIME, SimulatorConfig
from services.simulator.contracts import Contract
from services.simulator.history import PastBars
from services.simulator.market_synthetic import FloodMarket, SyntheticMarket, first_ticks
from services.simulator.orders import Account
from services.simulator.state import AccountUpdated, Rules, State
from services.simulator.store import Store
from services.simulator.venue import Venue, VenueSettings


def _always(now_ns: int) -> bool:
    return True


def start_ns(config: SimulatorConfig, store: Store, host_now_ns: int) -> int:
    """Return where a synthetic market's time begins: host time, the stored time, or the default."""
    if config.venue_start == HOST_TIME:
        return host_now_ns
    stored = store.venue_ns()
    if stored is not None:
        return sessions.next_open_ns(stored)
    if config.venue_start is not None:
        return int(datetime.fromisoformat(config.venue_start).timestamp()) * 1_000_000_000
    return sessions.last_day_session_open_ns(host_now_ns)


def load_state(config: SimulatorConfig, store: Store, now_ns: int) -> State:
    """Return the stored state with the accounts of the settings."""
    rules = Rules(
        fees=config.fees_usd,
        bracket_ticks_min=config.bracket_ticks_min,
        stop_limit=config.stop_limit_orders,
        close_cancels_brackets=config.close_cancels_brackets,
    )
    state = store.load(rules)
    # Stored orders are asked for before the first market event: their contracts resolve by date.
    state.now_ns = max(state.now_ns, now_ns)
    opened = []
    for one in config.accounts:
        known = state.accounts.get(one.id)
        account = Account(
            id=one.id,
            name=one.name,
            balance=one.balance if known is None else known.balance,
            can_trade=one.can_trade,
            auto_oco=one.auto_oco,
        )
        state.accounts[one.id] = account
        opened.append(AccountUpdated(account=account))
    store.write(state, list(opened), now_ns)
    return state


def venue_settings(config: SimulatorConfig) -> VenueSettings:
    """Return what the source of the market demands of the venue: a replay loses nothing."""
    lossless = config.source == "replay"
    return VenueSettings(
        envelope=config.hub.envelope,
        snapshot_on_subscribe=config.hub.snapshot_on_subscribe,
        conflate_above_bytes=None if lossless else config.hub.conflate_above_bytes,
        unsent_max_bytes=config.hub.unsent_max_bytes,
        arrays=config.hub.arrays,
        last_quotes=not lossless and config.flood_quotes_per_s == 0,
        depth=config.flood_quotes_per_s == 0,
    )


def open_synthetic(
    config: SimulatorConfig, venue: Venue, store: Store, contracts: list[Contract]
) -> SyntheticMarket | FloodMarket:
    """Open a synthetic market of these contracts, each where it left off."""
    now_ns, seed = venue.now_ns(), config.seed
    open_at = _always if config.venue_start == HOST_TIME else sessions.is_open
    last_ticks: dict[str, int] = {}
    for one in contracts:
        began_ns, began_ticks = _beginning(store, one, now_ns)
        past = PastBars(one, seed=seed, end_ns=began_ns, close_ticks=began_ticks, open_at=open_at)
        venue.open_market(one, past=past)
        bars = venue.minute_bars(one.id, began_ns)
        last_ticks[one.id] = bars[-1].close if bars else began_ticks
    if config.flood_quotes_per_s:
        return FloodMarket(contracts)
    return SyntheticMarket(contracts, seed=seed, start_ns=now_ns, last_ticks=last_ticks, open_at=open_at)


def _beginning(store: Store, contract: Contract, now_ns: int) -> tuple[int, int]:
    """Return when and at what price this contract's market first began."""
    name = f"began:{contract.id}"
    known = store.fact(name, tuple[int, int])
    if known is None:
        known = (now_ns // MINUTE_NS * MINUTE_NS, first_ticks(contract))
        store.put_fact(name, known)
    return known
