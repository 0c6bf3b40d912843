"""The small memory of what has left memory."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.execution.settled import Numbers, Settled


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10_000)), max_size=60))
def test_numbers_are_a_dictionary(pairs: list[tuple[int, int]]) -> None:
    numbers, model = Numbers(), {}
    for key, value in pairs:
        numbers.put(key, value)
        model[key] = value
    assert len(numbers) == len(model)
    assert {key: numbers.get(key) for key in model} == model
    assert numbers.get(next(n for n in range(len(model) + 1) if n not in model)) is None


def test_an_order_is_known_by_both_ids_and_a_fill_by_its_own() -> None:
    settled = Settled()
    settled.put_order("live.a.1", 17, 3)
    settled.put_order("live.a.2", None, 0)
    settled.put_fill(5, Decimal("0.74"))
    settled.put_fill(6, Decimal("0.37"))
    settled.put_fill(7, Decimal("0.74"))
    assert settled.filled(17) == settled.filled_by_name("live.a.1") == 3
    assert settled.filled_by_name("live.a.2") == 0
    assert settled.filled(18) is settled.filled_by_name("live.a.3") is settled.fees(8) is None
    assert [settled.fees(fill) for fill in (5, 6, 7)] == [Decimal("0.74"), Decimal("0.37"), Decimal("0.74")]
    assert settled.has("live.a.2") and not settled.has("live.a.3")
