"""What guard demands: rules, closing hours, what is unknown, latch and re-arm, and days that turn."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from services.guard.events import AskLook, AskPrice, Priced, ReArmed, RecordUnwritten, Reported
from services.guard.record import Record, Rule
from services.guard.rules import Rules, Scale
from services.guard.state import Demand, Level
from services.guard.truth import figures, fills_from_ns, held, is_settled
from shared.domain.control import HaltKind
from shared.domain.market import FeedHealth
from shared.domain.report import FillReport, PositionReport, SyncHealth
from tests.support.guard_desk import MES, GuardDesk, S, changed, chicago, make_hours

D = Decimal
NO_HOURS = make_hours(flat_by=None)
BY_CONTRACTS = Rules(profile="c", start_balance=D(50_000), scaling=(Scale(profit=D(0), contracts=D("0.2")),))


def latch(desk: GuardDesk) -> Rule | None:
    record = desk.state.record
    return record.latch.rule if record is not None and record.latch is not None else None


def turned_over() -> tuple[GuardDesk, PositionReport]:
    """Return a desk on which a position was closed with a loss and one like it opened, and the older one."""
    desk = GuardDesk().started()
    desk.pushes = False
    desk.trade(10)
    old = desk.broker.position(desk.now_ns)
    desk.px -= 11
    desk.trade(-10)
    desk.trade(10)
    return desk, old


def look_that_shows(desk: GuardDesk, fills: list[FillReport]) -> None:
    """Let a second pass, then look: the broker's search shows these fills only."""
    desk.pass_time(1)
    desk.asked.append(AskLook(fills_from_ns=fills_from_ns(desk.state), working=False))
    desk.feed(desk.look(fills=fills))
    desk.asked.clear()


# -- starting ---------------------------------------------------------------------------


def test_it_halts_until_two_looks_agree_and_then_resumes() -> None:
    desk = GuardDesk()
    desk.run(0.1)
    assert desk.reason == "the account has not been read yet"
    desk.run(5)
    assert desk.words == ["halt", "resume"]
    assert desk.state.demand.level is Level.CLEAR


def test_without_rules_it_demands_nothing_and_still_shows_the_account() -> None:
    desk = GuardDesk("none", hours=NO_HOURS, balance=1).started()
    desk.rest = False
    desk.run(300, step_s=1)
    assert desk.words == ["resume"]
    assert latch(desk) is None


def test_the_market_time_has_to_be_known() -> None:
    desk = GuardDesk()
    market_ns, desk.market_ns = desk.market_ns, None
    desk.run(10)
    assert desk.reason == "nothing has told the market's time yet"
    desk.market_ns = market_ns
    desk.run(5)
    assert desk.words[-1] == "resume"


# -- breaches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [(-79, None), (-80, Rule.DAILY_LOSS), (-81, Rule.DAILY_LOSS), (80, None)],
)
def test_the_market_moves_against_a_position_up_to_the_daily_loss(ticks: int, expected: Rule | None) -> None:
    """10 MES: 12.50 a tick; 1,000 less the fees of 3.70 are just above 79 ticks."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px += ticks * D("0.25")
    desk.run(0.2)
    assert latch(desk) is expected
    assert (desk.flattens() == 1) is (expected is not None)


def test_a_breach_is_written_down_halts_and_flattens_at_once() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px -= 25
    desk.quote()
    assert desk.words[-2:] == ["halt", "flatten"]
    assert desk.record_on_disk is not None
    assert desk.record_on_disk.latch is not None
    assert desk.record_on_disk.latch.ts_breach_ns == desk.now_ns
    assert desk.reason.startswith("daily loss: -1253.70 (realized -3.70, open -1250.00)")
    assert desk.note_names().count("breach") == 1


def test_the_maximum_loss_by_realized_losses_of_several_days() -> None:
    desk = GuardDesk(changed(GuardDesk().rules, daily_loss=None), balance=48_100).started()
    desk.trade(10)
    desk.px -= 8
    desk.run(0.2)
    assert latch(desk) is Rule.MAX_LOSS


def test_too_many_contracts() -> None:
    desk = GuardDesk(BY_CONTRACTS).started()
    desk.trade(2)
    desk.run(1)
    assert latch(desk) is None
    desk.trade(1)
    desk.run(1)
    assert latch(desk) is Rule.CONTRACTS
    assert desk.flattens() == 1


def test_gains_and_fees_count() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px += 5
    desk.trade(-10)  # + 250 - 7.40
    desk.trade(10)
    desk.px -= D("24.75")  # - 1237.50 - 3.70
    desk.run(0.2)
    assert latch(desk) is None
    desk.px -= D("0.25")
    desk.run(0.2)
    assert latch(desk) is Rule.DAILY_LOSS


# -- pictures that do not fit together ------------------------------------------------------


def test_a_fill_without_its_position_is_no_breach_it_halts_and_looks_again() -> None:
    """The push of the fill comes first: the loss would be counted twice, realized and open."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.run(1)
    desk.px -= 12  # - 600
    desk.run(1)
    assert latch(desk) is None
    desk.pushes = False
    desk.trade(-10)
    desk.feed(Reported(report=desk.broker.fills[-1], at=desk.at()))
    assert latch(desk) is None
    assert desk.reason == "fills and positions do not fit together yet, and a limit may be reached"
    desk.run(5)
    assert latch(desk) is None
    assert desk.words[-1] == "resume"


def test_after_a_clock_was_set_back_a_push_still_counts_at_once() -> None:
    desk = GuardDesk().started()
    desk.now_ns -= 3_600 * S
    desk.rest = False
    desk.trade(10)
    desk.px -= 25
    desk.run(0.2)
    assert latch(desk) is Rule.DAILY_LOSS


def test_after_a_clock_was_set_back_a_look_still_overtakes_what_was_pushed_before() -> None:
    """Else guard keeps a position that the broker does not show, for as long as the clock was set back."""
    desk = GuardDesk().started()
    desk.trade(3)
    desk.run(1)
    desk.now_ns -= 3_600 * S
    desk.pushes = False
    desk.trade(-3)
    desk.run(40)
    assert held(desk.state) == []
    assert is_settled(desk.state)


def test_a_push_that_waited_for_us_does_not_overtake_a_later_look() -> None:
    desk = GuardDesk().started()
    desk.pushes = False
    desk.trade(3)
    old = desk.broker.position(desk.now_ns)
    desk.trade(-3)
    desk.run(20)
    desk.feed(Reported(report=old, at=desk.at()))
    assert held(desk.state) == []


def test_a_push_of_an_older_position_that_comes_late_is_no_loss_once_more() -> None:
    """Its quantity is what we hold; its loss was realized when it was closed, and is in the balance."""
    desk, old = turned_over()
    desk.run(20)
    assert is_settled(desk.state)
    desk.feed(Reported(report=msgspec.structs.replace(old, ts_recv_ns=desk.now_ns), at=desk.at()))
    assert not is_settled(desk.state)
    desk.run(1)
    assert latch(desk) is None
    desk.run(20)
    assert is_settled(desk.state)


def test_fills_whose_positions_have_not_come_are_no_loss_once_more() -> None:
    """They close and open again: the quantity of the older position is right by chance."""
    desk, old = turned_over()
    for report in (old, *desk.broker.fills):
        desk.feed(Reported(report=msgspec.structs.replace(report, ts_recv_ns=desk.now_ns), at=desk.at()))
    assert not is_settled(desk.state)
    assert latch(desk) is None
    desk.run(20)
    assert is_settled(desk.state)
    assert latch(desk) is None


def test_a_look_that_missed_a_fill_between_its_questions_counts_only_when_repeated() -> None:
    desk = GuardDesk().started()
    desk.pushes = False
    desk.trade(10)
    desk.run(20)
    desk.px -= 12
    desk.trade(-10)
    assert desk.state.fingerprint is not None
    desk.asked.append(AskLook(fills_from_ns=desk.state.fingerprint.fills_from_ns, working=False))
    # The balance is of after the close, the fills are of before it: 600 of loss in no fill.
    desk.feed(desk.look(fills=desk.broker.fills[:-1]))
    assert desk.state.truth is not None
    assert desk.state.truth.balance == D("49996.30"), "the look does not count"
    desk.run(2)
    assert desk.state.truth.balance == D(50_000) - 600 - D("7.40")


def test_a_fill_that_was_pushed_counts_although_the_search_does_not_show_it_yet() -> None:
    """Two looks lacked the same gain: what was lost before it broke the day's limit."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.run(20)
    desk.px += 16
    desk.trade(-10)
    for _ in range(2):
        look_that_shows(desk, desk.broker.fills[:-1])
        known = figures(desk.state, desk.at())
        assert known is not None
        assert (desk.state.look_failure, known.day_realized) == ("", D("792.60"))
        assert known.balance == D("50792.60")


def test_after_a_restart_a_gain_that_the_search_does_not_show_yet_is_no_loss() -> None:
    """Nobody has heard its push, but the balance has it: the loss before it did not break the day's limit."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px -= 16
    desk.trade(-10)
    desk.trade(10)
    desk.run(40)
    desk.px += 16
    desk.trade(-10)
    desk.restart()
    for _ in range(2):
        look_that_shows(desk, desk.broker.fills[:-1])
    known = figures(desk.state, desk.at())
    assert known is not None
    assert (desk.state.look_failure, known.day_realized) == ("", -4 * D("3.70"))
    desk.trade(10)
    desk.px -= 5  # 250: without the gain it would be more than the day's 1,000
    desk.quote()
    assert is_settled(desk.state)
    assert latch(desk) is None


def test_a_payout_is_no_loss_of_the_day() -> None:
    desk = GuardDesk().started()
    desk.broker.balance -= 1_500
    desk.run(60)
    assert desk.state.truth is not None
    assert desk.state.truth.balance == 48_500
    assert latch(desk) is None


def test_money_that_no_fill_explains_is_believed_when_it_stays() -> None:
    desk = GuardDesk().started()
    desk.broker.balance += 500
    desk.run(15)
    desk.run(2)
    assert desk.state.truth is not None
    assert desk.state.truth.balance == 50_500


def test_after_a_restart_one_look_is_enough_when_it_agrees_with_those_before() -> None:
    desk = GuardDesk().started()
    desk.trade(3)
    desk.run(20)
    desk.restart()
    desk.run(0.2)
    assert desk.looks and desk.state.truth is not None
    assert {name: p.net_qty for name, p in desk.state.truth.base.items()} == {MES: 3}


def test_after_a_restart_a_look_that_does_not_agree_counts_when_repeated() -> None:
    desk = GuardDesk().started()
    desk.run(20)
    desk.restart()
    desk.broker.balance += 500
    desk.run(0.9)
    assert desk.state.truth is None
    desk.run(0.3)
    assert desk.state.truth is not None
    assert desk.state.truth.balance == 50_500


# -- what is not known ------------------------------------------------------------------------


def test_an_account_that_is_not_read_halts_until_it_is() -> None:
    desk = GuardDesk().started()
    desk.rest = False
    desk.run(40)
    assert desk.state.demand.level is Level.CLEAR
    desk.run(20)
    assert desk.reason == "the account was not read for 45 s"
    desk.rest = True
    desk.run(8)
    assert desk.words == ["halt", "resume", "halt", "resume"]


def test_a_position_without_a_price_halts_and_the_broker_is_asked_for_one() -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.quotes = False
    desk.run(10.5)
    assert desk.reason == f"no price of {MES}, of which a position is open"
    asked = [one for one in desk.feed_ticks(10) if isinstance(one, AskPrice)]
    assert len(asked) == 2, "every 5 s"
    desk.feed(Priced(contract_id=MES, symbol="MES", px=D(5_000), multiplier=D(5), at=desk.at()))
    desk.run(3)
    assert desk.words[-1] == "resume"
    assert desk.state.demand.level is Level.CLEAR


def test_a_price_of_the_brokers_history_breaks_a_rule_like_any_other() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.quotes = False
    desk.run(11)
    desk.feed(Priced(contract_id=MES, symbol="MES", px=D(4_975), multiplier=D(5), at=desk.at()))
    assert latch(desk) is Rule.DAILY_LOSS


def test_flat_needs_no_price() -> None:
    desk = GuardDesk().started()
    desk.quotes = False
    desk.run(60)
    assert desk.words == ["halt", "resume"]


@pytest.mark.parametrize("health", [FeedHealth.STALE, FeedHealth.DISCONNECTED, FeedHealth.UNKNOWN])
def test_a_price_of_a_feed_that_is_not_live_is_no_price(health: FeedHealth) -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.quotes = False
    desk.quote(health=health)
    assert desk.state.demand.level is Level.HALT


def test_a_clock_that_was_set_back_keeps_no_price() -> None:
    """By the feed's clock everything new is older than what is known then, for as long as it was set back."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.now_ns -= 3_600 * S
    desk.px -= 25
    desk.run(0.2)
    assert latch(desk) is Rule.DAILY_LOSS


def test_a_price_from_before_a_clock_was_set_back_grows_old_all_the_same() -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.quotes = False
    desk.now_ns -= S
    desk.run(11)
    assert desk.reason == f"no price of {MES}, of which a position is open"


@pytest.mark.parametrize(("ahead_s", "expected"), [(1.0, Level.CLEAR), (1.1, Level.HALT)])
def test_a_price_written_in_our_future_is_none(ahead_s: float, expected: Level) -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.quotes = False
    desk.quote(ts_asof_ns=desk.now_ns + round(ahead_s * S))
    assert desk.state.demand.level is expected


def test_what_lies_under_the_key_counts_when_newer_or_when_what_is_known_is_old() -> None:
    desk = GuardDesk().started()
    known_ns = desk.now_ns
    desk.quotes = False

    def mark_px() -> float | None:
        return desk.state.marks[MES].market.bid_px

    desk.quote(polled=True, bid_px=1.0, ts_asof_ns=known_ns - S)
    assert mark_px() == 5_000
    desk.quote(polled=True, bid_px=2.0, ts_asof_ns=known_ns + 1)
    assert mark_px() == 2
    desk.run(10.1)
    desk.quote(polled=True, bid_px=3.0, ts_asof_ns=known_ns + 1)
    assert mark_px() == 2, "the same again does not make it young"
    desk.quote(polled=True, bid_px=4.0, ts_asof_ns=known_ns - 3_600 * S)
    assert mark_px() == 4


def test_a_price_that_lay_under_the_key_when_guard_started_is_none_until_it_changes() -> None:
    """By the clock it is of this moment; nobody has heard it."""
    desk = GuardDesk()
    desk.quotes = False
    desk.quote(polled=True)
    desk.started()
    desk.trade(1)
    desk.run(0.2)
    desk.quote(polled=True, ts_asof_ns=desk.state.marks[MES].market.ts_asof_ns)
    assert desk.state.demand.level is Level.HALT
    desk.quote(polled=True)
    assert desk.state.demand.level is Level.CLEAR


def test_crossed_or_one_sided_prices_are_no_price() -> None:
    for changes in ({"crossed": True}, {"bid_px": None}):
        desk = GuardDesk().started()
        desk.trade(1)
        desk.quotes = False
        desk.quote(**changes)
        assert desk.state.demand.level is Level.HALT, changes


def test_in_a_closed_market_the_last_price_stands() -> None:
    desk = GuardDesk(hours=NO_HOURS).started()
    desk.trade(1)
    desk.quotes = False
    desk.quote(health=FeedHealth.CLOSED)
    desk.run(30)
    assert desk.state.demand.level is Level.CLEAR


@pytest.mark.parametrize(("flattens", "expected"), [(True, Level.FLAT), (False, Level.HALT)])
def test_blind_for_long_with_a_position(flattens: bool, expected: Level) -> None:
    desk = GuardDesk(blind_flattens=flattens).started()
    desk.trade(1)
    desk.quotes = False
    desk.run(68)
    assert desk.state.demand.level is Level.HALT
    desk.run(2.5)
    assert desk.state.demand.level is expected
    assert desk.flattens() == (1 if flattens else 0)
    assert latch(desk) is None, "nothing was broken"


def test_after_closing_blindly_it_goes_on_by_itself() -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.quotes = False
    desk.run(70)
    desk.execution_obeys()
    desk.run(10)
    assert desk.broker.net_qty == 0
    assert desk.words[-1] == "resume"


def test_closing_blindly_ends_when_nothing_works_any_more_not_when_nothing_is_held() -> None:
    """The close fills, the cancel of the stop does not get through: the stop would open a position."""
    desk = GuardDesk().started()
    desk.trade(1)
    desk.broker.order(77)
    desk.broker.cancels_work = False
    desk.quotes = desk.execution_beats = False
    desk.run(90)
    assert desk.broker.net_qty == 0
    assert desk.state.demand.level is Level.FLAT
    desk.broker.cancels_work = True
    desk.run(20)
    assert desk.broker.working == {}
    assert desk.words[-1] == "resume"


def test_closing_blindly_goes_on_through_the_last_minutes_before_the_close() -> None:
    desk = GuardDesk().started()
    desk.trade(1)
    desk.broker.order(77)
    desk.broker.cancels_work = False
    desk.quotes = desk.execution_beats = False
    desk.run(90)
    desk.jump_market("2026-03-03 15:08:10")
    desk.run(1)
    assert desk.state.demand.level is Level.FLAT


def test_a_fill_of_a_day_before_that_is_told_again_changes_no_figure() -> None:
    """Its fees were corrected at the settlement: it counted once more, and latched a breach."""
    desk = GuardDesk(at="2026-03-03 20:00").started()
    desk.trade(4)
    desk.trade(-4)
    fills = desk.broker.fills[-2:]
    desk.run(40)
    desk.jump_market("2026-03-04 18:00")
    desk.run(40)
    assert desk.state.truth is not None
    before = dict(desk.state.truth.fills)
    for fill in fills:
        told = msgspec.structs.replace(fill, fees=fill.fees + D("0.40"), ts_recv_ns=desk.now_ns)
        desk.feed(Reported(report=told, at=desk.at()))
    assert desk.state.truth.fills == before and not desk.state.truth.later


def test_a_record_that_cannot_be_written_halts() -> None:
    desk = GuardDesk().started()
    desk.feed(RecordUnwritten(reason="disk full", at=desk.at()))
    assert desk.reason == "the record of guard cannot be written"
    desk.feed(RecordUnwritten(reason=None, at=desk.at()))
    desk.run(3)
    assert desk.words[-1] == "resume"


def test_a_halt_ends_only_when_its_reason_has_been_gone_for_a_while() -> None:
    desk = GuardDesk().started()
    desk.feed(RecordUnwritten(reason="disk full", at=desk.at()))
    desk.feed(RecordUnwritten(reason=None, at=desk.at()))
    desk.run(1.9)
    assert desk.words[-1] == "halt"
    desk.run(0.3)
    assert desk.words[-1] == "resume"


# -- how often it looks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "least", "most"),
    [("calm", 4, 4), ("near", 12, 13), ("bus_away", 12, 13), ("out_of_sync", 12, 13)],
)
def test_looks_a_minute(what: str, least: int, most: int) -> None:
    """About three requests each; the credential has 190 a minute for everybody."""
    desk = GuardDesk().started()
    if what == "near":
        desk.trade(10)
        desk.px -= 16
    elif what == "bus_away":
        desk.bus_away = True
    elif what == "out_of_sync":
        desk.sync(SyncHealth.STALE)
    desk.run(20)
    count = desk.looks
    desk.run(60)
    assert least <= desk.looks - count <= most


# -- latch and re-arm ------------------------------------------------------------------------------


def breached() -> GuardDesk:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px -= 25
    desk.run(0.2)
    desk.execution_obeys()
    desk.run(5)
    assert desk.broker.net_qty == 0
    assert desk.state.flat_seen
    return desk


def test_a_latch_stays_when_flat_and_over_a_restart() -> None:
    desk = breached()
    desk.run(600, step_s=1)
    assert desk.words[-1] == "flatten"
    desk.restart()
    desk.said.clear()
    desk.run(30)
    assert latch(desk) is Rule.DAILY_LOSS
    assert desk.words == ["halt", "flatten"], "it is said again, and seen flat again"
    assert desk.state.flat_seen


def test_a_re_arm_in_breach_is_refused_with_the_figures() -> None:
    desk = breached()
    desk.re_arm()
    assert latch(desk) is Rule.DAILY_LOSS
    assert "re-arm refused: still broken, daily loss: -1257.40" in desk.reason
    assert "re_arm_refused" in desk.note_names()


def test_a_re_arm_before_the_broker_showed_flat_is_refused() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px -= 25
    desk.run(0.2)
    desk.re_arm()
    assert "re-arm refused: the broker has not shown the account flat twice" in desk.reason


def test_the_next_trading_day_a_re_arm_ends_it_and_only_a_re_arm() -> None:
    desk = breached()
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(60)
    assert latch(desk) is Rule.DAILY_LOSS
    desk.re_arm()
    assert latch(desk) is None
    desk.run(3)
    assert desk.words[-1] == "resume"
    assert desk.record_on_disk is not None
    assert desk.record_on_disk.latch is None
    assert desk.record_on_disk.last is not None, "it is remembered"


@pytest.mark.proves("I-29")
@pytest.mark.parametrize("ago_s", [61.0, -6.0])
def test_a_re_arm_of_another_time_lifts_nothing(ago_s: float) -> None:
    """It was kept, or made for later."""
    desk = breached()
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(60)
    desk.re_arm(ago_s=ago_s)
    assert latch(desk) is Rule.DAILY_LOSS
    assert "re_arm_refused" in desk.note_names()


@pytest.mark.proves("I-29")
def test_a_re_arm_that_was_heard_before_lifts_nothing_also_after_a_restart() -> None:
    desk = GuardDesk().started()
    order = desk.re_arm()
    desk.trade(10)
    desk.px -= 25
    desk.run(20)
    assert latch(desk) is Rule.DAILY_LOSS
    desk.restart()
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(20)
    desk.feed(ReArmed(order=order, at=desk.at()))
    assert latch(desk) is Rule.DAILY_LOSS
    desk.re_arm()
    assert latch(desk) is None


@pytest.mark.proves("I-29")
def test_a_resume_said_while_the_clock_was_ahead_blocks_no_later_one() -> None:
    desk = GuardDesk().started()
    desk.now_ns += 86_400 * S
    early = desk.re_arm()
    desk.now_ns -= 86_400 * S
    desk.trade(10)
    desk.px -= 25
    desk.run(20)
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(20)
    assert latch(desk) is Rule.DAILY_LOSS
    desk.feed(ReArmed(order=early, at=desk.at()))
    assert latch(desk) is Rule.DAILY_LOSS
    desk.re_arm()
    assert latch(desk) is None


@pytest.mark.proves("I-29")
def test_a_resume_said_while_the_clock_was_ahead_does_not_count_again_when_its_time_comes() -> None:
    desk = GuardDesk().started()
    desk.now_ns += 86_400 * S
    early = desk.re_arm()
    desk.now_ns -= 86_400 * S
    desk.re_arm()
    desk.trade(10)
    desk.px -= 25
    desk.run(20)
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(20)
    desk.now_ns = early.ts_ns + S
    desk.feed(ReArmed(order=early, at=desk.at()))
    assert latch(desk) is Rule.DAILY_LOSS


def test_a_record_does_not_grow_with_resumes() -> None:
    desk = GuardDesk().started()
    for _ in range(200):
        desk.pass_time(1)
        desk.re_arm()
    assert desk.record_on_disk is not None
    assert len(desk.record_on_disk.resumes) == 50


def test_a_broken_maximum_loss_cannot_be_re_armed_on_another_day() -> None:
    desk = GuardDesk(balance=47_000).started()
    desk.run(3)
    desk.jump_market("2026-03-05 10:00")
    desk.run(40)
    desk.re_arm()
    assert latch(desk) is Rule.MAX_LOSS
    assert "at or below the floor 48000.00" in desk.reason


def test_a_re_arm_without_a_latch_changes_nothing() -> None:
    desk = GuardDesk().started()
    before = list(desk.said)
    desk.re_arm()
    assert desk.said == before


def test_a_re_arm_waits_for_what_the_search_may_still_lack() -> None:
    """After a restart nobody has told the newest loss: two looks that lacked it would let trading go on."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.px += 60
    desk.trade(-10)
    desk.jump_market("2026-03-04 17:00:01")
    desk.run(60)
    desk.trade(10)
    desk.px -= 25
    desk.run(0.2)
    desk.execution_obeys()
    desk.run(5)
    assert latch(desk) is Rule.DAILY_LOSS
    desk.jump_market("2026-03-05 17:00:01")
    desk.run(60)
    desk.pushes = False
    desk.trade(10)
    desk.px -= 21
    desk.trade(-10)
    desk.restart()
    desk.state.flat_seen = True
    for _ in range(2):
        look_that_shows(desk, desk.broker.fills[:-2])
    desk.re_arm()
    assert latch(desk) is Rule.DAILY_LOSS
    assert "does not show yet by what" in desk.state.refusal
    desk.run(40)
    desk.re_arm()
    assert latch(desk) is Rule.DAILY_LOSS
    assert "still broken, daily loss" in desk.state.refusal


def test_a_re_arm_while_blind_is_refused() -> None:
    desk = breached()
    desk.rest = False
    desk.run(60)
    desk.re_arm()
    assert "re-arm refused: the account was not read for 45 s" in desk.reason


def test_what_appears_while_latched_is_closed_too() -> None:
    desk = breached()
    desk.trade(1)
    desk.run(0.2)
    assert desk.flattens() == 2


def test_an_order_that_appears_while_latched_is_cancelled_too() -> None:
    desk = breached()
    desk.broker.order(77)
    desk.run(16)
    assert desk.flattens() == 2, "the next look shows it"


def test_an_unreadable_record_latches() -> None:
    desk = GuardDesk()
    desk.state.record_lost = "guard's record could not be read"
    desk.run(8)
    assert latch(desk) is Rule.RECORD
    assert desk.reason == "guard's record could not be read"
    desk.re_arm()
    assert latch(desk) is None


# -- closing hours -----------------------------------------------------------------------------------


def test_flat_by_15_10_and_again_from_17_00() -> None:
    desk = GuardDesk(at="2026-03-04 15:07").started()
    desk.trade(1)
    desk.jump_market("2026-03-04 15:07:59")
    desk.run(0.9)
    assert desk.words[-1] == "resume"
    desk.run(0.3)
    assert desk.reason == "flat by Wed 15:10 CST: no new exposure"
    desk.jump_market("2026-03-04 15:09:29")
    desk.run(0.9)
    assert desk.flattens() == 0
    desk.run(0.3)
    assert desk.flattens() == 1
    assert desk.reason == "flat by Wed 15:10 CST: closed until Wed 17:00 CST"
    desk.execution_obeys()
    desk.run(10)
    assert desk.broker.net_qty == 0
    assert latch(desk) is None
    desk.jump_market("2026-03-04 16:59:50")
    desk.run(5)
    assert desk.words[-1] == "flatten"
    desk.jump_market("2026-03-04 17:00:00")
    desk.run(3)
    assert desk.words[-1] == "resume"


def test_a_weekend_is_closed_until_sunday_evening() -> None:
    desk = GuardDesk(at="2026-03-06 15:09:00").started()
    desk.jump_market("2026-03-06 15:09:31")
    desk.run(1)
    assert desk.reason == "flat by Fri 15:10 CST: closed until Sun 17:00 CDT"
    desk.jump_market("2026-03-07 12:00")
    desk.run(1)
    assert desk.state.demand == Demand(level=Level.FLAT, reason="closed for the weekend")
    desk.jump_market("2026-03-08 17:00:01")
    desk.run(5)
    assert desk.words[-1] == "resume"


def test_a_new_position_in_closed_hours_is_closed() -> None:
    desk = GuardDesk(at="2026-03-04 15:30").started()
    desk.run(5)
    before = desk.flattens()
    desk.trade(1)
    desk.run(0.2)
    assert desk.flattens() == before + 1


def test_a_breach_in_closing_hours_latches_beyond_them() -> None:
    desk = GuardDesk(at="2026-03-04 15:09:40")
    desk.broker.trade(10, D(5_000), ts_ns=desk.market_ns or 0, now_ns=desk.now_ns)
    desk.px -= 25
    desk.run(5)
    assert latch(desk) is Rule.DAILY_LOSS


# -- ends of days -----------------------------------------------------------------------------------


def test_the_floor_rises_at_the_end_of_the_day_and_never_inside_it() -> None:
    desk = GuardDesk(at="2026-03-02 10:00").started()
    record = desk.state.record
    assert record is not None
    assert record.high_balance == 50_000
    for day, gain, expected in (("03", 900, 50_900), ("04", -400, 50_900), ("05", 700, 51_200)):
        desk.broker.balance += gain
        desk.run(60)  # until it is plain that no fill is missing that would explain it
        record = desk.state.record
        assert record is not None
        before = record.high_balance
        desk.run(20)
        assert desk.state.record == record, f"nothing moves before the end of the day, {before}"
        desk.jump_market(f"2026-03-{day} 10:00")
        desk.run(30)
        record = desk.state.record
        assert record is not None
        assert (record.day, record.high_balance) == (f"2026-03-{day}", expected)


def test_days_that_guard_did_not_see_are_found_from_the_fills() -> None:
    desk = GuardDesk(at="2026-03-02 10:00").started()
    desk.pushes = False
    for day, at, px in (("02", "11:00", 100), ("03", "11:00", 40), ("04", "11:00", -60)):
        desk.jump_market(f"2026-03-{day} {at}")
        desk.trade(1, 5_000)
        desk.trade(-1, 5_000 + px)
    desk.jump_market("2026-03-06 09:00")
    desk.restart()
    desk.run(5)
    record = desk.state.record
    assert record is not None
    assert record.day == "2026-03-06"
    assert record.high_balance == D(50_000) + 500 + 200 - 4 * D("0.37"), "the end of 3 March"
    assert record.eod_balance == D(50_000) + 500 + 200 - 300 - 6 * D("0.37")


def test_a_first_start_finds_earlier_days_too() -> None:
    desk = GuardDesk(at="2026-03-02 11:00")
    desk.pushes = False
    desk.trade(1, 5_000)
    desk.trade(-1, 5_300)
    desk.jump_market("2026-03-03 10:00")
    desk.trade(1, 5_000)
    desk.trade(-1, 4_900)
    desk.run(5)
    record = desk.state.record
    assert record is not None
    assert record.high_balance == D(51_500) - D("0.74")
    assert record.start_balance == 50_000


def test_a_fill_that_is_pushed_while_a_look_runs_is_no_part_of_the_day_before() -> None:
    """The look's answers are of before the fill: its balance does not have it, and loses nothing by it."""
    desk = GuardDesk(at="2026-03-04 16:59:00", hours=NO_HOURS).started()
    desk.trade(10)
    desk.run(20)
    desk.jump_market("2026-03-04 17:00:01")
    desk.asked.append(AskLook(fills_from_ns=fills_from_ns(desk.state), working=False))
    answers = desk.look()
    desk.pass_time(0.4)
    desk.px += 16
    desk.trade(-10)
    desk.feed(msgspec.structs.replace(answers, at=desk.at()))
    record = desk.state.record
    assert record is not None
    assert record.day == "2026-03-05"
    assert record.eod_balance == D(50_000) - D("3.70")


def test_a_look_that_began_before_the_end_of_the_day_does_not_end_it() -> None:
    """Its answers waited, for the budget or on a slow line: a fill of the old day may be missing in them."""
    desk = GuardDesk(at="2026-03-04 16:59:00", hours=NO_HOURS).started()
    desk.pushes = False
    desk.trade(10)
    desk.run(20)
    desk.jump_market("2026-03-04 16:59:50")
    desk.asked.append(AskLook(fills_from_ns=fills_from_ns(desk.state), working=False))
    answers = desk.look()
    desk.pass_time(5)
    desk.px += 16
    desk.trade(-10)
    desk.pass_time(7)
    desk.feed(msgspec.structs.replace(answers, at=desk.at()))
    desk.asked.clear()
    assert desk.state.record is not None
    assert desk.state.record.day == "2026-03-04"
    desk.run(20)
    record = desk.state.record
    assert (record.day, record.eod_balance) == ("2026-03-05", D(50_000) + 800 - D("7.40"))
    assert record.high_balance == record.eod_balance


def test_a_fill_that_the_search_does_not_show_yet_is_no_part_of_the_day_before() -> None:
    """Balance and position have it, the search lags: two looks that agree prove nothing then."""
    desk = GuardDesk(at="2026-03-04 16:59:00", hours=NO_HOURS).started()
    desk.trade(10)
    desk.run(20)
    desk.pushes = False
    desk.jump_market("2026-03-04 17:00:01")
    desk.px += 16
    desk.trade(-10)
    for _ in range(3):
        look_that_shows(desk, desk.broker.fills[:-1])
    assert desk.state.record is not None
    assert desk.state.record.day == "2026-03-04"
    desk.run(20)
    record = desk.state.record
    assert (record.day, record.eod_balance) == ("2026-03-05", D(50_000) - D("3.70"))
    assert record.high_balance == 50_000


def test_one_fill_that_the_search_lacks_after_another_like_it_is_no_part_of_the_day_before() -> None:
    """Position and money lack the same each time, as if nothing had moved since."""
    desk = GuardDesk(at="2026-03-04 16:58:00", hours=NO_HOURS).started()
    desk.pushes = False
    desk.trade(10)
    look_that_shows(desk, [])
    look_that_shows(desk, [])
    desk.trade(-10)
    desk.jump_market("2026-03-04 17:00:01")
    desk.trade(10)
    desk.pass_time(60)
    look_that_shows(desk, desk.broker.fills[:2])
    assert desk.state.look_failure == ""
    assert desk.state.record is not None
    assert desk.state.record.day == "2026-03-04"
    desk.run(20)
    assert (desk.state.record.day, desk.state.record.eod_balance) == ("2026-03-05", D(50_000) - D("7.40"))


def test_a_day_does_not_end_by_our_clock_when_the_broker_has_told_its_own() -> None:
    """It had told nothing for long when we asked: ours was all there was, and it is an hour ahead."""
    desk = GuardDesk(at="2026-03-04 16:30:00", hours=NO_HOURS).started()
    for _ in range(2):
        desk.pass_time(1)
        desk.asked.append(AskLook(fills_from_ns=fills_from_ns(desk.state), working=False))
        answers = desk.look()
        ahead = msgspec.structs.replace(answers.started, market_ns=chicago("2026-03-04 17:30:00"))
        desk.feed(msgspec.structs.replace(answers, started=ahead))
        desk.asked.clear()
    assert desk.state.look_failure == ""
    assert desk.state.record is not None
    assert desk.state.record.day == "2026-03-04"


def test_the_day_ends_all_the_same_when_money_moved_that_no_fill_explains() -> None:
    desk = GuardDesk(at="2026-03-04 16:59:00", hours=NO_HOURS).started()
    desk.jump_market("2026-03-04 17:00:01")
    desk.broker.balance += 500
    desk.run(20)
    assert desk.state.record is not None
    assert desk.state.record.day == "2026-03-04"
    desk.run(45)
    assert desk.state.record.day == "2026-03-05"
    assert desk.state.record.eod_balance == 50_500


def test_a_reset_of_the_account_counts_from_its_date() -> None:
    desk = GuardDesk(at="2026-03-02 11:00", since="2026-03-04")
    desk.pushes = False
    desk.trade(1, 5_000)
    desk.trade(-1, 5_300)
    desk.jump_market("2026-03-04 10:00")
    desk.broker.balance = D(50_000)
    desk.run(5)
    record = desk.state.record
    assert record is not None
    assert (record.day, record.high_balance, record.since) == ("2026-03-04", 50_000, "2026-03-04")


def test_the_daily_loss_begins_anew_at_17_00() -> None:
    desk = GuardDesk(at="2026-03-04 14:00").started()
    desk.trade(10)
    desk.px -= 18
    desk.trade(-10)
    desk.jump_market("2026-03-04 17:00:30")
    desk.run(20)
    desk.trade(10)
    desk.px -= 10
    desk.run(1)
    assert latch(desk) is None
    desk.px -= 10
    desk.run(1)
    assert latch(desk) is Rule.DAILY_LOSS


def test_a_record_of_before_is_taken_up() -> None:
    known = Record(
        account_id=1001, since="", day="2026-03-04", start_balance=D(50_000), eod_balance=D(51_000),
        high_balance=D(51_500),
    )  # fmt: skip
    desk = GuardDesk(balance=49_500, record=known).started()
    assert latch(desk) is Rule.MAX_LOSS, "the floor is 49,500"


# -- what execution shows ---------------------------------------------------------------


def test_a_word_that_execution_does_not_show_is_said_again() -> None:
    """Redis lost it, or gave its id to another one that was read before."""
    desk = GuardDesk().started()
    assert desk.words == ["halt", "resume"]
    desk.held = frozenset({HaltKind.GUARD, HaltKind.CLOCK})
    desk.run(4.9)
    assert desk.words == ["halt", "resume"]
    desk.run(0.3)
    assert desk.words == ["halt", "resume", "resume"]
    desk.run(5)
    assert desk.words == ["halt", "resume", "resume", "resume"]
    desk.held = frozenset({HaltKind.CLOCK})
    desk.run(20)
    assert desk.words[4:] == []
    desk.trade(1)
    desk.quotes = False
    desk.run(10.2)
    assert desk.words[4:] == ["halt"]
    desk.run(10.2)
    assert desk.words[4:] == ["halt", "halt", "halt"]
    assert desk.said[-1].reason == desk.said[4].reason == f"no price of {MES}, of which a position is open"


@pytest.mark.parametrize("held", [None, frozenset({HaltKind.GUARD})])
def test_an_execution_that_shows_nothing_or_is_silent_is_told_nothing_again(
    held: frozenset[str] | None,
) -> None:
    desk = GuardDesk().started()
    desk.held = held
    desk.run(0.5)
    desk.execution_beats = held is None
    desk.run(20)
    assert desk.words == ["halt", "resume"]
