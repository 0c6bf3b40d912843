"""The checkers of chaos: a good run passes, and one bug at a time does not."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from proof.chaos.checkers import orders, positions, streams, switch
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.faults import operators
from proof.chaos.installation import ACCOUNT_ID, POSITION_MAX
from proof.chaos.proxy import Request
from proof.chaos.sampler import Able
from proof.chaos.watch import Life, Seen
from proof.record import Record
from services.execution.ledger import Step
from services.guard.record import Breach, Rule
from services.guard.record import Record as GuardRecord
from shared.broker.projectx import enums
from shared.domain.control import TradingState
from shared.domain.execution import FlattenProgressed, OrderUpdated, TradingStateChanged
from shared.domain.order import OrderStatus, Side
from shared.wire import topics
from shared.wire.codec import encode, kind_of
from tests.support.chaos_run import NS, TAG, blank, order, post, seen, step, venue_order

INTENTS = topics.intents(ACCOUNT_ID, "c1")
ORDERS = topics.orders(ACCOUNT_ID)


def broken(evidence: Evidence) -> set[str]:
    record = blank()
    for checker in (orders, positions, streams):
        checker.check(evidence, record)
    assert sum(record.checks.values()) > 10
    return set(record.violations)


def test_good_run_has_no_violation(evidence: Evidence) -> None:
    assert broken(evidence) == set()


def test_second_post_is_a_violation_even_if_the_venue_refused_it(evidence: Evidence) -> None:
    post(evidence)
    assert broken(evidence) == {"I-1"}


def test_second_order_at_the_venue_is_a_violation(evidence: Evidence) -> None:
    evidence.venue_orders.append(venue_order(2))
    assert "I-1" in broken(evidence)


@pytest.mark.parametrize("status", [OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW])
def test_intent_without_an_end_is_lost(evidence: Evidence, status: OrderStatus) -> None:
    evidence.orders[TAG] = order(status)
    assert "I-2" in broken(evidence)


def test_intent_that_was_never_decided_is_lost(evidence: Evidence) -> None:
    other = msgspec.structs.replace(evidence.final[topics.intents(ACCOUNT_ID, "c1")][0].message)
    other = msgspec.structs.replace(other, client_order_id="sim.c1.bbbb")
    evidence.world.watch.streams["intents:{1001}:c1"].append(seen(2, other))
    evidence.final["intents:{1001}:c1"].append(seen(2, other))
    assert broken(evidence) == {"I-2", "I-13"}  # and no step of the journal led to it


def test_order_that_was_never_claimed_is_a_violation(evidence: Evidence) -> None:
    evidence.steps.clear()
    assert broken(evidence) == {"I-3"}


def test_claim_while_halted_is_a_violation(evidence: Evidence) -> None:
    halted = TradingStateChanged(state=TradingState.REDUCING, halts={}, ts_ns=NS)
    evidence.steps[0] = (step(1, halted), halted)
    assert broken(evidence) == {"I-4"}


def test_claim_after_the_expiry_is_a_violation(evidence: Evidence) -> None:
    step, claimed = evidence.steps[-1]
    evidence.steps[-1] = (step, msgspec.structs.replace(claimed, ts_ns=NS + 6_000_000_000))
    assert broken(evidence) == {"I-4"}


@pytest.mark.parametrize("status", [OrderStatus.ABSENT, OrderStatus.REJECTED])
def test_order_called_absent_that_the_venue_holds_is_a_violation(
    evidence: Evidence, status: OrderStatus
) -> None:
    evidence.orders[TAG] = order(status)
    assert broken(evidence) == {"I-5"}


def test_fill_that_was_counted_twice_or_missed_is_a_violation(evidence: Evidence) -> None:
    evidence.fills.append(msgspec.structs.replace(evidence.fills[0], fill_id=2))
    assert broken(evidence) == {"I-8"}
    evidence.fills.clear()
    assert broken(evidence) == {"I-8"}


def test_gap_in_a_stream_is_a_violation(evidence: Evidence) -> None:
    entries = evidence.final["intents:{1001}:c1"]
    entries.append(Seen(f"{NS // 1_000_000}-3".encode(), entries[0].kind, entries[0].value, 0.0))
    assert "I-14" in broken(evidence)


def test_entry_that_was_seen_and_is_gone_is_a_violation(evidence: Evidence) -> None:
    evidence.final["intents:{1001}:c1"] = []
    assert "I-12" in broken(evidence)


def after_a_loss(evidence: Evidence, key: str, *entries: Seen) -> None:
    """Have Redis come back with nothing, and `entries` seen since."""
    watch = evidence.world.watch
    watch.lives.append(watch.last_life(dict(evidence.final)))
    evidence.world.rebuilt_ns.append(NS)
    watch.forget_all()
    watch.streams[key] += entries
    evidence.final = {**evidence.final, key: list(entries)}


def test_entry_of_the_life_after_a_loss_that_is_gone_is_a_violation(evidence: Evidence) -> None:
    (entry,) = evidence.final[INTENTS]
    after_a_loss(evidence, INTENTS, entry)
    assert broken(evidence) == set()
    evidence.final[INTENTS] = []
    assert "I-12" in broken(evidence)


def test_entry_of_the_life_before_a_loss_that_is_gone_is_a_violation(evidence: Evidence) -> None:
    (entry,) = evidence.final[INTENTS]
    after_a_loss(evidence, INTENTS, entry)
    evidence.world.watch.lives[0].held.pop(INTENTS)
    assert broken(evidence) == {"I-12", "I-15"}


def test_what_redis_lost_on_purpose_is_no_violation(evidence: Evidence) -> None:
    journal = topics.journal(ACCOUNT_ID, "c1")
    after_a_loss(evidence, INTENTS)
    evidence.final[journal] = []
    evidence.orders.clear()
    assert "I-12" not in broken(evidence)
    assert "I-13" not in broken(evidence)


def test_intent_that_the_journal_lacks_is_a_violation_after_a_loss_too(evidence: Evidence) -> None:
    (entry,) = evidence.final[INTENTS]
    after_a_loss(evidence, INTENTS, entry)
    evidence.final[topics.journal(ACCOUNT_ID, "c1")] = []
    assert "I-13" in broken(evidence)


def test_stream_that_differs_from_the_ledger_is_a_violation_in_each_life(evidence: Evidence) -> None:
    _, claimed = evidence.steps[-1]
    good, bad = seen(2, claimed), seen(2, msgspec.structs.replace(claimed, order_qty=2))
    for before, since in ((bad, good), (good, bad)):
        evidence.world.watch.lives = [Life({}, {}, {ORDERS: [before]})]
        evidence.final[ORDERS] = [since]
        assert "I-13" in broken(evidence)
    evidence.final[ORDERS] = [good]
    assert "I-13" not in broken(evidence)


def test_intent_that_the_journal_tells_and_the_stream_lacks_is_a_violation(evidence: Evidence) -> None:
    evidence.final["intents:{1001}:c1"] = evidence.world.watch.streams["intents:{1001}:c1"] = []
    assert "I-13" in broken(evidence)


def test_claim_right_after_a_loss_in_redis_is_a_violation(evidence: Evidence) -> None:
    key = topics.orders(ACCOUNT_ID)
    told = seen(2, evidence.steps[-1][1])
    evidence.world.watch.streams[key] = [told]
    evidence.world.rebuilt_ns.append(NS + 2)
    evidence.world.watch.rebuilt.append({key: 1})
    assert "I-16" in broken(evidence)  # the newest step is gone, and it claims
    evidence.world.watch.streams[key].append(told)  # it was there again
    assert "I-16" not in broken(evidence)


def test_stream_that_differs_from_the_ledger_is_a_violation(evidence: Evidence) -> None:
    _, claimed = evidence.steps[-1]
    changed = msgspec.structs.replace(claimed, order_qty=2)
    evidence.final[topics.orders(ACCOUNT_ID)] = [seen(2, changed)]
    assert "I-13" in broken(evidence)


# -- exposure -----------------------------------------------------------------------


def bought(evidence: Evidence, *sizes: int, order_id: int = 1, apart_s: int = 60) -> None:
    """Have the venue fill these one after the other; below zero sells."""
    (one,) = evidence.venue_fills[:1]
    evidence.venue_fills = [
        msgspec.structs.replace(
            one, id=n, size=abs(size), order_id=order_id, created_ns=NS + n * apart_s * 10 * 1_000_000_000,
            side=enums.OrderSide.BID if size > 0 else enums.OrderSide.ASK,
        )
        for n, size in enumerate(sizes)
    ]  # fmt: skip


def exposure(evidence: Evidence) -> Record:
    record = blank()
    orders._exposure(evidence, record)
    return record


def test_position_beyond_the_limit_is_a_violation(evidence: Evidence) -> None:
    bought(evidence, 1, POSITION_MAX - 1)
    record = exposure(evidence)
    assert not record.violations
    assert record.reached == {"position at its limit": 1}
    bought(evidence, 1, POSITION_MAX)
    assert exposure(evidence).violations == {"I-10": 1}
    bought(evidence, -1, -POSITION_MAX)
    assert exposure(evidence).violations == {"I-10": 1}


@pytest.mark.parametrize(("apart_s", "broken"), [(1, False), (60, True)])
def test_stop_and_exit_may_meet_for_a_moment_and_not_for_long(
    evidence: Evidence, apart_s: int, broken: bool
) -> None:
    sold = (3, -3, -3, -1)
    bought(evidence, *sold, order_id=9, apart_s=apart_s)  # by orders that no intent was claimed for
    assert ("I-10" in exposure(evidence).violations) is broken
    bought(evidence, *sold, apart_s=apart_s)
    assert exposure(evidence).violations == {"I-10": 1}  # our own entries have no such excuse


def test_order_that_landed_after_it_was_given_up_is_beside_the_limit(evidence: Evidence) -> None:
    bought(evidence, POSITION_MAX + 1)
    assert exposure(evidence).violations == {"I-10": 1}
    absent = OrderUpdated(
        client_order_id=TAG, strategy_id="c1", status=OrderStatus.ABSENT, order_qty=1, cum_qty=0, ts_ns=NS,
        symbol="MES", reason="", side=Side.BUY,
    )  # fmt: skip
    evidence.steps.append((step(3, absent), absent))
    assert not exposure(evidence).violations


# -- the kill switch ------------------------------------------------------------------


def told(evidence: Evidence, *messages: tuple[float, msgspec.Struct]) -> None:
    """Have execution write these, each so many seconds after NS; the monotonic clock began at NS."""
    evidence.wall_ns = NS
    evidence.steps = [
        (Step(seq, NS + round(after_s * 1e9), kind_of(message), encode(message), ""), message)
        for seq, (after_s, message) in enumerate(messages, 1)
    ]


def state(name: TradingState) -> TradingStateChanged:
    return TradingStateChanged(state=name, halts={}, ts_ns=NS)


def switched(evidence: Evidence) -> set[str]:
    record = blank()
    switch.check(evidence, record)
    assert record.checks.get("I-26")
    return set(record.violations)


@pytest.mark.parametrize(
    ("sent_s", "parent", "broken"),
    [
        (9.0, None, False),
        (10.9, None, False),
        (13.0, None, True),
        (13.0, "entry", False),
        (20.1, None, False),
    ],
)
def test_order_that_leaves_while_trading_is_halted_is_a_violation(
    evidence: Evidence, sent_s: float, parent: str | None, broken: bool
) -> None:
    told(evidence, (10.0, state(TradingState.HALTED)), (20.0, state(TradingState.ACTIVE)))
    evidence.orders[TAG] = order(OrderStatus.FILLED, parent=parent)
    evidence.world.requests.all[0].mono_s = sent_s
    assert switched(evidence) == ({"I-26"} if broken else set())


def test_order_that_nobody_knows_is_a_violation_while_halted(evidence: Evidence) -> None:
    told(evidence, (10.0, state(TradingState.HALTED)))
    evidence.orders.clear()
    evidence.world.requests.all[0].mono_s = 500.0
    assert switched(evidence) == {"I-26"}


@pytest.mark.parametrize(
    ("path", "sent_s", "calm", "broken"),
    [
        ("/api/Order/cancel", 12.0, True, False),
        ("/api/Position/closeContract", 15.5, True, False),
        ("/api/Order/cancel", 18.0, True, True),
        ("/api/Order/cancel", 18.0, False, False),  # it was kept from it
        ("/api/Order/searchOpen", 12.0, True, True),
    ],
)
def test_flatten_must_cancel_and_close_in_time(
    evidence: Evidence, path: str, sent_s: float, calm: bool, broken: bool
) -> None:
    progressed = FlattenProgressed(round=1, cancels=2, closes=0, ts_ns=NS)
    told(evidence, (10.0, state(TradingState.HALTED)), (10.0, progressed))
    evidence.world.requests.all = [Request(mono_s=sent_s, client="execution", path=path, body=b"{}")]
    evidence.world.sampler.able = [Able(float(at_s), calm, calm, calm) for at_s in range(30)]
    assert switched(evidence) == ({"I-26"} if broken else set())


@pytest.mark.parametrize(
    ("code", "left", "said", "took_s", "kept"),
    [
        (0, [], "account 1001: flat, seen twice", 2.0, True),
        (0, ["+1 MES"], "account 1001: flat, seen twice", 2.0, False),
        (1, ["+1 MES"], "account 1001: not seen flat within 30 s. Left: 1 MES", 31.0, True),
        (1, [], "account 1001: not seen flat within 30 s.", 31.0, False),
        (1, ["+1 MES"], "Traceback (most recent call last)", 2.0, False),
        (0, [], "account 1001: flat, seen twice", 50.0, False),
    ],
)
def test_panic_is_flat_or_calls_a_person_with_reason(
    code: int, left: list[str], said: str, took_s: float, kept: bool
) -> None:
    assert operators.panic_kept_its_word(code, left, said, took_s) is kept


@pytest.mark.parametrize(
    ("flat", "usable_s", "kept"), [(True, 34.0, True), (True, 36.0, False), (False, 1.0, False)]
)
def test_flat_in_time_is_by_the_time_that_could_be_used(flat: bool, usable_s: float, kept: bool) -> None:
    assert operators.flat_in_time(flat, usable_s) is kept


def test_breach_is_what_guard_has_written_down_since(evidence: Evidence) -> None:
    world = evidence.world
    path = world.installation.data / f"guard-{ACCOUNT_ID}.json"
    assert operators.breach_since(world, 0) is None
    path.write_text("{")
    assert operators.breach_since(world, 0) is None
    breach = Breach(rule=Rule.DAILY_LOSS, reason="the day's loss", ts_breach_ns=NS)
    kept = GuardRecord(
        account_id=ACCOUNT_ID, since="", day="2026-11-29", start_balance=Decimal(1), eod_balance=Decimal(1),
        high_balance=Decimal(1), latch=breach, last=breach,
    )  # fmt: skip
    path.write_bytes(msgspec.json.encode(kept))
    assert operators.breach_since(world, NS) == breach
    assert operators.breach_since(world, NS + 1) is None  # that was an earlier one
