"""The account's picture: tables for one thing at a time; any order and repetition of pushes for the rest."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.broker_sync.core import State, decide
from services.broker_sync.events import (
    Command,
    Due,
    Gather,
    Gathered,
    GatherFailed,
    GiveUp,
    LinkFell,
    LinkRose,
    Note,
    Publish,
    Push,
    Pushed,
    PushesRefused,
    Recalled,
    Reconnect,
    Tick,
)
from services.broker_sync.gather import window_start_ns
from services.broker_sync.picture import ORDERS_MAX
from shared.domain.order import OrderStatus, OrderType, Side
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    Report,
    SnapshotBegun,
    SnapshotTaken,
    SyncHealth,
    SyncState,
)

S = 1_000_000_000
ACCT = 1001
MES = "CON.F.US.MES.Z25"
T0 = 1_763_900_000 * S


def account(*, account_id: int = ACCT, balance: str = "50000", can_trade: bool = True) -> AccountReport:
    return AccountReport(
        account_id=account_id, name="SIM-50K", balance=Decimal(balance), can_trade=can_trade, ts_recv_ns=1
    )


def position(net_qty: int, *, avg_px: str = "5000", created: int = 1, contract: str = MES) -> PositionReport:
    return PositionReport(
        account_id=ACCT,
        contract_id=contract,
        net_qty=net_qty,
        avg_px=Decimal(avg_px),
        ts_event_ns=T0 + created,
        ts_recv_ns=2,
    )


def order(
    status: OrderStatus = OrderStatus.NEW, *, order_id: int = 7, updated: int = 1, cum: int = 0, qty: int = 2
) -> OrderReport:
    return OrderReport(
        account_id=ACCT,
        broker_order_id=order_id,
        contract_id=MES,
        status=status,
        order_type=OrderType.LIMIT,
        side=Side.BUY,
        order_qty=qty,
        cum_qty=cum,
        ts_event_ns=T0 + updated,
        ts_recv_ns=3,
        limit_price=Decimal(5000),
        custom_tag="sim.a.b",
    )


def fill(
    fill_id: int = 1, *, order_id: int = 7, qty: int = 1, fees: str = "0.37", voided: bool = False
) -> FillReport:
    return FillReport(
        account_id=ACCT,
        fill_id=fill_id,
        broker_order_id=order_id,
        contract_id=MES,
        side=Side.BUY,
        last_qty=qty,
        last_px=Decimal(5000),
        fees=Decimal(fees),
        ts_event_ns=T0 + fill_id,
        ts_recv_ns=4,
        voided=voided,
    )


class Desk:
    """A core under test with its clock and everything it said."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.said: list[Report] = []
        self.notes: list[str] = []
        self.reconnects: list[float] = []
        self.state = State(
            account_id=ACCT,
            spacing_ns=5 * S,
            after_fill=False,
            gather_within_ns=25 * S,
            retry_first_ns=S // 2,
            retry_max_ns=10 * S,
            doubt_after_ns=3 * S // 2,
            push_trusted_ns=3 * S,
        )

    def at(self) -> dict[str, int]:
        return {"now_ns": round(self.now_s * S), "ts_ns": T0 + round(self.now_s * S)}

    def keep(self, commands: list[Command]) -> list[Command]:
        for command in commands:
            if isinstance(command, Publish):
                self.said += command.reports
            elif isinstance(command, Note):
                self.notes.append(command.name)
            elif isinstance(command, Reconnect):
                self.reconnects.append(self.now_s)
        return commands

    def due(self) -> list[Command]:
        return self.keep(decide(Due(**self.at()), self.state))

    def tick(self, seconds: float = 0.0) -> list[Command]:
        self.now_s += seconds
        return self.keep(decide(Tick(**self.at()), self.state))

    def push(self, *reports: Push) -> list[Report]:
        first = len(self.said)
        self.keep(decide(Pushed(reports=reports, **self.at()), self.state))
        return self.said[first:]

    def rise(self) -> list[Command]:
        return self.keep(decide(LinkRose(**self.at()), self.state))

    def fall(self) -> list[Command]:
        return self.keep(decide(LinkFell(reason="cut", **self.at()), self.state))

    def fail(self, reason: str = "HTTP 503") -> list[Command]:
        return self.keep(decide(GatherFailed(reason=reason, **self.at()), self.state))

    def gathered(
        self,
        *,
        accounts: tuple[AccountReport, ...] = (account(),),
        positions: tuple[PositionReport, ...] = (),
        orders: tuple[OrderReport, ...] = (),
        fills: tuple[FillReport, ...] = (),
        looked_up: dict[int, OrderReport | None] | None = None,
    ) -> list[Report]:
        first = len(self.said)
        event = Gathered(
            accounts=accounts,
            positions=positions,
            orders=orders,
            fills=fills,
            looked_up=looked_up or {},
            **self.at(),
        )
        self.keep(decide(event, self.state))
        return self.said[first:]

    @property
    def health(self) -> SyncHealth | None:
        return self.state.picture.sync.health if self.state.picture.sync else None


def in_sync(**rows: tuple[PositionReport, ...] | tuple[OrderReport, ...] | tuple[FillReport, ...]) -> Desk:
    desk = Desk()
    desk.tick()
    desk.due()
    desk.rise()
    desk.gathered(**rows)  # type: ignore[arg-type]
    if desk.state.gathering_since_ns is not None:
        desk.gathered(**rows)  # type: ignore[arg-type]
    assert desk.health is SyncHealth.IN_SYNC
    desk.said.clear()
    desk.notes.clear()
    return desk


def kinds(reports: list[Report]) -> list[type]:
    return [type(r) for r in reports]


def asked(commands: list[Command]) -> bool:
    return any(isinstance(c, Gather) for c in commands)


# -- snapshots --------------------------------------------------------------------


def test_nothing_is_known_before_the_first_snapshot() -> None:
    desk = Desk()
    desk.tick()
    assert desk.health is SyncHealth.UNKNOWN
    assert asked(desk.due())
    assert desk.health is SyncHealth.UNKNOWN


def test_first_snapshot_holds_everything_between_its_two_ends() -> None:
    desk = Desk()
    desk.due()
    said = desk.gathered(positions=(position(2),), orders=(order(cum=1),), fills=(fill(),))
    inside = [AccountReport, PositionReport, OrderReport, FillReport]
    assert sorted(map(repr, kinds(said)[1:-2])) == sorted(map(repr, inside))
    assert (kinds(said)[0], kinds(said)[-2]) == (SnapshotBegun, SnapshotTaken)
    taken = said[-2]
    assert isinstance(taken, SnapshotTaken)
    assert (taken.positions, taken.working_orders) == (1, 1)


def test_in_sync_needs_a_read_that_began_after_the_link_rose() -> None:
    desk = Desk()
    desk.due()
    desk.rise()
    desk.gathered()
    assert desk.health is SyncHealth.STALE
    assert desk.state.gathering_since_ns is not None
    desk.gathered()
    assert desk.health is SyncHealth.IN_SYNC


def test_a_later_bracket_repeats_exposure_and_no_history() -> None:
    rows = {"positions": (position(2),), "orders": (order(), order(OrderStatus.FILLED, order_id=6, cum=2))}
    desk = in_sync(**rows, fills=(fill(),))
    desk.due()
    said = desk.gathered(**rows, fills=(fill(),))  # type: ignore[arg-type]
    assert kinds(said) == [SnapshotBegun, AccountReport, PositionReport, OrderReport, SnapshotTaken]


def test_a_position_that_is_gone_is_said_to_be_zero() -> None:
    desk = in_sync(positions=(position(2),))
    desk.due()
    (gone,) = [r for r in desk.gathered() if isinstance(r, PositionReport)]
    assert gone.net_qty == 0
    assert desk.notes == ["position_mismatches"]


def test_an_unlisted_order_is_looked_up_and_not_taken_for_canceled() -> None:
    desk = in_sync(orders=(order(),))
    desk.due()
    said = desk.gathered(looked_up={7: order(OrderStatus.FILLED, updated=9, cum=2)}, fills=(fill(qty=2),))
    assert [r.status for r in said if isinstance(r, OrderReport)] == [OrderStatus.FILLED]


def test_an_order_the_broker_denies_twice_is_absent() -> None:
    desk = in_sync(orders=(order(),))
    desk.due()
    said = desk.gathered(looked_up={7: None})
    assert [r.status for r in said if isinstance(r, OrderReport)] == [OrderStatus.NEW]
    desk.due()
    said = desk.gathered(looked_up={7: None})
    assert [r.status for r in said if isinstance(r, OrderReport)] == [OrderStatus.ABSENT]
    assert desk.notes == ["vanished_orders"]


def test_a_read_may_hold_more_closed_orders_than_are_kept_and_each_is_said_once() -> None:
    rows = tuple(order(OrderStatus.CANCELED, order_id=n, updated=n) for n in range(1, ORDERS_MAX + 11))
    desk = Desk()
    desk.due()
    said = desk.gathered(orders=rows)
    assert [r.broker_order_id for r in said if isinstance(r, OrderReport)] == list(range(1, ORDERS_MAX + 11))
    desk.due()
    assert OrderReport not in kinds(desk.gathered(orders=rows))


def test_closed_orders_that_no_read_lists_any_more_are_forgotten() -> None:
    rows = tuple(order(OrderStatus.CANCELED, order_id=n, updated=n) for n in range(1, ORDERS_MAX + 11))
    desk = Desk()
    for listed in (rows, rows[-5:]):
        desk.due()
        desk.gathered(orders=listed)
    picture = desk.state.picture
    assert sorted(picture.orders) == sorted(picture.closed) == list(range(11, ORDERS_MAX + 11))
    again = Desk()
    for row in rows:
        decide(Recalled(report=row, **again.at()), again.state)
    assert len(again.state.picture.orders) == ORDERS_MAX


def window_s(desk: Desk) -> float:
    """Return where the next read's window begins, in seconds after `T0`, margin left out."""
    start_ns = window_start_ns(
        desk.state.picture, venue_now_ns=T0 + 10_000 * S, history_ns=86_400 * S, margin_ns=0
    )
    return (start_ns - T0) / S


def test_what_a_read_has_to_find_does_not_depend_on_pushes() -> None:
    """A stop that fills in an outage is older than the fill that is pushed after it."""
    desk = Desk()
    assert window_s(desk) == 10_000 - 86_400
    desk.push(fill(50 * S))
    assert window_s(desk) == 10_000 - 86_400
    desk.due()
    desk.gathered(fills=(fill(50 * S), fill(60 * S)))
    desk.push(fill(900 * S))
    assert window_s(desk) == 60
    desk.due()
    desk.fail()
    assert window_s(desk) == 60
    again = Desk()
    for report in desk.said:
        decide(Recalled(report=report, **again.at()), again.state)
    assert window_s(again) == 60
    desk.due()
    desk.gathered(fills=(fill(60 * S), fill(700 * S), fill(900 * S)))
    assert window_s(desk) == 900


# -- failures ---------------------------------------------------------------------


def test_a_failed_read_is_stale_and_never_flat() -> None:
    desk = in_sync(positions=(position(2),), orders=(order(),))
    desk.due()
    desk.fail()
    assert desk.health is SyncHealth.STALE
    assert kinds(desk.said) == [SyncState]
    assert desk.state.picture.positions[MES].net_qty == 2
    assert asked(desk.tick(0.5))
    desk.gathered(positions=(position(2),), orders=(order(),))
    assert desk.health is SyncHealth.IN_SYNC


def test_failed_reads_pause_longer_and_the_schedule_goes_on() -> None:
    desk = Desk()
    pauses = []
    desk.due()
    for _ in range(7):
        desk.fail()
        assert desk.state.retry_ns is not None
        pauses.append(desk.state.retry_ns / S - desk.now_s)
        desk.now_s = desk.state.retry_ns / S
        assert asked(desk.tick())
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]
    desk.fail()
    assert asked(desk.due())


def test_an_account_that_does_not_exist_names_those_that_do() -> None:
    desk = Desk()
    desk.due()
    desk.gathered(accounts=(account(account_id=5), account(account_id=6)))
    assert desk.health is SyncHealth.UNKNOWN
    assert desk.state.picture.sync is not None
    assert "no account 1001" in desk.state.picture.sync.reason
    assert "5 (SIM-50K), 6 (SIM-50K)" in desk.state.picture.sync.reason


def test_a_locked_account_is_told_once() -> None:
    desk = in_sync()
    for _ in range(2):
        desk.due()
        desk.gathered(accounts=(account(can_trade=False),))
    assert desk.notes == ["account_locked"]
    assert desk.health is SyncHealth.IN_SYNC


def test_a_read_that_hangs_is_given_up() -> None:
    desk = in_sync()
    desk.due()
    assert not any(isinstance(c, GiveUp) for c in desk.tick(25))
    assert any(isinstance(c, GiveUp) for c in desk.tick(0.1))
    assert desk.health is SyncHealth.STALE


def test_a_lost_link_is_stale_until_it_is_back_and_read() -> None:
    desk = in_sync(positions=(position(1),))
    desk.fall()
    assert desk.health is SyncHealth.STALE
    assert asked(desk.rise())
    assert desk.health is SyncHealth.STALE
    desk.gathered(positions=(position(1),))
    assert desk.health is SyncHealth.IN_SYNC


def test_a_refused_subscription_is_stale_until_the_next_connection() -> None:
    desk = in_sync()
    event = PushesRefused(reason="the user hub refused SubscribeOrders(1001)", lasting=True, **desk.at())
    desk.keep(decide(event, desk.state))
    assert desk.health is SyncHealth.STALE
    desk.fall()
    desk.rise()
    desk.gathered()
    assert desk.health is SyncHealth.IN_SYNC


def test_a_push_that_could_not_be_read_asks_for_a_reconcile_with_spacing() -> None:
    desk = in_sync()
    event = PushesRefused(reason="GatewayUserOrder size: negative", lasting=False, **desk.at())
    desk.keep(decide(event, desk.state))
    assert not asked(desk.tick(1))
    assert asked(desk.tick(4))
    desk.gathered()
    assert not asked(desk.tick(10))


# -- pushes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (order(), order(), None),
        (order(updated=5), order(updated=4), None),
        (order(OrderStatus.PENDING_NEW), order(updated=2), OrderStatus.NEW),
        (order(OrderStatus.FILLED, cum=2), order(updated=9), None),
        (order(OrderStatus.CANCELED, updated=5), order(OrderStatus.NEW, updated=9), None),
        (
            order(OrderStatus.CANCELED, updated=5),
            order(OrderStatus.FILLED, updated=4, cum=2),
            OrderStatus.FILLED,
        ),
        (order(OrderStatus.PARTIALLY_FILLED, cum=1), order(updated=2), OrderStatus.PARTIALLY_FILLED),
        (order(OrderStatus.SUSPENDED), order(updated=2), OrderStatus.NEW),
    ],
)
def test_order_pushes(first: OrderReport, second: OrderReport, says: OrderStatus | None) -> None:
    desk = in_sync()
    desk.push(first)
    said = desk.push(second)
    assert [r.status for r in said if isinstance(r, OrderReport)] == ([] if says is None else [says])


def test_a_fill_is_published_once_for_ever() -> None:
    desk = in_sync()
    assert len(desk.push(fill())) == 1
    assert desk.push(fill(), fill()) == []
    desk.due()
    assert FillReport not in kinds(desk.gathered(fills=(fill(),), positions=(position(1),)))
    again = Desk()
    decide(Recalled(report=fill(), **again.at()), again.state)
    again.due()
    assert FillReport not in kinds(again.gathered(fills=(fill(),)))


def fees(reports: list[Report]) -> list[str]:
    return [str(r.fees) for r in reports if isinstance(r, FillReport)]


def test_a_fill_whose_fees_a_read_corrects_is_told_again_once() -> None:
    """The hub's rows of trades lack the commissions that REST's have."""
    desk = in_sync()
    assert fees(desk.push(fill(fees="0.37"))) == ["0.37"]
    assert desk.push(fill(fees="0.12")) == []
    desk.due()
    rest = {"fills": (fill(fees="0.99"),), "positions": (position(1),)}
    assert fees(desk.gathered(**rest)) == ["0.99"]  # type: ignore[arg-type]
    assert desk.push(fill(fees="0.37")) == []
    desk.due()
    assert fees(desk.gathered(**rest)) == []  # type: ignore[arg-type]
    desk.due()
    assert fees(desk.gathered(fills=(fill(fees="0"),), positions=(position(1),))) == []
    assert desk.state.picture.filled_qty[7] == 1
    again = Desk()
    for report in desk.said:
        decide(Recalled(report=report, **again.at()), again.state)
    again.due()
    assert fees(again.gathered(**rest)) == []  # type: ignore[arg-type]


def test_a_voided_fill_is_told_once() -> None:
    desk = in_sync()
    desk.push(fill())
    assert len(desk.push(fill(voided=True))) == 1
    assert desk.push(fill(voided=True), fill()) == []
    assert desk.state.picture.filled_qty[7] == 0


def test_a_close_of_an_earlier_position_does_not_touch_the_present_one() -> None:
    desk = in_sync()
    desk.push(position(1, created=5))
    assert desk.push(position(0, created=1)) == []
    assert desk.state.picture.positions[MES].net_qty == 1


def test_another_account_is_counted_and_ignored() -> None:
    desk = in_sync()
    assert desk.push(account(account_id=5, balance="1")) == []
    assert desk.notes == ["other_accounts"]


def test_a_young_push_outlives_a_read_that_lags_and_is_asked_about_again() -> None:
    desk = in_sync()
    desk.now_s = 30
    desk.due()
    desk.push(fill(), position(1))
    said = desk.gathered()
    assert [r.net_qty for r in said if isinstance(r, PositionReport)] == [1]
    assert asked(desk.tick(5))
    said = desk.gathered()
    assert [r.net_qty for r in said if isinstance(r, PositionReport)] == [0]
    assert "position_mismatches" in desk.notes


def test_a_push_from_before_the_link_fell_does_not_outlive_the_read_after_it_rose() -> None:
    """A stop that filled meanwhile told nobody, and the read is the first to know."""
    desk = in_sync()
    desk.now_s = 30
    desk.push(fill(), position(2))
    desk.now_s = 30.5
    desk.fall()
    desk.now_s = 31
    desk.rise()
    said = desk.gathered(fills=(fill(), fill(2)))
    assert [r.net_qty for r in said if isinstance(r, PositionReport)] == [0]
    assert (desk.state.picture.positions[MES].net_qty, desk.health) == (0, SyncHealth.IN_SYNC)


def test_a_read_from_before_the_link_rose_does_not_make_a_young_push_flat() -> None:
    """It is read again at once; until then the older answer knows less than the push."""
    desk = in_sync()
    desk.now_s = 30
    desk.due()
    desk.push(fill(), position(2))
    desk.fall()
    desk.now_s = 31
    desk.rise()
    said = desk.gathered()
    assert [r.net_qty for r in said if isinstance(r, PositionReport)] == [2]
    assert desk.health is SyncHealth.STALE
    said = desk.gathered(fills=(fill(),))
    assert [r.net_qty for r in said if isinstance(r, PositionReport)] == [0]
    assert desk.health is SyncHealth.IN_SYNC


def test_what_was_pushed_of_the_account_while_it_was_read_outlives_the_older_answer() -> None:
    desk = in_sync()
    desk.now_s = 30
    desk.due()
    desk.now_s = 30.2
    desk.push(account(can_trade=False, balance="49000"))
    said = desk.gathered()
    assert [r.can_trade for r in said if isinstance(r, AccountReport)] == [False]
    known = desk.state.picture.account
    assert known is not None
    assert (known.can_trade, known.balance) == (False, Decimal(49_000))
    assert asked(desk.tick(5))  # which of the two is the older one the next read tells
    desk.gathered()
    assert desk.state.picture.account == account()


def test_what_was_pushed_of_the_account_before_it_was_read_does_not_count() -> None:
    desk = in_sync()
    desk.now_s = 30
    desk.push(account(can_trade=False))
    desk.now_s = 30.1
    desk.due()
    desk.gathered()
    assert desk.state.picture.account == account()


# -- a hub that is up and silent --------------------------------------------------


def read_fills(desk: Desk, now_s: float, last_id: int) -> None:
    """Read the account at `now_s`, with every fill up to `last_id`."""
    desk.now_s = now_s
    desk.due()
    desk.gathered(fills=tuple(fill(n) for n in range(1, last_id + 1)))


def silent_since_two_reads() -> Desk:
    desk = in_sync(fills=(fill(1),))
    read_fills(desk, 30, 2)
    read_fills(desk, 60, 2)
    read_fills(desk, 90, 3)
    return desk


def test_a_hub_that_two_reads_prove_silent_is_given_up_and_told_of_once() -> None:
    desk = silent_since_two_reads()
    desk.tick(4.9)
    assert desk.reconnects == []
    desk.tick(0.1)
    desk.tick(60)
    assert desk.reconnects == [95]
    assert desk.notes == ["user_hub_silent"]


@pytest.mark.parametrize("told", [fill(3), fill(1)], ids=["late", "repeated"])
def test_a_hub_that_tells_of_fills_after_all_is_not_silent(told: FillReport) -> None:
    desk = silent_since_two_reads()
    desk.tick(4)
    desk.push(told)
    desk.tick(60)
    assert desk.reconnects == []


def test_a_lost_push_is_not_a_silent_hub() -> None:
    desk = in_sync()
    read_fills(desk, 30, 1)
    desk.now_s = 40
    desk.push(fill(2))
    read_fills(desk, 60, 3)
    desk.tick(60)
    assert desk.reconnects == []


def test_two_reads_in_a_hurry_are_one_sign_of_silence() -> None:
    """A hub that lags by seconds has told of neither fill yet."""
    desk = in_sync()
    read_fills(desk, 30, 1)
    read_fills(desk, 34, 2)
    desk.tick(60)
    assert desk.reconnects == []


def test_fills_from_before_the_link_rose_are_unheard_by_right() -> None:
    desk = in_sync()
    read_fills(desk, 30, 1)
    desk.now_s = 40
    desk.fall()
    read_fills(desk, 60, 2)
    desk.now_s = 61
    desk.rise()
    desk.gathered(fills=tuple(fill(n) for n in (1, 2, 3)))
    desk.tick(5)
    read_fills(desk, 90, 4)
    desk.tick(60)
    assert desk.reconnects == []


def test_a_hub_whose_words_could_not_be_read_is_not_silent() -> None:
    desk = silent_since_two_reads()
    refused = PushesRefused(reason="GatewayUserTrade size: negative", lasting=False, **desk.at())
    desk.keep(decide(refused, desk.state))
    desk.tick(60)
    assert desk.reconnects == []


def test_silent_links_are_given_up_no_oftener_than_once_a_minute() -> None:
    desk = silent_since_two_reads()
    desk.tick(5)
    desk.fall()
    desk.now_s = 96
    desk.rise()
    desk.gathered(fills=(fill(3),))
    read_fills(desk, 110, 4)
    read_fills(desk, 120, 5)
    for _ in range(80):
        desk.tick(0.5)
    assert desk.reconnects == [95, 155]


@pytest.mark.parametrize(
    "pushes",
    [
        (fill(),),  # the position's push was lost
        (position(1),),  # the fill's push was lost
        (order(OrderStatus.FILLED, cum=2),),  # both were
    ],
)
def test_pushes_that_contradict_each_other_for_long_are_a_doubt(pushes: tuple[Push, ...]) -> None:
    desk = in_sync()
    desk.now_s = 10
    desk.push(*pushes)
    desk.tick()
    assert not asked(desk.tick(1.4))
    assert asked(desk.tick(0.1))
    assert desk.notes == ["doubts"]


def test_pushes_that_agree_are_no_doubt() -> None:
    desk = in_sync(orders=(order(qty=1),))
    desk.now_s = 10
    desk.push(fill(), position(1), order(OrderStatus.FILLED, updated=3, cum=1, qty=1))
    for _ in range(40):
        assert not asked(desk.tick(0.25))


ORDERS = [
    order(OrderStatus.PENDING_NEW, updated=1),
    order(OrderStatus.NEW, updated=2),
    order(OrderStatus.PARTIALLY_FILLED, updated=3, cum=1),
    order(OrderStatus.FILLED, updated=4, cum=2),
    order(OrderStatus.SUSPENDED, order_id=8, updated=2, qty=1),
    order(OrderStatus.NEW, order_id=8, updated=4, qty=1),
    order(OrderStatus.CANCELED, order_id=8, updated=9, qty=1),
]
FILLS = [fill(1), fill(2)]
POSITIONS = [position(1), position(2)]
FINAL = {"positions": (position(2),), "fills": tuple(FILLS), "orders": (ORDERS[3], ORDERS[6])}


@given(st.lists(st.sampled_from([*ORDERS, *FILLS, *POSITIONS]), max_size=40), st.data())
def test_any_order_and_repetition_gives_one_picture_and_each_fill_once(
    pushes: list[Push], data: st.DataObject
) -> None:
    """Whatever was pushed, lost, repeated or late: after a read the picture is the broker's."""
    desk = in_sync()
    while pushes:
        n = data.draw(st.integers(1, len(pushes)))
        desk.push(*pushes[:n])
        pushes = pushes[n:]
        if data.draw(st.booleans()):
            desk.tick(0.5)
    desk.now_s += 10  # no push is young any more
    desk.due()
    desk.gathered(**FINAL)  # type: ignore[arg-type]
    picture = desk.state.picture
    assert {c: p.net_qty for c, p in picture.positions.items()} == {MES: 2}
    statuses = {i: o.status for i, o in picture.orders.items()}
    assert statuses == {7: OrderStatus.FILLED, 8: OrderStatus.CANCELED}
    fills = [r.fill_id for r in desk.said if isinstance(r, FillReport)]
    assert sorted(fills) == [1, 2]
    assert asked(desk.tick(60)) is False


@given(st.permutations(ORDERS))
def test_a_terminal_status_is_never_left(pushes: list[OrderReport]) -> None:
    desk = in_sync()
    ended: set[int] = set()
    for push in pushes:
        for said in desk.push(push):
            assert isinstance(said, OrderReport)
            assert said.broker_order_id not in ended or said.status.is_terminal
            if said.status.is_terminal:
                ended.add(said.broker_order_id)
    assert {i: o.status for i, o in desk.state.picture.orders.items()} == {
        7: OrderStatus.FILLED,
        8: OrderStatus.CANCELED,
    }
