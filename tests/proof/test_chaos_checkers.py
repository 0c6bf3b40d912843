"""The checkers of chaos: a good run passes, and one bug at a time does not."""

from __future__ import annotations

import msgspec
import pytest

from proof.chaos.checkers import orders, positions, streams
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.installation import ACCOUNT_ID
from proof.chaos.watch import Life, Seen
from shared.domain.control import TradingState
from shared.domain.execution import TradingStateChanged
from shared.domain.order import OrderStatus
from shared.wire import topics
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
