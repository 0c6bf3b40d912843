"""At rest: what we think we hold, what our fills add up to, and what the venue holds are one figure."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from proof.chaos.checkers.evidence import Evidence
from proof.record import Record
from services.execution.records import BEFORE
from services.simulator.orders import WORKING


def sums(evidence: Evidence) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return contract -> position by our ledger, by the venue's fills, by the venue's book."""
    ours: dict[str, int] = defaultdict(int, evidence.standing.baselines)
    for fill in evidence.fills:
        if fill.strategy_id != BEFORE:
            ours[fill.contract_id] += fill.signed_qty
    venue: dict[str, int] = defaultdict(int)
    for one in evidence.venue_fills:
        venue[one.contract_id] += one.size if one.side.name == "BID" else -one.size
    return ours, venue, evidence.venue_positions


def check(evidence: Evidence, record: Record) -> None:
    ours, venue, book = sums(evidence)
    wrong = 0
    for contract in {*ours, *venue, *book}:
        figures = (ours.get(contract, 0), venue.get(contract, 0), book.get(contract, 0))
        same = len(set(figures)) == 1
        wrong += not same
        text = "ledger {}, sum of the venue's fills {}, venue's position {}".format(*figures)
        record.check("I-8", same, f"{contract}: {text}")
    record.figures["wrong_positions_at_rest"] = wrong
    _fills(evidence, record)
    _money(evidence, record)


def _fills(evidence: Evidence, record: Record) -> None:
    """The same fills on both sides, each once."""
    parts: dict[int, int] = defaultdict(int)
    for fill in evidence.fills:
        if fill.fill_id >= 0:  # below zero: between two books of ours, at the end of a flatten
            parts[fill.fill_id] += fill.qty
    at_venue = {fill.id: fill.size for fill in evidence.venue_fills}
    for fill_id in {*parts, *at_venue}:
        here, there = parts.get(fill_id, 0), at_venue.get(fill_id, 0)
        record.check("I-8", here == there, f"fill {fill_id}: {here} contracts here, {there} at the venue")


def _money(evidence: Evidence, record: Record) -> None:
    fees = sum((fill.fees for fill in evidence.fills), Decimal(0))
    venue = sum((fill.fees for fill in evidence.venue_fills), Decimal(0))
    record.check("I-8", fees == venue, f"fees: {fees} here, {venue} at the venue")


def protection(evidence: Evidence) -> dict[str, int]:
    """Return contract -> contracts that working stops at the venue would close."""
    found: dict[str, int] = defaultdict(int)
    for order in evidence.venue_orders:
        if order.status in WORKING and order.stop_ticks is not None and order.parent_id is not None:
            found[order.contract_id] += order.leaves
    return found
