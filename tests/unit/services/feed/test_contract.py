from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from services.feed.events import (
    Alarm,
    Append,
    Command,
    ContractDoubted,
    ContractTaken,
    PublishState,
    Purpose,
    ResolveContract,
    Resumed,
    Subscribe,
    Unsubscribe,
)
from shared.domain.market import Bar, ContractResolved, FeedGap, FeedHealth, FeedState, MarketState, Quote
from tests.support.feed_desk import OPEN_NS, Desk, S, make_history_bar, make_instrument

TRADES = "SubscribeContractTrades"
ROLL_NS = int(datetime(2026, 3, 15, 22, tzinfo=UTC).timestamp()) * S
ROLL_S = (ROLL_NS - OPEN_NS) / S


def test_start_resolves_every_symbol_once() -> None:
    desk = Desk("MES", "MNQ", up=False)
    desk.tick()
    desk.tick(1)
    assert desk.of(ResolveContract) == [ResolveContract("MES"), ResolveContract("MNQ")]


def test_resolved_contract_is_told_before_anything_of_it() -> None:
    desk = Desk(up=False)
    commands = desk.find(make_instrument())
    assert [type(c) for c in commands] == [Append, Subscribe]
    [resolved] = desk.of(ContractResolved)
    assert (resolved.contract_id, resolved.tick_value) == ("CON.F.US.MES.H26", "1.25")
    assert resolved.roll_at_ns == ROLL_NS


def test_unknown_symbol_is_said_and_the_others_go_on() -> None:
    desk = Desk("MES", "MSE", up=False)
    desk.tick()
    desk.find(make_instrument())
    desk.find(make_instrument(symbol="ES"), symbol="MSE")
    desk.link(True)
    desk.frame(desk.make_quote(1, bid_px=1.0, ask_px=2.0))
    desk.tick(1)
    assert desk.market("MES").health is FeedHealth.LIVE
    state = desk.of(FeedState)[-1]
    assert "'MSE'" in desk.market("MSE").health_reason
    assert "ESH6 (ES)" in desk.market("MSE").health_reason
    assert state.health in (FeedHealth.UNKNOWN, FeedHealth.LIVE)
    assert [a.name for a in desk.of(Alarm)] == ["no_contract"]


def test_unknown_symbol_is_asked_for_again_slowly() -> None:
    desk = Desk("MSE", up=False)
    desk.tick()
    desk.find(make_instrument(symbol="ES"), symbol="MSE")
    desk.tick(59)
    assert len(desk.of(ResolveContract)) == 1
    desk.tick(60)
    assert len(desk.of(ResolveContract)) == 2


def test_unanswered_search_is_repeated_soon() -> None:
    desk = Desk(up=False)
    desk.tick()
    desk.fail(Purpose.RESOLVE)
    desk.tick(2)
    assert len(desk.of(ResolveContract)) == 2


def test_resolved_again_before_each_open() -> None:
    desk = Desk()
    desk.tick(7 * 3600)  # 16:00 Chicago
    assert desk.of(ResolveContract) == []
    desk.tick(8 * 3600 - 600)  # ten minutes before 17:00
    assert len(desk.of(ResolveContract)) == 1
    desk.find(make_instrument())
    desk.tick(8 * 3600)  # and at the open itself
    assert len(desk.of(ResolveContract)) == 2
    assert len(desk.of(Subscribe)) == 1


def refusal(desk: Desk, target: str = TRADES) -> ContractDoubted:
    why = f"{target} was refused: internal error"
    return ContractDoubted(contract_id="CON.F.US.MES.H26", target=target, reason=why, **desk.at())


def taken(desk: Desk, target: str = TRADES) -> ContractTaken:
    return ContractTaken(contract_id="CON.F.US.MES.H26", target=target, **desk.at())


def test_refused_contract_is_resolved_at_once() -> None:
    desk = Desk()
    desk.decide(refusal(desk))
    assert len(desk.of(ResolveContract)) == 1
    desk.decide(refusal(desk))
    assert len(desk.of(ResolveContract)) == 1


def test_symbol_is_not_live_while_one_of_its_subscriptions_is_refused() -> None:
    """Quotes alone look like a market: its trades and bars would be missing, and nobody would see it."""
    desk = Desk()
    desk.decide(refusal(desk))
    desk.decide(refusal(desk, "SubscribeContractQuotes"))
    desk.quote(1, bid_px=99.75, ask_px=100.0)
    desk.tick(2)
    assert (desk.market().health, desk.market().health_reason) == (
        FeedHealth.STALE,
        "SubscribeContractTrades was refused: internal error",
    )
    desk.decide(taken(desk))
    desk.tick(3)
    assert desk.market().health is FeedHealth.STALE
    desk.decide(taken(desk, "SubscribeContractQuotes"))
    assert desk.of(FeedState)[-1].health is FeedHealth.LIVE


def test_a_market_that_is_whole_again_is_vouched_for_with_the_next_tick() -> None:
    """Who wakes from a pause hears of it in the midst of what came meanwhile."""
    desk = Desk()
    desk.decide(refusal(desk))
    desk.quote(1, bid_px=99.75, ask_px=100.0)
    desk.commands.clear()
    desk.decide(taken(desk))
    assert desk.of(PublishState) == []
    desk.quote(1, bid_px=99.5)
    desk.tick(1.05)
    assert [(one.state.health, one.state.bid_px) for one in desk.of(PublishState)] == [
        (FeedHealth.LIVE, 99.5)
    ]


def test_an_account_without_depth_sees_the_market_all_the_same() -> None:
    desk = Desk()
    commands = desk.decide(refusal(desk, "SubscribeContractMarketDepth"))
    assert not [one for one in commands if isinstance(one, ResolveContract)], "it is refused once a minute"
    desk.quote(1, bid_px=99.75, ask_px=100.0)
    desk.tick(2)
    assert desk.market().health is FeedHealth.LIVE


def test_refusals_end_with_the_link_and_with_the_contract() -> None:
    desk = Desk()
    desk.decide(refusal(desk))
    desk.link(False)
    desk.link(True)
    desk.quote(1, bid_px=99.75, ask_px=100.0)
    desk.tick(2)
    assert desk.market().health is FeedHealth.LIVE
    desk.decide(refusal(desk))
    desk.find(make_instrument("M26"))
    desk.tick(5)
    desk.quote(5, bid_px=99.75, ask_px=100.0)
    desk.tick(6)
    assert desk.market().health is FeedHealth.LIVE


def test_what_a_refused_subscription_would_have_brought_comes_from_history() -> None:
    desk = Desk(intervals_s=(60, 300))
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.tick(0)
    desk.trade(10)
    desk.trade(60)
    desk.decide(refusal(desk))
    desk.quote(121, bid_px=99.5)  # ends the minute of the trades that still came
    desk.quote(302, bid_px=99.75)
    desk.tick(303)
    assert [bar[:2] for bar in desk.bars()] == [(60, 0), (60, 1)]  # the five minutes are not over
    desk.second = 310
    desk.decide(taken(desk))
    assert desk.of(FeedGap)[-1].reason == "the hub has refused SubscribeContractTrades until now"
    desk.quote(311, bid_px=99.5)
    desk.tick(312)
    fetch = desk.fetches(Purpose.BACKFILL)[-1]
    assert (fetch.start_ns, fetch.end_ns) == (OPEN_NS + 120 * S, OPEN_NS + 300 * S)
    desk.history(fetch, *(make_history_bar(n) for n in (2, 3, 4)))
    assert desk.bars()[2:] == [
        (60, 2, 7, "backfill"),
        (60, 3, 7, "backfill"),
        (60, 4, 7, "backfill"),
        (300, 0, 23, "backfill"),
    ]


def rolled() -> Desk:
    desk = Desk(second=ROLL_S - 3 * 24 * 3600)
    desk.quote(bid_px=99.75, ask_px=100.0)
    desk.trade()
    desk.tick()
    desk.tick(ROLL_S)
    desk.messages.clear()
    desk.commands.clear()
    desk.find(make_instrument("H26"), make_instrument("M26"))
    return desk


def test_roll_leaves_the_old_month_before_the_new_one_is_subscribed() -> None:
    desk = rolled()
    assert desk.commands == [Unsubscribe("CON.F.US.MES.H26")]
    [gap] = desk.of(FeedGap)
    assert gap.reason == "roll from MESH6 to MESM6"
    assert desk.of(ContractResolved)[0].contract_id == "CON.F.US.MES.M26"
    desk.second += 1
    desk.frame(desk.make_quote(bid_px=99.75, ask_px=100.0))  # still the old month's
    assert desk.of(Quote) == []
    desk.tick(desk.second + 1.1)
    assert desk.of(Subscribe) == [Subscribe(make_instrument("M26"))]
    desk.second += 0.1
    desk.quote(bid_px=120.0, ask_px=120.25)
    desk.tick()
    assert [q.bid_px for q in desk.of(Quote)] == [120.0]
    assert desk.market().health is FeedHealth.LIVE


def test_roll_ends_the_bar_of_the_old_month_as_partial() -> None:
    desk = Desk()
    desk.quote(0, bid_px=1.0, ask_px=2.0)
    desk.tick()
    desk.trade(1)
    desk.find(make_instrument("M26"))
    [bar] = desk.of(Bar)
    assert bar.partial
    assert [type(m) for m in desk.messages[-3:]] == [Bar, FeedGap, ContractResolved]


def test_broker_that_has_not_followed_the_roll_is_asked_every_hour() -> None:
    desk = Desk(second=ROLL_S - 60)
    desk.tick(ROLL_S)
    desk.find(make_instrument("H26"))
    count = len(desk.of(ResolveContract))
    desk.tick(ROLL_S + 3599)
    assert len(desk.of(ResolveContract)) == count
    desk.tick(ROLL_S + 3601)
    assert len(desk.of(ResolveContract)) == count + 1


def resumed(desk: Desk, age_s: float, **changes: object) -> list[Command]:
    view = MarketState(
        symbol="MES", contract_id="CON.F.US.MES.H26", contract_name="MESH6", health=FeedHealth.LIVE,
        bid_px=1.0, ask_px=2.0, last_px=1.0, crossed=False, tick_size="0.25", tick_value="1.25",
        ts_event_ns=OPEN_NS, ts_asof_ns=desk.at()["now_ns"] - round(age_s * S),
    )  # fmt: skip
    view = msgspec.structs.replace(view, **changes)
    return desk.decide(Resumed(symbol="MES", bars_out_ns={}, last_event_ns=OPEN_NS, view=view, **desk.at()))


def test_a_feed_that_starts_at_once_goes_on_with_the_contract_and_verifies_it_a_minute_later() -> None:
    desk = Desk(up=False)
    commands = resumed(desk, age_s=3)
    assert [type(c) for c in commands] == [Append, Subscribe]
    [told] = desk.of(ContractResolved)
    assert (told.contract_id, told.tick_value, told.roll_at_ns) == ("CON.F.US.MES.H26", "1.25", ROLL_NS)
    desk.tick()
    desk.tick(59)
    assert desk.of(ResolveContract) == []
    desk.tick(60)
    assert desk.of(ResolveContract) == [ResolveContract("MES")]
    assert desk.find(make_instrument()) == []
    desk.tick(300)
    assert len(desk.of(ResolveContract)) == 1


def test_another_month_found_when_it_is_verified_is_a_roll() -> None:
    desk = Desk(up=False)
    resumed(desk, age_s=3)
    desk.tick(60)
    commands = desk.find(make_instrument("M26"))
    assert Unsubscribe("CON.F.US.MES.H26") in commands


@pytest.mark.parametrize(
    ("age_s", "changes"),
    [(61, {}), (-1, {}), (3, {"contract_name": ""})],
    ids=["old", "ahead", "older build"],
)
def test_what_the_last_feed_said_long_ago_or_not_at_all_is_asked_for(
    age_s: float, changes: dict[str, object]
) -> None:
    desk = Desk(up=False)
    assert resumed(desk, age_s, **changes) == []
    desk.tick()
    assert desk.of(ResolveContract) == [ResolveContract("MES")]
