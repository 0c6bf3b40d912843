"""`julie tail`: follow a stream, one readable line per entry."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from julie.installation import Installation
from shared.bus.port import BusAway, BusRefused, Entry
from shared.domain.execution import OrderDenied, OrderFilled, OrderUpdated, TradingStateChanged
from shared.domain.order import OrderStatus
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

BLOCK_MS = 500
COUNT = 1_000

_COLORS = {
    "order_filled": "green",
    "order_denied": "yellow",
    "feed_gap": "yellow",
    "halt": "red",
    "trading_state": "magenta",
    "position_mismatch": "red",
    "bar": "cyan",
}


def line_of(entry: Entry) -> str:
    """Return one entry as `time seq type field=value ...`, for a terminal."""
    at = datetime.fromtimestamp(entry.ts_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    kind = entry.kind.decode("utf-8", "replace")
    color = _COLORS.get(kind, "white")
    return (
        f"[dim]{at} {entry.seq:>8}[/dim] [{color}]{escape(kind):<16}[/{color}] {escape(_fields(entry.value))}"
    )


def _fields(value: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return repr(value[:500])
    if not isinstance(found, dict):
        return str(found)
    shown = [
        f"{name}={_shown(name, item)}" for name, item in found.items() if name != "type" and item is not None
    ]
    return " ".join(shown)


def _shown(name: str, value: Any) -> str:
    if name.startswith("ts_") and name.endswith("_ns") and isinstance(value, int) and value > 0:
        return datetime.fromtimestamp(value / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
    return str(value)


async def tail(
    installation: Installation, key: str, console: Console, *, count: int | None, last: int, kind: str | None
) -> int:
    """Follow stream `key`, beginning with its `last` entries. Returns the exit code.

    Args:
        count: Stop after this many lines; None follows for ever.
        kind: Show only this type of message.
    """
    bus = installation.bus()
    shown = 0
    try:
        await bus.ready()
        entries = await bus.last(key, last) if last else []
        if not entries and not await bus.length(key):
            known = ", ".join(sorted(k for k in await bus.keys("*") if not k.endswith(":head"))[:40])
            console.print(f"[yellow]{escape(key)} has no entries yet[/yellow]; there are: {escape(known)}")
        reader = bus.reader()
        reader.follow(key, entries[-1].id.decode() if entries else "$")
        while True:
            for entry in entries:
                if kind is None or entry.kind == kind.encode():
                    console.print(line_of(entry), highlight=False, soft_wrap=True)
                    shown += 1
                    if count is not None and shown >= count:
                        return 0
            entries = await reader.read(block_ms=BLOCK_MS, count=COUNT)
    except (BusAway, BusRefused) as error:
        console.print(f"[red]{escape(str(error))}[/red]; is it up? `julie up`, or correct redis.url")
        return 1
    finally:
        await bus.close()


async def follow_orders(installation: Installation, console: Console, *, until: Callable[[], bool]) -> None:
    """Print what happens to orders, in words, until `until()`."""
    bus = installation.bus()
    try:
        reader = bus.reader()
        reader.follow(topics.orders(installation.julie.account_id), "$")
        while not until():
            for entry in await reader.read(block_ms=BLOCK_MS, count=COUNT):
                text = _in_words(entry)
                if text:
                    console.print(text, highlight=False)
    finally:
        await bus.close()


def _in_words(entry: Entry) -> str | None:
    at = datetime.fromtimestamp(entry.ts_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")
    try:
        message = decode(entry.kind, entry.value)
    except MessageRefused:
        return None
    match message:
        case OrderFilled():
            pnl = f"  realized {message.realized_pnl:+.2f}" if message.realized_pnl else ""
            return (
                f"{at} [green]filled[/green]   {message.strategy_id}: {message.side} {message.last_qty} "
                f"{message.symbol} @ {message.last_px} ({message.role}), "
                f"position {message.strategy_net_qty:+d}{pnl}"
            )
        case OrderDenied():
            return f"{at} [yellow]denied[/yellow]   {message.strategy_id}: {message.symbol} {message.code}"
        case OrderUpdated(status=OrderStatus.FILLED):
            return None  # its fills have been told
        case OrderUpdated(role="entry") | OrderUpdated(role="exit"):
            return (
                f"{at} {message.status:<8} {message.strategy_id}: {message.side} {message.order_qty} "
                f"{message.symbol} {escape(message.reason)}"
            )
        case TradingStateChanged():
            why = "; ".join(f"{kind}: {reason}" for kind, reason in message.halts.items())
            return f"{at} [magenta]trading {message.state}[/magenta] {escape(why)}"
        case _:
            return None
