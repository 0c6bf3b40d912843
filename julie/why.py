"""`julie why ORDER`: from an order back to the decision, the intent, and the entry that led to it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape

from julie.installation import Installation
from julie.story import Sent, Story, Told, story
from julie.tail import line_of
from services.execution.ledger import ledger_path
from services.recorder.archive import read_archive
from services.recorder.files import ArchiveDamaged
from shared.bus.port import BusAway, BusRefused, Entry
from shared.domain.journal import InputsConsumed
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

AROUND_MS = 2_000
"""The worker's journal entry lies as near to its intent as one atomic step."""
JOURNAL_ENTRIES_MAX = 5_000


class Source(NamedTuple):
    """One entry that something refers to, and where it was found.

    Attributes:
        where: `bus`, `archive`, or in words why it is not here.
    """

    cause: str
    entry: Entry | None
    where: str


class Sources:
    """Entries by what names them: from the bus, from the archive when it has trimmed them."""

    def __init__(self, installation: Installation) -> None:
        self._data_dir = installation.julie.data_dir
        self._bus = installation.bus()
        self.away = ""

    async def find(self, cause: str) -> Source:
        stream, _, entry_id = cause.rpartition("@")
        if topics.topic_of(stream) is None or "-" not in entry_id:
            return Source(cause, None, "this names no entry of a stream")
        ms = int(entry_id.partition("-")[0])
        for entry, where in await self._range(stream, ms, ms):
            if entry.id.decode() == entry_id:
                return Source(cause, entry, where)
        gone = "gone: neither on the bus nor in the archive"
        return Source(
            cause, None, f"not found in the archive, and the bus is away: {self.away}" if self.away else gone
        )

    async def around(self, stream: str, ms: int) -> list[tuple[Entry, str]]:
        return await self._range(stream, ms - AROUND_MS, ms + AROUND_MS)

    async def _range(self, stream: str, first_ms: int, last_ms: int) -> list[tuple[Entry, str]]:
        found: list[tuple[Entry, str]] = []
        try:
            if not self.away:
                entries = await self._bus.between(stream, str(first_ms), str(last_ms), JOURNAL_ENTRIES_MAX)
                found = [(entry, "bus") for entry in entries]
        except (BusAway, BusRefused) as error:
            self.away = str(error)
        return found or [(entry, "archive") for entry in self._archived(stream, first_ms, last_ms)]

    def _archived(self, stream: str, first_ms: int, last_ms: int) -> list[Entry]:
        try:
            frame = read_archive(self._data_dir, stream, first_ms=first_ms, last_ms=last_ms)
        except ArchiveDamaged:
            return []
        rows = frame.select("id", "kind", "payload").iter_rows()
        return [Entry(stream, entry_id.encode(), kind.encode(), payload) for entry_id, kind, payload in rows]

    async def close(self) -> None:
        await self._bus.close()


class Reasons(NamedTuple):
    """Everything that led to an order.

    Attributes:
        journal: What the worker noted when it sent the intent, and one entry before and after.
    """

    intent: Source | None
    inputs: list[Source]
    journal: list[Source]


async def why(installation: Installation, console: Console, wanted: str, *, as_json: bool) -> int:
    """Print the way from an order back to its cause. Returns 1 when the ledger does not know the order."""
    path = ledger_path(installation.julie.data_dir, installation.julie.account_id)
    try:
        found = story(path, wanted)
    except sqlite3.Error as error:
        console.print(f"[red]{path}: {escape(str(error))}[/red]; see `julie ledger verify`", soft_wrap=True)
        return 1
    if found is None:
        console.print(
            f"{path} knows no order {escape(wanted)}: give its `client_order_id` or the broker's number; "
            "`julie tail 'orders:{ACCOUNT}'` shows both", soft_wrap=True,
        )  # fmt: skip
        return 1
    sources = Sources(installation)
    try:
        reasons = await _reasons(sources, found, installation.julie.account_id)
    finally:
        await sources.close()
    if as_json:
        console.print_json(msgspec.json.encode(_plain(found, reasons)).decode())
    else:
        _show(console, found, reasons, sources.away)
    return 0


async def _reasons(sources: Sources, found: Story, account_id: int) -> Reasons:
    if not found.cause:
        return Reasons(None, [], [])
    intent = await sources.find(found.cause)
    if intent.entry is None:
        return Reasons(intent, [], [])
    try:
        message = decode(intent.entry.kind, intent.entry.value)
    except MessageRefused:
        return Reasons(intent, [], [])
    cause = getattr(message, "cause", "")
    inputs = [await sources.find(cause)] if cause else []
    strategy_id = getattr(message, "strategy_id", "")
    journal = topics.journal(account_id, strategy_id) if strategy_id else ""
    if topics.topic_of(journal) is None:
        return Reasons(intent, inputs, [])
    entries = await sources.around(journal, intent.entry.ts_ms)
    names = {getattr(message, "client_order_id", ""), found.name}
    at = next((n for n, (entry, _) in enumerate(entries) if names & _led_to(entry)), None)
    near = entries[max(0, at - 1) : at + 2] if at is not None else []
    return Reasons(intent, inputs, [Source(entry.cause, entry, where) for entry, where in near])


def _led_to(entry: Entry) -> set[str]:
    try:
        message = decode(entry.kind, entry.value)
    except MessageRefused:
        return set()
    return set(message.intents) if isinstance(message, InputsConsumed) else set()


# -- for people ---------------------------------------------------------------------------


def _show(console: Console, found: Story, reasons: Reasons, away: str) -> None:
    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if away:
        line(f"[yellow]The bus is away[/yellow] ({escape(away)}): this is from the ledger and the archive.\n")
    line(f"[bold]{escape(found.name)}[/bold]  {escape(_standing(found))}")
    for one in found.family:
        if one.client_order_id != found.name:
            line(f"  with {escape(one.client_order_id)}: {one.role}, {one.status}, {one.broker_order_id}")
    line("\n[bold]What it came from[/bold]")
    for source in reasons.inputs:
        _source(line, source)
    if not reasons.inputs:
        line("  nothing tells of an input")
    line("\n[bold]What the strategy noted[/bold]")
    for source in reasons.journal:
        _source(line, source)
    if not reasons.journal:
        line("  no journal entry names it")
    line("\n[bold]What was asked[/bold]")
    if reasons.intent is not None:
        _source(line, reasons.intent)
    else:
        line("  no intent: it was placed by others, or by execution itself")
    line("\n[bold]What execution decided and what became of it[/bold]")
    last_run = ("", "")
    told: list[Told | Sent] = [*found.steps, *found.sent]
    for item in sorted(told, key=lambda one: (one.ts_ns, one.seq, isinstance(one, Sent))):
        if isinstance(item, Sent):
            line(f"  [dim]{_at(item.ts_ns)} {'':>8}[/dim] [blue]sent[/blue]             {escape(item.words)}")
            continue
        if (item.build, item.settings) != last_run:
            last_run = (item.build, item.settings)
            line(f"  [dim]by build {item.build or '?'}, settings {item.settings or '?'}[/dim]")
        entry = Entry("", f"{item.ts_ns // 1_000_000}-{item.seq}".encode(), item.kind.encode(),
                      msgspec.json.encode(item.message))  # fmt: skip
        line(f"  {line_of(entry)}")


def _source(line: Any, source: Source) -> None:
    line(f"  {escape(source.cause)}  [dim]({escape(source.where)})[/dim]")
    if source.entry is not None:
        line(f"    {line_of(source.entry)}")


def _standing(found: Story) -> str:
    order = found.order
    if order is None:
        return "is no order of ours that was sent"
    price = " ".join(
        f"{name} {px}" for name, px in (("limit", order.limit_price), ("stop", order.stop_price)) if px
    )
    parts = [
        f"{order.status}: {order.side} {order.order_qty} {order.symbol} {order.order_type} {price}".strip(),
        f"{order.cum_qty} filled",
        f"broker's number {order.broker_order_id}"
        if order.broker_order_id is not None
        else "no number of the broker's",
        order.reason,
    ]
    return ", ".join(part for part in parts if part)


def _at(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]


# -- for machines --------------------------------------------------------------------------


def _plain(found: Story, reasons: Reasons) -> dict[str, Any]:
    return {
        "order": found.name,
        "record": found.order,
        "family": found.family,
        "fills": found.fills,
        "cause": found.cause,
        "intent": _plain_source(reasons.intent) if reasons.intent is not None else None,
        "inputs": [_plain_source(one) for one in reasons.inputs],
        "journal": [_plain_source(one) for one in reasons.journal],
        "steps": [Told(*step)._asdict() for step in found.steps],
        "sent": [one._asdict() for one in found.sent],
    }


def _plain_source(source: Source) -> dict[str, Any]:
    entry = source.entry
    message: Any = None
    if entry is not None:
        try:
            message = msgspec.json.decode(entry.value)
        except msgspec.DecodeError:
            message = repr(entry.value)
    return {
        "cause": source.cause,
        "where": source.where,
        "kind": entry.kind.decode() if entry is not None else None,
        "message": message,
    }
