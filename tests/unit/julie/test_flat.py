"""The rule of `julie panic`: two explicit empty answers, and nothing else, are flat."""

from __future__ import annotations

import random

from julie.flat import CONFIRM_AFTER_S, NS_PER_S, Account, Look, Round, decide

MES, MNQ = "CON.F.US.MES.Z26", "CON.F.US.MNQ.Z26"


def look(
    at_s: float, positions: dict[str, int] | None, orders: dict[int, str] | None, **more: object
) -> Look:
    return Look(round(at_s * NS_PER_S), positions, orders, **more)  # type: ignore[arg-type]


def test_everything_seen_is_canceled_and_closed_in_one_round() -> None:
    round_ = decide(Account(), look(0, {MES: 2, MNQ: -1}, {7: "stop", 5: "limit"}))
    assert (round_.cancels, round_.closes, round_.flat) == ([5, 7], [MES, MNQ], False)


def test_flat_is_two_empty_looks_some_time_apart() -> None:
    account = Account()
    first = decide(account, look(0, {}, {}))
    assert (first.flat, first.cancels, first.closes) == (False, [], [])
    assert first.wait_s == CONFIRM_AFTER_S
    assert not decide(account, look(CONFIRM_AFTER_S - 0.1, {}, {})).flat
    assert decide(account, look(CONFIRM_AFTER_S, {}, {})).flat


def test_what_comes_in_between_begins_it_anew() -> None:
    account = Account()
    decide(account, look(0, {}, {}))
    assert decide(account, look(1, {}, {9: "stop left behind"})).cancels == [9]
    assert not decide(account, look(2, {}, {})).flat
    assert decide(account, look(2 + CONFIRM_AFTER_S, {}, {})).flat


def test_a_failed_question_is_never_empty() -> None:
    account = Account()
    decide(account, look(0, {}, {}))
    for positions, orders in ((None, {}), ({}, None), (None, None)):
        assert not decide(account, look(10, positions, orders)).flat
    assert "unknown" in account.left()
    assert not decide(account, look(20, {}, {})).flat, "one empty look after the failures"
    assert decide(account, look(22, {}, {})).flat


def test_what_was_seen_last_is_acted_on_while_questions_fail() -> None:
    account = Account()
    decide(account, look(0, {MES: 1}, {5: "stop"}))
    blind = decide(account, look(1, None, None, open_orders={6: "limit"}))
    assert (blind.cancels, blind.closes) == ([5, 6], [MES])
    assert account.left().startswith(f"position +1 {MES}; order 5 (stop); order 6 (limit)")


def test_a_position_of_zero_is_none() -> None:
    assert decide(Account(), look(0, {MES: 0}, {})).closes == []


def test_the_questions_of_a_minute_stay_in_the_budget() -> None:
    account, now_s, questions = Account(), 0.0, 0
    while now_s < 60:
        now_s += decide(account, look(now_s, None, None)).wait_s
        questions += 3
    assert questions < 120


def test_flat_is_only_said_when_it_was_seen() -> None:
    """Against an account that does what it likes: never flat while anything is there or unknown."""
    for seed in range(300):
        chance, account, now_s = random.Random(seed), Account(), 0.0
        clean_since_s: float | None = None
        for _ in range(60):
            positions = chance.choice([{}, {}, {}, {MES: chance.randint(-2, 2)}, None])
            orders = chance.choice([{}, {}, {}, {chance.randint(1, 9): "x"}, None])
            done: Round = decide(account, look(now_s, positions, orders))
            held = positions is None or orders is None or bool(orders) or any(positions.values())
            clean_since_s = None if held else (now_s if clean_since_s is None else clean_since_s)
            wanted = clean_since_s is not None and now_s - clean_since_s >= CONFIRM_AFTER_S - 1e-9
            assert done.flat == wanted
            if done.flat:
                break
            now_s += chance.choice([0.1, 1.0, done.wait_s])
