"""The bus: nothing seen is lost, nothing stands twice, effects of a step are there together."""

from __future__ import annotations

from collections import Counter

from proof.chaos.checkers.evidence import Evidence
from proof.chaos.installation import ACCOUNT_ID
from proof.chaos.watch import Life, Seen
from proof.record import Record
from shared.domain.control import HaltKind
from shared.domain.execution import OrderClaimed, TradingStateChanged
from shared.domain.journal import InputsConsumed
from shared.domain.order import ClosePosition, SubmitOrder
from shared.wire import topics

KEPT_MARGIN_S = 100.0
"""An entry that is younger than `recorder.keep_s` by this much must be there."""


def _ms(entry: Seen) -> int:
    return int(entry.id.partition(b"-")[0])


def _seq(entry: Seen) -> int:
    return int(entry.id.partition(b"-")[2])


def check(evidence: Evidence, record: Record) -> None:
    for key, entries in evidence.final.items():
        _numbers(key, entries, record)
    watch = evidence.world.watch
    for life in [*watch.lives, watch.last_life(evidence.final)]:
        _kept(evidence, life, record)
        _ledger_is_stream(evidence, life, record)
    _steps_whole(evidence, record)
    _halted_after_loss(evidence, record)


def _numbers(key: str, entries: list[Seen], record: Record) -> None:
    """I-14, I-17: ids rise by one from entry to entry; a second writer would leave a gap or a double."""
    before: tuple[int, int] | None = None
    for entry in entries:
        ms, _, seq = entry.id.decode().partition("-")
        now = (int(ms), int(seq))
        if before is not None:
            whole = now[1] == before[1] + 1 and now[0] >= before[0]
            record.check("I-14", whole, f"{key}: after {before} comes {now}")
            record.check("I-17", now[1] > before[1], f"{key}: {now} after {before}: two writers")
        before = now


def _kept(evidence: Evidence, life: Life, record: Record) -> None:
    """I-12, I-15: what was seen in a life of Redis's data is there at its end, the same.

    Streams of this length are not trimmed. What Redis lost on purpose is between two lives: what it had
    acknowledged since has to be there.
    """
    for key, seen_in_all in evidence.world.watch.streams.items():
        entries = seen_in_all[life.begun.get(key, 0) : life.seen.get(key, 0)]
        held = {one.id: one.value for one in life.held.get(key, [])}
        # Some time after they were archived, journals may go.
        may_trim = key.startswith("journal:")
        kept_ms = round((evidence.world.installation.keep_s - KEPT_MARGIN_S) * 1_000)
        oldest_ms = _ms(entries[-1]) - kept_ms if entries else 0
        for seen in entries:
            there = held.get(seen.id)
            if there is None and may_trim and _ms(seen) < oldest_ms:
                continue
            record.check("I-12", there == seen.value, f"{key} {seen.id.decode()} was seen and is gone")
        recent = sum(_ms(one) >= oldest_ms for one in entries) if may_trim else len(entries)
        record.check("I-15", len(held) >= recent, f"{key}: {recent} seen, {len(held)} left")


def _ledger_is_stream(evidence: Evidence, life: Life, record: Record) -> None:
    """Step n of the ledger is entry n of the stream, whatever Redis lost and was handed in again."""
    steps = {step.seq: step.value for step, _ in evidence.steps}
    for entry in life.held.get(topics.orders(ACCOUNT_ID), []):
        seq = _seq(entry)
        record.check("I-13", steps.get(seq) == entry.value, f"entry {seq} of orders is not step {seq}")


def _steps_whole(evidence: Evidence, record: Record) -> None:
    """I-13: the journal names an intent exactly when the stream of intents holds it, and once."""
    for key in evidence.intent_streams():
        name = key.rpartition(":")[2]
        told: Counter[str] = Counter()
        journal = evidence.final.get(topics.journal(ACCOUNT_ID, name), [])
        for entry in journal:
            message = entry.message
            if isinstance(message, InputsConsumed):
                told.update(message.intents)
        begun_ms = _ms(journal[0]) if journal and _seq(journal[0]) > 1 else 0
        held: Counter[str] = Counter()
        new: Counter[str] = Counter()
        for entry in evidence.final.get(key, []):
            message = entry.message
            if message is None or _ms(entry) < begun_ms:
                continue
            held[message.client_order_id] += 1  # cancels and changes name the order that they are about
            new[message.client_order_id] += isinstance(message, SubmitOrder | ClosePosition)
        for order_id in {*told, *held}:
            same = new[order_id] <= 1 and told[order_id] == held[order_id]
            text = f"{key}: {order_id} stands {held[order_id]} times, the journal tells {told[order_id]}"
            record.check("I-13", same, text)


def _halted_after_loss(evidence: Evidence, record: Record) -> None:
    """I-16: after Redis lost steps of execution, it halts before it claims anything that adds exposure.

    What else was lost (reports, a journal, the market) is noticed by who wrote it, and written or asked anew.
    """
    key = topics.orders(ACCOUNT_ID)
    for at_ns, seen in zip(evidence.world.rebuilt_ns, evidence.world.watch.rebuilt, strict=True):
        if not _lost(evidence, key, seen.get(key, 0)):
            record.reach("Redis came back with all that execution had told")
            continue
        halted = False
        for step, message in evidence.said(OrderClaimed, TradingStateChanged):
            if isinstance(message, TradingStateChanged):
                halted = HaltKind.INVARIANT in message.halts
            if step.ts_ns < at_ns:
                continue
            if halted:
                record.check("I-16", True)
                break
            if isinstance(message, OrderClaimed) and not message.reduce_only:
                record.check("I-16", False, f"{message.client_order_id} was claimed before a halt")
                break


def _lost(evidence: Evidence, key: str, count: int) -> bool:
    """Is the last entry that was seen of a stream, before Redis changed, not there when it is read anew?"""
    entries = evidence.world.watch.streams[key]
    if not count:
        return False
    last = entries[count - 1]
    return not any(one.id == last.id and one.value == last.value for one in entries[count:])
