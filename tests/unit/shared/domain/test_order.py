"""The table of an order's life, exhaustively: every pair is allowed, a harmless repetition, or refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.order import (
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


@pytest.mark.parametrize("status", list(S))
@pytest.mark.parametrize("fact", list(F))
@pytest.mark.proves("I-7")
def test_every_pair(status: OrderStatus, fact: OrderFact) -> None:
    after = following(status, fact)
    if (status, fact) in TRANSITIONS:
        assert after is TRANSITIONS[status, fact]
    elif status in TERMINAL:
        assert after in (None, status)
    else:
        assert after is None


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
    ],
)
@pytest.mark.proves("I-7")
def test_odd_rows(status: OrderStatus, fact: OrderFact, expected: OrderStatus) -> None:
    assert next_status(status, fact) is expected


@given(st.lists(st.sampled_from(list(F)), max_size=20))
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
