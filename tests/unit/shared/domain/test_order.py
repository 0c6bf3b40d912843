"""The table of an order's life, exhaustively: every pair is allowed, a harmless repetition, or refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.order import (
    REPEATED,
    TRANSITIONS,
    ImpossibleTransition,
    OrderFact,
    OrderStatus,
    Side,
    next_status,
)

S, F = OrderStatus, OrderFact

TERMINAL = {S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED, S.DENIED, S.ABSENT}


def following(status: OrderStatus, fact: OrderFact) -> OrderStatus | None:
    try:
        return next_status(status, fact)
    except ImpossibleTransition:
        return None


IMPOSSIBLE = {
    S.PENDING_NEW: {F.CLAIMED, F.ENLARGED, F.PROVEN_ABSENT, F.CANCEL_SENT, F.CANCEL_REFUSED, F.VANISHED},
    S.UNKNOWN: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.CANCEL_SENT, F.CANCEL_REFUSED},
    S.SUSPENDED: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.UNANSWERED, F.PROVEN_ABSENT, F.CANCEL_REFUSED},
    S.NEW: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.UNANSWERED, F.PROVEN_ABSENT, F.CANCEL_REFUSED, F.SUSPENDED},
    S.PARTIALLY_FILLED: {
        F.CLAIMED,
        F.ENLARGED,
        F.NOT_SENT,
        F.UNANSWERED,
        F.PROVEN_ABSENT,
        F.CANCEL_REFUSED,
        F.SUSPENDED,
    },
    S.PENDING_CANCEL: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.UNANSWERED, F.PROVEN_ABSENT},
    S.FILLED: {F.CLAIMED, F.NOT_SENT, F.PROVEN_ABSENT, F.CANCEL_SENT},
    S.CANCELED: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.PROVEN_ABSENT, F.CANCEL_SENT},
    S.EXPIRED: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.PROVEN_ABSENT, F.CANCEL_SENT},
    S.REJECTED: {F.CLAIMED, F.ENLARGED, F.PROVEN_ABSENT, F.CANCEL_SENT},
    S.ABSENT: {F.CLAIMED, F.ENLARGED, F.NOT_SENT, F.ACCEPTED, F.CANCEL_SENT},
    S.DENIED: set(F),
}
"""Nobody can say these: an order is claimed once, absence is proven of the unknown alone, and so on."""


@pytest.mark.parametrize("status", list(S))
@pytest.mark.parametrize("fact", list(F))
@pytest.mark.proves("I-7")
def test_every_pair_is_exactly_one_of_three(status: OrderStatus, fact: OrderFact) -> None:
    in_table = (status, fact) in TRANSITIONS
    repeated = fact in REPEATED.get(status, ())
    impossible = fact in IMPOSSIBLE[status]
    assert in_table + repeated + impossible == 1
    after = following(status, fact)
    if in_table:
        assert after is TRANSITIONS[status, fact]
    else:
        assert after is (status if repeated else None)


def test_ends_are_left_for_a_late_landing_or_a_fill_alone() -> None:
    left = {(s, f) for (s, f), after in TRANSITIONS.items() if s in TERMINAL and after is not s}
    fills = {F.PARTLY_FILLED, F.FULLY_FILLED}
    landed = {(S.REJECTED, F.FOUND)} | {(S.ABSENT, fact) for fact in F}
    assert {pair for pair in left if pair[1] not in fills} <= landed | {(S.FILLED, F.ENLARGED)}
    assert {pair for pair in left if pair[0] in (S.FILLED, S.DENIED)} == {(S.FILLED, F.ENLARGED)}


@given(st.lists(st.sampled_from([f for f in F if f not in (F.FULLY_FILLED, F.PARTLY_FILLED)]), max_size=12))
def test_nothing_but_fills_fills(facts: list[OrderFact]) -> None:
    status = S.PENDING_NEW
    for fact in facts:
        status = following(status, fact) or status
        assert status not in (S.FILLED, S.PARTIALLY_FILLED)


def test_terminal_means_that_nothing_fills_any_more() -> None:
    assert {status for status in S if status.is_terminal} == TERMINAL
    assert {status for status in S if status.may_fill} == set(S) - TERMINAL


def test_silence_is_never_read_as_an_end() -> None:
    for status in S:
        after = following(status, F.UNANSWERED)
        assert after in (None, S.UNKNOWN) or status in TERMINAL


def test_absent_comes_from_unknown_alone() -> None:
    ways = {status for status in S if following(status, F.PROVEN_ABSENT) is S.ABSENT}
    assert ways == {S.UNKNOWN, S.ABSENT}


@pytest.mark.parametrize(
    ("status", "fact", "expected"),
    [
        (S.CANCELED, F.FULLY_FILLED, S.FILLED),  # a fill in flight beats our cancel
        (S.CANCELED, F.PARTLY_FILLED, S.CANCELED),
        (S.PENDING_NEW, F.FULLY_FILLED, S.FILLED),  # a fill overtakes its acknowledgment
        (S.UNKNOWN, F.FOUND, S.NEW),
        (S.ABSENT, F.FOUND, S.NEW),  # landed late
        (S.REJECTED, F.FOUND, S.NEW),  # refused in words, and there
        (S.FILLED, F.CANCELED, S.FILLED),
        (S.FILLED, F.CANCEL_REFUSED, S.FILLED),
        (S.PENDING_CANCEL, F.CANCEL_REFUSED, S.NEW),
        (S.SUSPENDED, F.ACTIVATED, S.NEW),
        (S.NEW, F.VANISHED, S.UNKNOWN),  # one look says so: searches decide
        (S.FILLED, F.VANISHED, S.FILLED),
    ],
)
@pytest.mark.proves("I-7")
def test_odd_rows(status: OrderStatus, fact: OrderFact, expected: OrderStatus) -> None:
    assert next_status(status, fact) is expected


@given(st.lists(st.sampled_from([fact for fact in F if fact is not F.ENLARGED]), max_size=20))
@pytest.mark.proves("I-7")
def test_a_filled_order_stays_filled(facts: list[OrderFact]) -> None:
    status = S.FILLED
    for fact in facts:
        status = following(status, fact) or status
    assert status is S.FILLED


def test_impossible_names_both() -> None:
    with pytest.raises(ImpossibleTransition, match="denied cannot become accepted"):
        next_status(S.DENIED, F.ACCEPTED)


def test_sides() -> None:
    for side, other in itertools.permutations(Side, 2):
        assert side.opposite is other
        assert side.sign == -other.sign
