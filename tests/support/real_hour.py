"""The recorded market, read independently of the product: what must come out of the chain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "es-2023-12-25.csv.gz"
COLUMNS = ["ts_ns", "kind", "a", "b", "c", "d"]

needs_real_hour = pytest.mark.skipif(
    not FILE.exists(), reason="the recorded hour of ES is not on this machine (../shared/data)"
)


class Expected(NamedTuple):
    """One message that must be in the stream, and the row of the file it comes from."""

    row: int
    values: tuple[float | int | str, ...]


class Market(NamedTuple):
    """quotes: (bid, ask); depth: (side, px, qty); trades: (px, qty)."""

    quotes: list[Expected]
    depth: list[Expected]
    trades: list[Expected]


def rows() -> pl.DataFrame:
    """Return the file as it is."""
    types = {
        "ts_ns": pl.Int64,
        "kind": pl.String,
        "a": pl.String,
        "b": pl.String,
        "c": pl.String,
        "d": pl.String,
    }
    return pl.read_csv(FILE, new_columns=COLUMNS, schema_overrides=list(types.values()))


def expected() -> Market:
    """Return every change of the best prices, every change of their sizes, and every trade, in file order."""
    market = Market([], [], [])
    before: tuple[float, int, float, int] | None = None
    for number, (_, kind, a, b, c, d) in enumerate(rows().iter_rows()):
        if kind == "T":
            market.trades.append(Expected(number, (float(a), int(b))))
            continue
        now = (float(a), int(b), float(c), int(d))
        if before is None or (now[0], now[2]) != (before[0], before[2]):
            market.quotes.append(Expected(number, (now[0], now[2])))
        for side, at in (("bid", 0), ("ask", 2)):
            if before is None or now[at : at + 2] != before[at : at + 2]:
                market.depth.append(Expected(number, (side, now[at], int(now[at + 1]))))
        before = now
    return market


def bars(interval_s: int) -> pl.DataFrame:
    """Return the bars of the file's trades: an expression of polars, nothing of ours."""
    return (
        rows()
        .filter(pl.col("kind") == "T")
        .select(
            pl.col("ts_ns"),
            pl.col("a").cast(pl.Float64).alias("px"),
            pl.col("b").cast(pl.Int64).alias("qty"),
        )
        .with_columns((pl.col("ts_ns") // (interval_s * 10**9) * (interval_s * 10**9)).alias("ts_open_ns"))
        .group_by("ts_open_ns", maintain_order=True)
        .agg(
            pl.col("px").first().alias("open"),
            pl.col("px").max().alias("high"),
            pl.col("px").min().alias("low"),
            pl.col("px").last().alias("close"),
            pl.col("qty").sum().alias("volume"),
            pl.len().alias("trades"),
        )
        .sort("ts_open_ns")
    )
