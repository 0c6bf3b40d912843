"""Ids from facts: the same facts, the same id; short enough for the gateway."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import CLIENT_ORDER_ID_CHARS_MAX, client_order_id

FACTS = {"env": "sim", "account_id": 1001, "strategy_id": "opening-range", "cause": "md:{MES}@17-4", "n": 0}


def make_id(**changes: object) -> str:
    return client_order_id(**{**FACTS, **changes})  # type: ignore[arg-type]


def test_same_facts_same_id() -> None:
    assert make_id() == make_id()


def test_every_fact_matters() -> None:
    others = {"env": "prod", "account_id": 7, "strategy_id": "other", "cause": "md:{MES}@17-5", "n": 1}
    ids = {make_id(), *(make_id(**{name: value}) for name, value in others.items())}
    assert len(ids) == 1 + len(others)


@given(
    env=st.from_regex(r"[a-z0-9]{1,4}", fullmatch=True),
    strategy_id=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    n=st.integers(0, 1_000),
)
def test_always_fits(env: str, strategy_id: str, n: int) -> None:
    made = make_id(env=env, strategy_id=strategy_id, n=n)
    assert len(made) <= CLIENT_ORDER_ID_CHARS_MAX
    assert made.isascii() and made.isprintable() and " " not in made
