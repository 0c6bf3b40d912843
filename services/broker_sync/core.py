"""Keep the picture of one account equal to the broker's, and say whether it is. Pure.

Snapshot first, then pushes, and a full read over REST on an absolute schedule whatever happens. A failed or
absent answer changes nothing but our health: the last picture stays, marked `stale`, and is never read as
flat. Whatever is published on `reports:{acct}` was not published before (a fill whose fees a read corrects
is new), with one exception: between `SnapshotBegun` and `SnapshotTaken` stand *all* open positions and
working orders (and a `net_qty` 0 for each position that is gone), changed or not. So a reader that joins
late, or lost its place, needs only the newest bracket, and after `SnapshotTaken` every reader's picture
equals the broker's as we know it.

Where a push and REST disagree, REST wins, counted; but for a position whose push is so young that REST
may lag behind it: then the push stays and REST is asked again soon. Pushes that contradict each other (an
order says filled and no fill came, a position is not the sum of its fills) are a doubt, and a doubt that
lasts is answered by a read as well: on the gateway events do get lost.

`now_ns` is monotonic and decides; `ts_ns` is the wall clock and is only stamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from services.broker_sync.events import (
    Command,
    Due,
    Event,
    Gather,
    Gathered,
    GatherFailed,
    GiveUp,
    LinkFell,
    LinkRose,
    Note,
    Publish,
    Push,
    Pushed,
    PushesRefused,
    Recalled,
    Reconnect,
    Tick,
)
from services.broker_sync.picture import (
    Picture,
    forget_orders,
    recall,
    same_position,
    take_account,
    take_fill,
    take_order,
)
from shared.domain.order import OrderStatus
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    Report,
    SnapshotBegun,
    SnapshotTaken,
    SyncHealth,
    SyncState,
)

SECOND_NS = 1_000_000_000
MISSING_READS_MIN = 2
"""The broker must say twice that it has no such order before the order counts as gone."""
HEARD_WITHIN_NS = 5 * SECOND_NS
"""The hub may tell a fill so much later than a read shows it."""
UNHEARD_READS = 2
"""One push may be lost. After so many reads with fills that no push told, the hub is taken for silent."""
RECONNECT_PAUSE_NS = 60 * SECOND_NS
"""Shortest time between two links that are given up as silent."""


@dataclass(slots=True, kw_only=True)
class State:
    """What is known, and what is under way.

    Attributes:
        rose_ns: When the link last rose; 0 for never.
        gathered_ns: End of the last complete read; None when a later reconnect has made it worthless.
        pushed_ns: contract_id -> when a push last spoke of its position.
        account_pushed_ns: When a push last spoke of the account; None for never.
        unheard_ns: Ends of reads that brought fills which no push had told, since one told of any.
        reconnect_ns: When the link was last given up as silent; None for never.
        fills_net: contract_id -> position of the last read plus the fills since.
        pushed_orders: Orders that pushes spoke of since the last read.
        missing: broker_order_id -> reads in which the broker did not know a working order of ours.
    """

    account_id: int
    spacing_ns: int
    after_fill: bool
    gather_within_ns: int
    retry_first_ns: int
    retry_max_ns: int
    doubt_after_ns: int
    push_trusted_ns: int
    picture: Picture = field(default_factory=Picture)
    link_up: bool = False
    rose_ns: int = 0
    link_reason: str = "the user hub is not connected yet"
    refused_pushes: str = ""
    gathering_since_ns: int | None = None
    gather_again: str = ""
    gathered_ns: int | None = None
    gathered_once: bool = False
    failure: str = ""
    failures: int = 0
    retry_ns: int | None = None
    doubt: str = ""
    doubt_since_ns: int = 0
    urgent_doubt: str = ""
    pushed_ns: dict[str, int] = field(default_factory=dict)
    account_pushed_ns: int | None = None
    unheard_ns: list[int] = field(default_factory=list)
    reconnect_ns: int | None = None
    fills_net: dict[str, int] = field(default_factory=dict)
    pushed_orders: set[int] = field(default_factory=set)
    missing: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event and return what must now be done, in order."""
    match event:
        case Recalled():
            recall(event.report, state.picture)
            return []
        case Due():
            return _gather("schedule", event, state)
        case Tick():
            return [*_silent(event, state), *_tick(event, state), *_say_health(event, state)]
        case Pushed():
            return _pushed(event, state)
        case LinkRose():
            state.link_up, state.link_reason, state.rose_ns = True, "", event.now_ns
            # What was pushed before the link fell proves nothing any more; only a read after this does.
            state.gathered_ns = None
            state.unheard_ns.clear()
            return [*_gather("the user hub connected", event, state), *_say_health(event, state)]
        case LinkFell():
            state.link_up, state.link_reason, state.refused_pushes = False, event.reason, ""
            return _say_health(event, state)
        case PushesRefused():
            if event.lasting:
                state.refused_pushes = event.reason
            state.urgent_doubt = event.reason
            state.unheard_ns.clear()  # it speaks; another link would be understood no better
            return [_note("pushes_refused", event.reason, state), *_say_health(event, state)]
        case Gathered():
            return _gathered(event, state)
        case GatherFailed():
            return _failed(event, event.reason, state)
        case _:
            assert_never(event)


def health(state: State) -> tuple[SyncHealth, str]:
    """Return whether the picture is the broker's, and why in words."""
    if not state.gathered_once:
        return SyncHealth.UNKNOWN, state.failure or "the account has not been read yet"
    if state.failure:
        return SyncHealth.STALE, state.failure
    if not state.link_up:
        return SyncHealth.STALE, f"no pushes: {state.link_reason}"
    if state.refused_pushes:
        return SyncHealth.STALE, f"no pushes: {state.refused_pushes}"
    if state.gathered_ns is None:
        return SyncHealth.STALE, "connected again; reading what was missed"
    return SyncHealth.IN_SYNC, "snapshot taken, pushes arrive"


def _say_health(event: Event, state: State) -> list[Command]:
    word, reason = health(state)
    known = state.picture.sync
    if known is not None and (known.health, known.reason) == (word, reason):
        return []
    said = SyncState(account_id=state.account_id, health=word, reason=reason, ts_recv_ns=event.ts_ns)
    state.picture.sync = said
    return [Publish(reports=[said])]


def _note(name: str, why: str, state: State) -> Note:
    state.counts[name] = state.counts.get(name, 0) + 1
    return Note(name=name, why=why)


# -- when to read -----------------------------------------------------------------


def _gather(why: str, event: Event, state: State) -> list[Command]:
    if state.gathering_since_ns is not None:
        if why != "schedule":  # a turn that finds a read under way is served by it
            state.gather_again = why
        return []
    state.gathering_since_ns, state.gather_again, state.retry_ns = event.now_ns, "", None
    state.urgent_doubt = ""
    return [Gather(why=why)]


def _tick(event: Tick, state: State) -> list[Command]:
    since = state.gathering_since_ns
    if since is not None:
        if event.now_ns - since > state.gather_within_ns:
            seconds = state.gather_within_ns / SECOND_NS
            reason = f"the broker did not answer everything within {seconds:g} s"
            return [GiveUp(), *_failed(event, reason, state)]
        return []
    if state.retry_ns is not None and event.now_ns >= state.retry_ns:
        return _gather("retry", event, state)
    if state.retry_ns is not None or not state.gathered_once:
        return []
    _doubt(event.now_ns, state)
    spaced = state.gathered_ns is None or event.now_ns - state.gathered_ns >= state.spacing_ns
    lasting = bool(state.doubt) and event.now_ns - state.doubt_since_ns >= state.doubt_after_ns
    why = state.urgent_doubt or (state.doubt if lasting else "")
    if why and spaced:
        return [_note("doubts", why, state), *_gather(why, event, state)]
    return []


def _doubt(now_ns: int, state: State) -> None:
    """Remember since when the pushes contradict each other."""
    why = _contradiction(state)
    if why != state.doubt:
        state.doubt, state.doubt_since_ns = why, now_ns


def _contradiction(state: State) -> str:
    picture = state.picture
    for contract_id in sorted(state.pushed_ns.keys() | state.fills_net.keys()):
        position = picture.positions.get(contract_id)
        at_broker = position.net_qty if position is not None else 0
        net = state.fills_net.get(contract_id, 0)
        if net != at_broker:
            return f"{contract_id}: the position is {at_broker}, its fills say {net}"
    for order_id in sorted(state.pushed_orders):
        order = picture.orders.get(order_id)
        filled = picture.filled_qty.get(order_id, 0)
        if order is not None and filled != order.cum_qty:
            return f"order {order_id}: {order.cum_qty} contracts are filled, its fills say {filled}"
    return ""


def _failed(event: Event, reason: str, state: State) -> list[Command]:
    state.gathering_since_ns = None
    state.failure = reason
    state.failures += 1
    pause_ns = min(state.retry_first_ns << min(state.failures - 1, 32), state.retry_max_ns)
    state.retry_ns = event.now_ns + pause_ns
    return [_note("failed_reconciles", reason, state), *_say_health(event, state)]


def _silent(event: Tick, state: State) -> list[Command]:
    """Give up a link that is up and does not tell of fills: reads would find every one of them late."""
    unheard_ns = state.unheard_ns
    if not state.link_up or len(unheard_ns) < UNHEARD_READS:
        return []
    if event.now_ns - unheard_ns[UNHEARD_READS - 1] < HEARD_WITHIN_NS:
        return []
    if state.reconnect_ns is not None and event.now_ns - state.reconnect_ns < RECONNECT_PAUSE_NS:
        return []
    state.reconnect_ns = event.now_ns
    why = f"{len(unheard_ns)} reads brought fills that the user hub has not told, and it told of none since"
    unheard_ns.clear()
    return [_note("user_hub_silent", why, state), Reconnect(reason=why)]


# -- pushes -----------------------------------------------------------------------


def _pushed(event: Pushed, state: State) -> list[Command]:
    reports: list[Report] = []
    notes: list[Command] = []
    for report in event.reports:
        if report.account_id != state.account_id:
            notes.append(_note("other_accounts", f"account {report.account_id}", state))
            continue
        fresh = _take_push(report, event, state)
        if fresh is None:
            state.counts["repeated_or_older"] = state.counts.get("repeated_or_older", 0) + 1
        else:
            reports.append(fresh)
    commands: list[Command] = [Publish(reports=reports)] if reports else []
    return commands + notes


def _take_push(report: Push, event: Pushed, state: State) -> Report | None:
    picture = state.picture
    match report:
        case AccountReport():
            state.account_pushed_ns = event.now_ns
            return take_account(report, picture)
        case OrderReport():
            state.pushed_orders.add(report.broker_order_id)
            return take_order(report, picture)
        case FillReport():
            state.pushed_orders.add(report.broker_order_id)
            state.unheard_ns.clear()  # late or repeated: the hub tells of fills
            return _count_fill(report, state)
        case PositionReport():
            known = picture.positions.get(report.contract_id)
            if known is not None and report.ts_event_ns < known.ts_event_ns:
                return None  # speaks of a position that was there before the present one
            state.pushed_ns[report.contract_id] = event.now_ns
            if same_position(known, report):
                return None
            picture.positions[report.contract_id] = report
            return report
        case _:
            assert_never(report)


def _count_fill(report: FillReport, state: State) -> FillReport | None:
    fresh = take_fill(report, state.picture, read=False)
    if fresh is not None:
        signed = report.side.sign * report.last_qty * (-1 if report.voided else 1)
        # From the last read on, a position is what it was then plus its fills.
        state.fills_net[report.contract_id] = state.fills_net.get(report.contract_id, 0) + signed
        if state.after_fill:
            state.urgent_doubt = "a fill"
    return fresh


# -- a complete read --------------------------------------------------------------


def _gathered(event: Gathered, state: State) -> list[Command]:
    begun_ns = state.gathering_since_ns if state.gathering_since_ns is not None else event.now_ns
    account = next((a for a in event.accounts if a.account_id == state.account_id), None)
    if account is None:
        return _failed(event, _no_account(event.accounts, state.account_id), state)
    commands: list[Command] = []
    reports: list[Report] = [SnapshotBegun(account_id=state.account_id, ts_recv_ns=event.ts_ns)]
    account = _newer_account(account, begun_ns, state)
    commands += _join_account(account, event.accounts, state)
    reports.append(account)
    notes, positions = _join_positions(event, begun_ns, state)
    commands += notes
    reports += positions
    commands += _join_orders(event, reports, state)
    picture = state.picture
    _listen_for_fills(event, state)
    reports += [fill for report in event.fills if (fill := take_fill(report, picture, read=True)) is not None]
    picture.read_fill_ns = picture.last_fill_ns
    state.fills_net = {c: p.net_qty for c, p in picture.positions.items()}
    state.pushed_orders.clear()
    reports.append(
        SnapshotTaken(
            account_id=state.account_id,
            positions=len(picture.open_positions),
            working_orders=len(picture.working_orders),
            ts_recv_ns=event.ts_ns,
        )
    )
    state.gathering_since_ns = None
    state.failure, state.failures, state.retry_ns = "", 0, None
    state.gathered_once, state.gathered_ns = True, event.now_ns
    if state.gather_again:
        # Begun before the link rose: what happened in between may be in neither.
        state.gathered_ns = None
    commands.append(Publish(reports=reports))
    commands += _say_health(event, state)
    if state.gather_again:
        commands += _gather(state.gather_again, event, state)
    return commands


def _no_account(accounts: Sequence[AccountReport], account_id: int) -> str:
    there = ", ".join(f"{a.account_id} ({a.name})" for a in accounts) or "none"
    return (
        f"the broker has no account {account_id}; this login has: {there}. "
        "Put the right one into julie.account_id"
    )


def _newer_account(account: AccountReport, begun_ns: int, state: State) -> AccountReport:
    """Return what a push has said since the read began: the account is the first that is read."""
    pushed = state.picture.account
    if pushed is None or state.account_pushed_ns is None or state.account_pushed_ns < begun_ns:
        return account
    if pushed.can_trade is not account.can_trade:
        state.urgent_doubt = "a fresh push and REST disagree on whether the account may trade"
    return pushed


def _listen_for_fills(event: Gathered, state: State) -> None:
    """Remember a read that brings fills which a hub that speaks would have told.

    Only after a complete read that began when the link was up already: fills of before are unheard by right.
    """
    if state.gathered_ns is None or not state.link_up or state.refused_pushes:
        return
    if all(fill.fill_id in state.picture.fills or fill.voided for fill in event.fills):
        return
    last_ns = state.unheard_ns[-1] if state.unheard_ns else None
    if last_ns is None or event.now_ns - last_ns >= HEARD_WITHIN_NS:  # a hub that lags is not silent
        state.unheard_ns.append(event.now_ns)


def _join_account(account: AccountReport, accounts: Sequence[AccountReport], state: State) -> list[Command]:
    known = state.picture.account
    state.picture.account = account
    if account.can_trade or (known is not None and not known.can_trade):
        return []
    others = ", ".join(f"{a.account_id} ({a.name})" for a in accounts if a.can_trade) or "none"
    why = f"account {account.account_id} ({account.name}) may not trade: the broker has locked it"
    return [_note("account_locked", f"{why}; accounts of this login that may: {others}", state)]


def _join_positions(event: Gathered, begun_ns: int, state: State) -> tuple[list[Command], list[Report]]:
    picture = state.picture
    at_broker = {p.contract_id: p for p in event.positions if p.account_id == state.account_id}
    notes: list[Command] = []
    reports: list[Report] = []
    for contract_id in sorted(picture.positions.keys() | at_broker.keys()):
        known, found = picture.positions.get(contract_id), at_broker.get(contract_id)
        if not same_position(known, found):
            pushed_ns = state.pushed_ns.get(contract_id, -(10**18))
            young = begun_ns - pushed_ns < state.push_trusted_ns
            # On a read of after the link rose, no push of before counts: what followed it was not heard.
            outlived = pushed_ns < state.rose_ns <= begun_ns
            if young and not outlived and known is not None:
                state.urgent_doubt = f"{contract_id}: a fresh push and REST disagree"
                if known.net_qty:
                    reports.append(known)
                continue
            if state.gathered_once:
                was, now = (known.net_qty if known else 0), (found.net_qty if found else 0)
                why = f"{contract_id}: pushes said {was}, REST says {now}; REST wins"
                notes.append(_note("position_mismatches", why, state))
        if found is None:
            if known is not None and known.net_qty:
                found = msgspec.structs.replace(known, net_qty=0, ts_recv_ns=event.ts_ns)
                picture.positions[contract_id] = found
                reports.append(found)
            continue
        picture.positions[contract_id] = found
        reports.append(found)
    return notes, reports


def _join_orders(event: Gathered, reports: list[Report], state: State) -> list[Command]:
    """Join every order; put changed and working ones into `reports`."""
    picture = state.picture
    notes: list[Command] = []
    said: set[int] = set()
    rows = [o for o in event.orders if o.account_id == state.account_id]
    rows += [o for o in event.looked_up.values() if o is not None]
    for row in rows:
        fresh = take_order(row, picture)
        if fresh is not None:
            said.add(row.broker_order_id)
        ours = picture.orders[row.broker_order_id]
        if ours.status.is_terminal and row.status.may_fill and row.ts_event_ns > ours.ts_event_ns:
            why = f"order {row.broker_order_id} was {ours.status}, REST says {row.status}; it stays as it was"
            notes.append(_note("order_mismatches", why, state))
    vanished = sorted(i for i, found in event.looked_up.items() if found is None and i in picture.orders)
    state.missing = {i: state.missing.get(i, 0) for i in vanished}
    for order_id in vanished:
        state.missing[order_id] += 1
        if state.missing[order_id] >= MISSING_READS_MIN:
            del state.missing[order_id]
            gone = msgspec.structs.replace(
                picture.orders[order_id], status=OrderStatus.ABSENT, ts_recv_ns=event.ts_ns
            )
            take_order(gone, picture)
            said.add(order_id)
            why = f"order {order_id} was working and the broker does not know it any more"
            notes.append(_note("vanished_orders", why, state))
    closed = sorted(i for i in said if picture.orders[i].status.is_terminal)
    reports += [picture.orders[i] for i in closed]
    reports += picture.working_orders
    forget_orders(picture, {row.broker_order_id for row in rows})
    return notes
