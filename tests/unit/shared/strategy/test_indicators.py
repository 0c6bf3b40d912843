"""Indicators against plain recomputation over the whole series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.market import Bar
from shared.strategy import ATR, EMA, SMA, VWAP, Highest, Lowest

SERIES = st.lists(st.integers(-400, 400).map(lambda n: 5_000 + n * 0.25), min_size=1, max_size=40)


@given(xs=SERIES, length=st.integers(1, 10))
def test_windows(xs: list[float], length: int) -> None:
    sma, high, low = SMA(length), Highest(length), Lowest(length)
    for x in xs:
        sma.add(x)
        high.add(x)
        low.add(x)
    last = xs[-length:]
    if len(xs) < length:
        assert (sma.value, high.value, low.value) == (None, None, None)
    else:
        assert sma.value == pytest.approx(sum(last) / length)
        assert (high.value, low.value) == (max(last), min(last))


@given(xs=SERIES, length=st.integers(1, 10))
def test_ema(xs: list[float], length: int) -> None:
    ema, expected = EMA(length), xs[0]
    for n, x in enumerate(xs):
        value = ema.add(x)
        expected = expected + (x - expected) * 2 / (length + 1) if n else x
        assert value == (expected if n + 1 >= length else None)


def test_atr_takes_gaps_into_account() -> None:
    atr = ATR(2)
    for low, high, close in ((10.0, 12.0, 11.0), (15.0, 16.0, 15.5), (15.0, 16.0, 15.0)):
        atr.add(
            Bar(
                symbol="X", interval_s=60, ts_open_ns=0, open=low, high=high, low=low, close=close, volume=1,
                ts_recv_ns=0,
            )
        )  # fmt: skip
    # 2, then max(1, 16 - 11) = 5 -> 3.5, then 1 -> 2.25
    assert atr.value == pytest.approx(2.25)


def test_vwap() -> None:
    vwap = VWAP()
    assert vwap.value is None
    vwap.add(10.0, 1)
    assert vwap.add(13.0, 2) == pytest.approx(12.0)
    vwap.reset()
    assert vwap.value is None
