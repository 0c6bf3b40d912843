"""Replay a recording of one contract's touches and trades.

Columns: `ts_ns,kind,bid_or_price,bid_size_or_size,ask_or_aggressor,ask_size`; kind `Q`
is a touch, `T` a trade with aggressor `B`, `A` or `N` (not known). Rows are played in
the order of the file, whatever their time says.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from services.simulator.contracts import Contract, active_contract
from services.simulator.core import MarketTraded, TouchChanged
from shared.broker.projectx.enums import TradeLogType

COLUMNS = ["ts_ns", "kind", "bid_or_price", "bid_size_or_size", "ask_or_aggressor", "ask_size"]
AGGRESSORS = {"B": TradeLogType.BUY, "A": TradeLogType.SELL, "N": None}


class BadRecording(Exception):
    """The recording cannot be replayed; says which file and line, and why."""


class ReplayMarket:
    """Play a file, row by row, up to a moment of venue time."""

    def __init__(self, path: Path, symbol: str) -> None:
        """Raises:
        BadRecording: If the file is not a recording of the described form.
        """
        self._path = path
        self._line = 1
        self._lines = self._read()
        try:
            first = next(self._lines, None)
        except OSError as error:
            raise BadRecording(f"cannot read the recording {path}: {error.strerror or error}") from error
        if first is None:
            raise BadRecording(f"{path} holds no rows: name a file with touches and trades as replay_file")
        self.first_ns = int(first[0])
        self.contract = active_contract(symbol, self.first_ns)
        self._ticks: dict[str, int] = {}
        self._next: TouchChanged | MarketTraded | None = self._event(first)
        self.played = 0

    @property
    def finished(self) -> bool:
        return self._next is None

    def advance(self, until_ns: int, limit: int) -> list[TouchChanged | MarketTraded]:
        """Return the next rows up to `until_ns`, at most `limit`."""
        events: list[TouchChanged | MarketTraded] = []
        while self._next is not None and len(events) < limit and self._next.now_ns <= until_ns:
            events.append(self._next)
            row = next(self._lines, None)
            self._next = None if row is None else self._event(row)
        self.played += len(events)
        return events

    def _read(self) -> Iterator[list[str]]:
        packed = self._path.suffix == ".gz"
        with gzip.open(self._path, "rt", newline="") if packed else self._path.open(newline="") as file:
            rows = csv.reader(file)
            header = next(rows, None)
            if header != COLUMNS:
                raise BadRecording(f"{self._path}: the first line must be {','.join(COLUMNS)}, not {header}")
            for row in rows:
                self._line += 1
                yield row

    def _event(self, row: list[str]) -> TouchChanged | MarketTraded:
        try:
            if row[1] == "T":
                return MarketTraded(
                    int(row[0]), self.contract.id, self._to_ticks(row[2]), int(row[3]), AGGRESSORS[row[4]]
                )
            if row[1] == "Q":
                return TouchChanged(
                    int(row[0]),
                    self.contract.id,
                    self._to_ticks(row[2]) if row[2] else None,
                    int(row[3] or 0),
                    self._to_ticks(row[4]) if row[4] else None,
                    int(row[5] or 0),
                )
        except (ValueError, KeyError, IndexError, InvalidOperation) as error:
            raise BadRecording(f"{self._path} line {self._line}: cannot read {row}: {error!r}") from error
        raise BadRecording(f"{self._path} line {self._line}: kind must be Q or T, not {row[1]!r}")

    def _to_ticks(self, text: str) -> int:
        known = self._ticks.get(text)
        if known is None:
            ticks = Decimal(text) / self.contract.tick_size
            if ticks != ticks.to_integral_value():
                raise ValueError(f"price {text} is not on the tick grid of {self.contract.tick_size}")
            known = self._ticks[text] = int(ticks)
        return known


def contracts_of(market: ReplayMarket) -> list[Contract]:
    return [market.contract]
