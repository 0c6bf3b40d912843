"""Recordings: played in the order of the file; a bad one is refused by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from services.simulator.core import MarketTraded, TouchChanged
from services.simulator.market_replay import COLUMNS, BadRecording, ReplayMarket
from shared.broker.projectx.enums import TradeLogType

HEADER = ",".join(COLUMNS) + "\n"
START_NS = 1_703_541_600_000_000_000
ES = "CON.F.US.EP.H24"


def write(folder: Path, rows: str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(
        gzip.compress((HEADER + rows).encode()) if name.endswith("gz") else (HEADER + rows).encode()
    )
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_rows_up_to_a_moment(tmp_path: Path, name: str) -> None:
    rows = f"{START_NS},Q,4799.0,16,4799.5,23\n{START_NS + 5},T,4799.25,44,N,\n{START_NS + 9},T,4799.5,1,A,\n"
    market = ReplayMarket(write(tmp_path, rows, name), "ES")
    assert (market.first_ns, market.contract.id) == (START_NS, ES)
    assert market.advance(START_NS + 5, 10) == [
        TouchChanged(START_NS, ES, 19_196, 16, 19_198, 23),
        MarketTraded(START_NS + 5, ES, 19_197, 44, None),
    ]
    assert not market.finished
    assert market.advance(START_NS + 9, 10) == [MarketTraded(START_NS + 9, ES, 19_198, 1, TradeLogType.SELL)]
    assert market.finished
    assert market.played == 3


def test_limit_of_rows(tmp_path: Path) -> None:
    rows = "".join(f"{START_NS + n},T,4800,1,B,\n" for n in range(5))
    market = ReplayMarket(write(tmp_path, rows), "ES")
    assert [len(market.advance(1 << 62, 2)) for _ in range(3)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,X,4800,1,B,\n", "kind must be Q or T"),
        ("1,T,4800.1,1,B,\n", "not on the tick grid"),
        ("1,T,4800,1,Z,\n", "line 3"),
        ("1,T,nan,1,B,\n", "line 3"),
        ("abc,T,4800,1,B,\n", "line 3"),
        ("1,T\n", "line 3"),
    ],
)
def test_bad_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    market = ReplayMarket(write(tmp_path, f"{START_NS},T,4800,1,B,\n{row}"), "ES")
    with pytest.raises(BadRecording, match=words):
        market.advance(1 << 62, 10)


def test_not_a_recording(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadRecording, match="first line must be"):
        ReplayMarket(tmp_path / "y.csv", "ES")
    with pytest.raises(BadRecording, match="holds no rows"):
        ReplayMarket(write(tmp_path, ""), "ES")
    with pytest.raises(BadRecording, match="No such file"):
        ReplayMarket(tmp_path / "absent.csv", "ES")
