"""The venue in operation: the pure core with its memory, its bars and its listeners.

Between the sockets (gateway, hubs, the market's pump) and `core.decide`. One call is one
turn: decide, write to the store, then tell the user hub; a client never hears of what a
crash could still undo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from services.simulator import core, rows
from services.simulator.bars import Bar, BarBook
from services.simulator.contracts import Contract, resolve
from services.simulator.core import MarketTraded, SessionChanged, TouchChanged
from services.simulator.faults import Faults
from services.simulator.history import PastBars
from services.simulator.hub import Hub, HubClient
from services.simulator.market_faults import MarketFaults
from services.simulator.market_wire import ContractWire, IsoClock
from services.simulator.state import (
    AccountUpdated,
    Command,
    FillBooked,
    OrderUpdated,
    PositionUpdated,
    Reply,
    State,
)
from services.simulator.store import Store
from services.simulator.timers import After
from services.simulator.user_events import UserEvents
from shared.broker.projectx.signalr import encode_invocation


class VenueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes:
    envelope: User events as {"action","data"}.
    snapshot_on_subscribe: New market subscribers get the present touch at once.
    conflate_above_bytes: Unsent bytes of a client above which quotes and depth are
        conflated for it; None never drops anything.
    unsent_max_bytes: Unsent bytes above which a client is cut; a market client only when
        conflation is on.
    arrays: Trades and depth as arrays; False: bare objects.
    last_quotes: Each trade is followed by a quote with last price and volume.
    depth: Size changes are told; a flood of quotes goes without.
    """

    envelope: bool = True
    snapshot_on_subscribe: bool = True
    conflate_above_bytes: int | None = None
    unsent_max_bytes: int = 16_777_216
    arrays: bool = True
    last_quotes: bool = True
    depth: bool = True


class _Market:
    """One contract's market data on its way out."""

    def __init__(self, contract: Contract, wire: ContractWire, bars: BarBook, hub: Hub) -> None:
        self.contract = contract
        self.wire = wire
        self.bars = bars
        self.quotes = hub.subscribers("quotes", contract.id)
        self.trades = hub.subscribers("trades", contract.id)
        self.depth = hub.subscribers("depth", contract.id)


class Venue:
    """Carry out requests and market events.

    Attributes:
        subscribed: Called with a contract id after each market subscription.
        heard: Called with the commands of every turn that changed something.
    """

    def __init__(
        self,
        *,
        state: State,
        store: Store,
        settings: VenueSettings,
        now_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        faults: Faults,
        after: After,
    ) -> None:
        self.state = state
        self.now_ns = now_ns
        self.monotonic_ns = monotonic_ns
        self.heard: list[Callable[[list[Command]], None]] = []
        self.market_hub = Hub(is_user_hub=False, known_key=self._is_contract, subscribed=self._on_market)
        self.user_hub = Hub(is_user_hub=True, known_key=self._is_account, subscribed=self._on_user)
        self.subscribed: Callable[[str], None] = lambda contract_id: None
        self.quotes_sent = 0
        self._store = store
        self._settings = settings
        self._events = UserEvents(faults=faults, after=after, send=self._send)
        self._market_faults = MarketFaults(faults)
        self._iso = IsoClock()
        self._markets: dict[str, _Market] = {}
        self._past: dict[str, PastBars] = {}

    def open_market(
        self, contract: Contract, *, past: PastBars | None = None, remembers: bool = True
    ) -> None:
        """List a contract with a market.

        Args:
            past: Bars before the market began.
            remembers: Its stored bars come back. Not for a replay, which plays them again.
        """
        bodies = self._store.bars(contract.id) if remembers else []
        stored = [msgspec.json.decode(body, type=Bar) for body in bodies]
        self._markets[contract.id] = _Market(
            contract,
            ContractWire(contract, self._iso, arrays=self._settings.arrays),
            BarBook(stored),
            self.market_hub,
        )
        if past is not None:
            self._past[contract.id] = past

    # requests

    def submit(self, event: core.Request) -> Reply:
        """Decide a client's request; it is stored when this returns."""
        commands = core.decide(event, self.state)
        reply = commands[-1]
        assert isinstance(reply, Reply)
        self._perform(commands, event.now_ns)
        return reply

    def apply(self, event: core.Event) -> None:
        """Decide what is no client's request; it is stored when this returns."""
        self._perform(core.decide(event, self.state), event.now_ns)

    def _perform(self, commands: list[Command], now_ns: int) -> None:
        self._store.write(self.state, commands, now_ns)
        for hear in self.heard:
            hear(commands)
        for command in self._events.arranged(commands):
            self._tell(command)

    def _tell(self, command: Command) -> None:
        match command:
            case OrderUpdated(order=order):
                row = rows.hub_order_row(self.state, order)
                self._publish("orders", order.account_id, "GatewayUserOrder", row)
            case FillBooked(fill=fill):
                row = rows.fill_row(self.state, fill)
                self._publish("trades", fill.account_id, "GatewayUserTrade", row)
            case PositionUpdated(position=position):
                row = rows.position_row(self.state, position)
                self._publish("positions", position.account_id, "GatewayUserPosition", row)
            case AccountUpdated(account=account):
                self._publish("accounts", None, "GatewayUserAccount", rows.account_row(account))

    def _publish(self, topic: str, key: object, target: str, row: rows.Row) -> None:
        clients = self.user_hub.subscribers(topic, key)
        if not clients:
            return
        argument = {"action": 1, "data": row} if self._settings.envelope else row
        record = encode_invocation(target, msgspec.Raw(rows.encode([argument])))
        self._events.publish(target, clients, record)

    def _send(self, clients: list[HubClient], record: bytes) -> None:
        monotonic_ns = self.monotonic_ns()
        for client in clients:
            client.send(record, monotonic_ns)
            self._cut_hopeless(client, monotonic_ns)

    # market data

    def feed(self, events: Iterable[TouchChanged | MarketTraded | SessionChanged]) -> None:
        """Take one turn's market events in order: send them, then match what works there."""
        state, markets = self.state, self._markets
        faults = self._market_faults if self._market_faults.any else None
        self._begin_turn()
        if faults is not None and not state.session_open:
            self._tell_after_hours(faults)
        for event in events:
            if type(event) is TouchChanged:
                market = markets[event.contract_id]
                told = event if faults is None else faults.touch(event, market.contract.product.symbol)
                if told is not None:
                    self._tell_touch(market, told)
                commands = core.touch(
                    state, event.contract_id, event.bid, event.bid_qty, event.ask, event.ask_qty, event.now_ns
                )
            elif type(event) is MarketTraded:
                market = markets[event.contract_id]
                shown = event if faults is None else faults.trade(event, market.contract.product.symbol)
                if shown is event:
                    self._tell_trade(market, event)
                elif shown is not None:
                    with market.wire.unimpressed():
                        self._tell_trade(market, shown)
                market.bars.add(event.now_ns, event.price, event.qty)
                commands = core.trade(
                    state, event.contract_id, event.price, event.qty, event.aggressor, event.now_ns
                )
            else:
                commands = core.decide(event, state)
            if commands:
                self._perform(commands, event.now_ns)
        self._end_turn()

    def _tell_touch(self, market: _Market, event: TouchChanged) -> None:
        bid, bid_qty, ask, ask_qty, now_ns = event.bid, event.bid_qty, event.ask, event.ask_qty, event.now_ns
        wire = market.wire
        if quote := wire.quote(bid, ask, now_ns):
            self.quotes_sent += 1
            if market.quotes:
                self._hand_out(market, market.quotes, quote)
        with_depth = self._settings.depth and market.depth
        if with_depth and (depth := wire.depth(bid, bid_qty, ask, ask_qty, now_ns)):
            self._hand_out(market, market.depth, depth)
        wire.bid, wire.bid_qty, wire.ask, wire.ask_qty = bid, bid_qty, ask, ask_qty

    def _tell_trade(self, market: _Market, event: MarketTraded) -> None:
        record = market.wire.trade(event)
        for client in market.trades:
            client.batch.append(record)  # trades are never conflated
        if self._settings.last_quotes and market.quotes:
            self._hand_out(market, market.quotes, market.wire.last_quote(event.now_ns))

    def _tell_after_hours(self, faults: MarketFaults) -> None:
        for contract_id, market in self._markets.items():
            last, symbol = market.wire.last, market.contract.product.symbol
            if trade := faults.after_hours(contract_id, symbol, last, self.now_ns()):
                with market.wire.unimpressed():
                    self._tell_trade(market, trade)

    def _begin_turn(self) -> None:
        above = self._settings.conflate_above_bytes
        if above is not None:
            for client in self.market_hub.clients:
                client.behind = client.link.output_bytes > above

    @staticmethod
    def _hand_out(market: _Market, clients: list[HubClient], record: bytes) -> None:
        for client in clients:
            if client.behind:
                client.stale.add(market.contract.id)
                client.conflated += 1
            else:
                client.batch.append(record)

    def _end_turn(self) -> None:
        monotonic_ns = self.monotonic_ns()
        for client in self.market_hub.clients:
            client.flush(monotonic_ns)
            if self._settings.conflate_above_bytes is not None:
                self._cut_hopeless(client, monotonic_ns)

    def _cut_hopeless(self, client: HubClient, monotonic_ns: int) -> None:
        """Close a link whose client leaves more unread than the limit."""
        if client.link.output_bytes > self._settings.unsent_max_bytes:
            client.link.close(monotonic_ns, error="The client does not keep up.", allow_reconnect=True)
            client.wake()

    def caught_up(self, client: HubClient) -> None:
        """Send the newest quotes to a client that had fallen behind."""
        stale, client.stale = client.stale, set()
        for contract_id in sorted(stale):
            market = self._markets[contract_id]
            self._snapshot(client, market, client in market.quotes, client in market.depth)

    def _snapshot(self, client: HubClient, market: _Market, quotes: bool, depth: bool) -> None:
        now_ns, monotonic_ns = self.now_ns(), self.monotonic_ns()
        if quotes and (record := market.wire.quote_snapshot(now_ns)):
            client.send(record, monotonic_ns)
        if depth and (record := market.wire.depth_snapshot(now_ns)):
            client.send(record, monotonic_ns)

    # subscriptions

    def _is_contract(self, key: object) -> bool:
        return isinstance(key, str) and resolve(key, self.now_ns()) is not None

    def _is_account(self, key: object) -> bool:
        return key in self.state.accounts

    def _on_market(self, client: HubClient, topic: str, key: object) -> None:
        market = self._markets.get(str(key))
        if market is not None and self._settings.snapshot_on_subscribe:
            self._snapshot(client, market, topic == "quotes", topic == "depth")
        self.subscribed(str(key))

    def _on_user(self, client: HubClient, topic: str, key: object) -> None:
        """Nothing is pushed after a user subscription: no snapshot is promised."""

    def has_full_subscriber(self, contract_id: str) -> bool:
        """Return whether one client takes quotes, trades and depth of a contract."""
        topics = ("quotes", "trades", "depth")
        clients = [set(map(id, self.market_hub.subscribers(one, contract_id))) for one in topics]
        return bool(clients[0] & clients[1] & clients[2])

    # history

    def minute_bars(self, contract_id: str, start_ns: int) -> Sequence[Bar]:
        """Return one-minute bars that open at or after `start_ns`, oldest first."""
        market = self._markets.get(contract_id)
        if market is None:
            return []
        past = self._past.get(contract_id)
        bars = past.since(start_ns) if past is not None else []
        return bars + [bar for bar in market.bars.minutes if bar.open_ns >= start_ns]

    def second_bars(self, contract_id: str) -> Sequence[Bar]:
        market = self._markets.get(contract_id)
        return [] if market is None else list(market.bars.seconds)

    def save_bars(self) -> None:
        """Write the bars that closed, and venue time, for the next start."""
        for contract_id, market in self._markets.items():
            if market.bars.unsaved:
                closed = [(bar.open_ns, msgspec.json.encode(bar)) for bar in market.bars.unsaved]
                market.bars.unsaved.clear()
                self._store.write_bars(contract_id, closed)
        self._store.put_venue_ns(self.now_ns())
