"""Strategies that behave as none should are latched off, until a person arms them again."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.execution.events import MarketRead, Place
from services.execution.exposure import exposure
from services.execution.state import NS_PER_S
from shared.broker.port import Accepted, NotSent, Rejected, Unknown
from shared.domain.control import Halt, HaltKind, Resume, TradingState
from shared.domain.execution import TradingStateChanged
from shared.domain.order import OrderStatus, OrderType, Side
from tests.support.execution import MES, Desk, make_market, make_rules, make_submit, only

WIDE = {
    "position_max": 1_000,
    "messages_per_min_max": 1_000,
    "duplicate_window_ms": 0,
    "working_orders_max": 500,
}


def desk_with(**limits: object) -> Desk:
    desk = Desk(make_rules(limits={**WIDE, **limits}))
    desk.ready()
    return desk


def refused(desk: Desk, name: str, *, pause_s: float = 1.0, **changes: object) -> str:
    """Ask for an order a moment later, everything else being well; return the code."""
    desk.pass_time(pause_s)
    desk.ready()
    changes = {"ts_cause_ns": desk.now_ns, **changes}
    return desk.refusal(make_submit(name, **changes))  # type: ignore[arg-type]


def arm(desk: Desk, strategy_id: str = "s1") -> None:
    desk.pass_time(1)
    order = Resume(
        kind=HaltKind.OPERATOR, reason="looked", issuer="t", ts_ns=desk.now_ns, strategy_id=strategy_id
    )
    desk.control(order)


@pytest.mark.proves("I-3")
def test_too_many_entries_latch() -> None:
    desk = desk_with(entries_max=3)
    assert [refused(desk, f"o{n}") for n in range(5)] == ["", "", "", "entries_max", "strategy_latched"]
    assert refused(desk, "other", strategy_id="s2") == ""
    told = desk.messages(TradingStateChanged)[-1]
    assert told.state is TradingState.ACTIVE
    assert told.latched == {"s1": "entries_max: entries 3, most 3, window_s 300"}


def test_entries_leave_the_window() -> None:
    desk = desk_with(entries_max=3)
    assert [refused(desk, f"o{n}", pause_s=101) for n in range(8)] == [""] * 8


def test_the_window_is_of_market_time() -> None:
    desk = Desk(make_rules(limits={**WIDE, "entries_max": 3}, market_speed=100.0))
    desk.ready()
    assert [refused(desk, f"o{n}", pause_s=1.01) for n in range(8)] == [""] * 8


@pytest.mark.proves("I-3")
def test_flip_flop_latches() -> None:
    desk = desk_with(flips_max=2)
    sides = [Side.BUY, Side.SELL, Side.SELL, Side.BUY, Side.BUY, Side.SELL, Side.BUY]
    codes = [refused(desk, f"o{n}", side=side) for n, side in enumerate(sides)]
    assert codes == ["", "", "", "", "", "flips_max", "strategy_latched"]


@pytest.mark.proves("I-3")
def test_an_intent_per_tick_latches() -> None:
    desk = desk_with(intents_max=4, denials_max=100)
    # Whatever becomes of them: these four are refused for their size.
    assert {refused(desk, f"o{n}", qty=0) for n in range(4)} == {"order_qty"}
    assert refused(desk, "o5") == "intents_max"
    assert refused(desk, "o6") == "strategy_latched"


@pytest.mark.proves("I-3")
def test_identical_intents_with_new_ids_latch() -> None:
    desk = desk_with(duplicate_window_ms=500, denials_max=3)
    codes = [refused(desk, f"o{n}", pause_s=0.01) for n in range(5)]
    assert codes == ["", "duplicate", "duplicate", "duplicate", "strategy_latched"]


def test_refusals_in_a_row_count_only_when_the_strategy_is_to_blame() -> None:
    desk = desk_with(denials_max=3)
    assert [refused(desk, f"a{n}", qty=0) for n in range(2)] == ["order_qty"] * 2
    assert refused(desk, "good") == ""  # ends the row
    assert [refused(desk, f"b{n}", qty=0) for n in range(2)] == ["order_qty"] * 2
    desk.control(Halt(kind=HaltKind.LIVENESS, reason="t", issuer="t", ts_ns=0), by_operator=False)
    assert [refused(desk, f"c{n}") for n in range(5)] == ["trading_reducing"] * 5  # not its fault
    assert desk.state.latched() == {}
    refused(desk, "d", qty=0)
    assert list(desk.state.latched()) == ["s1"]


def reject_all(desk: Desk) -> None:
    for place in desk.take(Place):
        desk.answer(place.ticket.client_order_id, Rejected(code=2, reason="no"))


def test_rejections_in_a_row_latch() -> None:
    desk = desk_with(rejects_max=3)
    for n in range(2):
        assert refused(desk, f"a{n}") == ""
        reject_all(desk)
    assert refused(desk, "good") == ""
    (place,) = desk.take(Place)
    desk.answer("good", Accepted(broker_order_id=desk.broker.place(place.ticket)))
    for n in range(3):
        assert refused(desk, f"b{n}") == ""
        reject_all(desk)
    assert refused(desk, "c") == "strategy_latched"
    assert "rejected" in desk.state.latched()["s1"]


def test_a_rejection_shown_and_then_answered_counts_once() -> None:
    desk = desk_with(rejects_max=2)
    assert refused(desk, "a") == ""
    (place,) = desk.take(Place)
    desk.answer("a", Rejected(code=2, reason="no"))
    desk.answer("a", Rejected(code=2, reason="no, because"))
    assert desk.state.standing.conduct["s1"].rejects == 1
    assert place.ticket.client_order_id == "a"


def test_the_latch_and_the_counts_survive_a_restart() -> None:
    desk = desk_with(entries_max=3, rejects_max=2)
    assert refused(desk, "a", strategy_id="s2") == ""
    reject_all(desk)
    assert [refused(desk, f"o{n}") for n in range(2)] == ["", ""]
    desk.place_all()
    desk.restart()
    assert refused(desk, "o2") == ""
    desk.place_all()
    assert refused(desk, "o3") == "entries_max"  # three before, two of them before the restart
    desk.restart()
    assert refused(desk, "o4") == "strategy_latched"
    assert refused(desk, "b", strategy_id="s2") == ""
    reject_all(desk)
    assert refused(desk, "c", strategy_id="s2") == "strategy_latched"  # one before, one after


def test_a_person_arms_it_again_and_only_this_one() -> None:
    desk = desk_with(entries_max=2)
    for strategy_id in ("s1", "s2"):
        codes = [refused(desk, f"{strategy_id}{n}", strategy_id=strategy_id) for n in range(3)]
        assert codes == ["", "", "entries_max"]
    desk.control(Halt(kind=HaltKind.INVARIANT, reason="t", issuer="t", ts_ns=0))
    arm(desk)
    assert list(desk.state.latched()) == ["s2"]
    assert HaltKind.INVARIANT in desk.state.standing.halts  # halts stay
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    assert desk.state.trading_state is TradingState.ACTIVE
    assert list(desk.state.latched()) == ["s2"]  # lifting the halts arms nobody
    desk.place_all()
    desk.restart()
    assert [refused(desk, f"x{n}") for n in range(3)] == ["", "", "entries_max"]  # counted afresh


def test_arming_one_that_is_not_latched_is_told() -> None:
    desk = desk_with()
    arm(desk, "nobody")
    assert "resume_refused" in desk.alarm_names()


def test_a_latched_strategy_may_still_exit() -> None:
    desk = desk_with(entries_max=1)
    desk.opened("o0")
    assert refused(desk, "o1") == "entries_max"
    assert refused(desk, "exit", side=Side.SELL, bracket=None) == ""
    assert len(only(desk.to_send, Place)) == 1


@pytest.mark.proves("I-11")
def test_a_loop_of_exits_halts_until_a_person_looks() -> None:
    desk = desk_with(exits_per_min_max=2)
    desk.opened("big", qty=5)
    assert refused(desk, "e0", side=Side.SELL) == ""
    assert refused(desk, "e1", side=Side.SELL) == ""
    assert desk.state.trading_state is TradingState.ACTIVE
    assert refused(desk, "e2", side=Side.SELL) == "exits_per_min_max"
    assert desk.state.trading_state is TradingState.HALTED
    desk.restart()
    assert refused(desk, "e3", side=Side.SELL) == "trading_halted"
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    assert refused(desk, "e4", side=Side.SELL) == ""
    desk.restart()
    assert refused(desk, "e5", side=Side.SELL) == ""  # those before the resume count no more
    assert refused(desk, "e6", side=Side.SELL) == "exits_per_min_max"


@pytest.mark.parametrize("jump_s", [1800, -1800])
def test_a_jump_of_the_wall_clock_ages_nothing(jump_s: int) -> None:
    desk = desk_with(exits_per_min_max=2)
    desk.opened("big", qty=5)
    assert [refused(desk, f"e{n}", side=Side.SELL) for n in range(2)] == ["", ""]
    desk.now_ns += jump_s * NS_PER_S
    desk.restart()
    assert refused(desk, "e2", side=Side.SELL) == "exits_per_min_max"


@pytest.mark.parametrize("boot", ["second", ""])
@pytest.mark.parametrize(("off_s", "refusal"), [(20, "exits_per_min_max"), (3600, "")])
def test_when_the_machine_begins_anew_the_wall_clock_tells_ages(boot: str, off_s: int, refusal: str) -> None:
    """The monotonic clock begins anew with it: exits of last week are not of this minute."""
    desk = desk_with(exits_per_min_max=2)
    desk.opened("big", qty=5)
    assert [refused(desk, f"e{n}", side=Side.SELL) for n in range(2)] == ["", ""]
    desk.boot, desk.mono_ns, desk.now_ns = boot, NS_PER_S, desk.now_ns + off_s * NS_PER_S
    desk.restart()
    assert refused(desk, "e2", side=Side.SELL) == refusal


def test_a_clock_that_is_set_back_after_a_resume_hides_no_exit() -> None:
    desk = desk_with(exits_per_min_max=2)
    desk.opened("big", qty=5)
    assert [refused(desk, f"e{n}", side=Side.SELL) for n in range(3)] == ["", "", "exits_per_min_max"]
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    desk.now_ns -= 1800 * NS_PER_S
    desk.restart()
    assert [refused(desk, f"f{n}", side=Side.SELL) for n in range(2)] == ["", ""]
    desk.restart()
    assert refused(desk, "f2", side=Side.SELL) == "exits_per_min_max"


def test_exits_a_minute_apart_are_no_loop() -> None:
    desk = desk_with(exits_per_min_max=2)
    desk.opened("big", qty=5)
    assert [refused(desk, f"e{n}", side=Side.SELL, pause_s=31) for n in range(4)] == [""] * 4


def test_open_losses_count_with_the_day() -> None:
    desk = desk_with(open_loss_max=100)
    desk.opened("o0", qty=2)  # at 5000.25, fees 0.74; a point of MES is 5 USD
    desk.pass_time(1)
    desk.ready()
    for bid_px, code in (
        (4990.5, ""),
        (4990.25, "open_loss_max"),
    ):  # 97.50 and 100 lost at the bid, plus fees
        desk.pass_time(1)
        desk.ready()
        market = make_market(bid_px=bid_px, ask_px=bid_px + 0.25, ts_asof_ns=desk.now_ns + 1)
        desk.feed(MarketRead(market=market, at=desk.at()))
        assert desk.refusal(make_submit(f"at{bid_px}")) == code


def test_a_position_without_a_market_makes_the_loss_unknown() -> None:
    desk = desk_with()
    desk.opened("o0")
    desk.pass_time(1)
    desk.ready()
    rolled = make_market(contract_id="CON.F.US.MES.M26", ts_asof_ns=desk.now_ns + 1)
    desk.feed(MarketRead(market=rolled, at=desk.at()))
    assert desk.refusal(make_submit("o1")) == "open_loss_unknown"
    assert desk.refusal(make_submit("exit", side=Side.SELL, bracket=None)) == ""


@pytest.mark.proves("I-10")
def test_orders_of_unknown_fate_are_counted_as_if_they_filled() -> None:
    desk = desk_with()
    desk.opened("held", qty=2)
    assert refused(desk, "entry", qty=3) == ""
    desk.answer("entry", Unknown(reason="timeout"))
    assert refused(desk, "exit", side=Side.SELL, bracket=None) == ""
    desk.answer("exit", Unknown(reason="timeout"))
    for strategy_id, buys, sells, longs in (("s1", 3, 1, 0), ("s2", 0, 0, 5)):
        asked = make_submit("next", strategy_id=strategy_id)
        counted = exposure(desk.state, asked, MES, desk.at(), OrderType.MARKET)
        assert (counted.buy_qty, counted.sell_qty, counted.others_long_qty) == (buys, sells, longs)
        assert counted.frozen
    # One of two is on its way out, as far as anybody knows: a second exit of two would turn the position.
    assert refused(desk, "e2", side=Side.SELL, qty=2, bracket=None) == "contract_frozen"
    assert refused(desk, "e3", side=Side.SELL, qty=1, bracket=None) == ""


@pytest.mark.proves("I-10")
def test_a_position_makes_no_room_for_what_rests_against_it() -> None:
    desk = desk_with(position_max=4)
    desk.opened("held", qty=2)
    px = Decimal("5003.00")
    rest: dict[str, object] = {"side": Side.SELL, "order_type": OrderType.LIMIT, "limit_price": px}
    assert refused(desk, "away", qty=3, **rest) == ""  # more than is held: an entry
    assert refused(desk, "too much", qty=3, **rest) == "position_max"  # its stop fills, then both do
    assert refused(desk, "turn", side=Side.SELL, qty=3) == ""  # fills at once, or the stop has


def test_what_never_left_is_no_rejection_of_the_broker() -> None:
    desk = desk_with(rejects_max=2)
    for n in range(4):
        assert refused(desk, f"a{n}") == ""
        for _ in range(2):
            desk.take(Place)
            desk.answer(f"a{n}", NotSent(reason="no connection"))
        assert desk.status(f"a{n}") is OrderStatus.REJECTED
    assert desk.state.latched() == {}
