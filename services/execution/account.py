"""The account as broker_sync reports it: snapshots, positions, and whether our fills explain them."""

from __future__ import annotations

from services.execution import brackets, fills, halts
from services.execution.orders import query, want_search
from services.execution.records import BEFORE
from services.execution.state import LOOK_AGAIN_S, NS_PER_S, Apart, Difference, Look, State, Sync
from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.execution import PositionMismatch
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

VENUE_MARGIN_NS = 2 * NS_PER_S
"""The broker's clock is read from answers that give whole seconds."""

_WORKING = frozenset(
    {
        OrderStatus.NEW,
        OrderStatus.SUSPENDED,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.PENDING_CANCEL,
    }
)


def take(turn: Turn, report: Report) -> None:
    """Apply one report of broker_sync. Repeated and reordered ones change nothing."""
    sync = turn.state.sync
    match report:
        case OrderReport():
            sync.seen_orders.add(report.broker_order_id)
            brackets.see(turn, report)
        case FillReport():
            fill(turn, report)
        case PositionReport(contract_id=contract_id, net_qty=net_qty):
            sync.positions[contract_id] = net_qty
            sync.pushed_ns[contract_id] = turn.at.mono_ns
            if sync.begun_ns is not None:
                sync.building[contract_id] = net_qty
        case AccountReport(can_trade=can_trade):
            sync.can_trade = can_trade
        case SyncState(health=health):
            sync.in_sync = health is SyncHealth.IN_SYNC
        case SnapshotBegun():
            sync.begun_ns = turn.at.mono_ns
            sync.building.clear()
            sync.seen_orders.clear()
        case SnapshotTaken(ts_recv_ns=ts_recv_ns):
            _snapshot(turn, ts_recv_ns)


def fill(turn: Turn, report: FillReport) -> None:
    """Count one fill; one that breaks the books halts trading."""
    state, contract_id = turn.state, report.contract_id
    before = state.contract_qty(contract_id)
    wrong = fills.take(turn, report)
    fills.attribute_closes(turn)  # one that was heard before the position that it closed
    if state.contract_qty(contract_id) != before:
        state.sync.differences.pop(contract_id, None)  # the same numbers later would be another difference
        if state.contract_qty(contract_id) == state.sync.positions.get(contract_id, 0):
            _explained(state, contract_id)
    if wrong is not None:
        halts.halt(turn, HaltKind.INVARIANT, wrong)


def _snapshot(turn: Turn, ts_recv_ns: int) -> None:
    state, sync = turn.state, turn.state.sync
    begun_ns, sync.begun_ns = sync.begun_ns, None
    if begun_ns is None:
        return  # its beginning was before we listened: not a whole picture
    sync.positions = dict(sync.building)
    age_ns = turn.at.now_ns - ts_recv_ns
    if age_ns <= state.rules.snapshot_age_s_max * NS_PER_S:
        sync.complete = True
    if not sync.complete:
        return
    if not state.standing.baselined:
        _baseline(turn, age_ns)
    _query_missing(turn, sync, begun_ns)
    taken_ns = turn.at.mono_ns - max(0, turn.at.now_ns - ts_recv_ns)
    if sync.looked_ns is None or taken_ns >= sync.looked_ns:
        _compare(turn, sync)  # an older picture lacks fills that a search of ours has brought since


def _baseline(turn: Turn, age_ns: int) -> None:
    """The ledger is new: what the account holds already is accepted as held by others, and said.

    The picture that tells it is `age_ns` old. A fill that is younger was heard before it and is not in it.
    """
    state = turn.state
    standing = state.change_standing()
    standing.baselined = True
    picture_ns = _picture_ns(turn, age_ns)
    standing.baseline_venue_ns = max(0, picture_ns - VENUE_MARGIN_NS)
    standing.baselines = {
        contract_id: net_qty for contract_id, net_qty in sorted(state.sync.positions.items()) if net_qty
    }
    assert all(one.strategy_id == BEFORE for parts in state.fills.values() for one in parts)
    for contract_id, net_qty in standing.baselines.items():
        turn.alarm(
            "baseline",
            f"the account held {net_qty:+d} of {contract_id} before this ledger began; no strategy owns it",
        )
    if picture_ns:
        fills.count_since(turn, picture_ns)


def _picture_ns(turn: Turn, age_ns: int) -> int:
    """Return the venue time at which a picture was taken that is `age_ns` old; 0 while it is unknown."""
    if turn.at.venue_ns is None:
        return 0
    return turn.at.venue_ns - round(max(0, age_ns) * turn.state.rules.market_speed)


def _query_missing(turn: Turn, sync: Sync, begun_ns: int) -> None:
    """A complete picture without an order of ours: it has ended, and one question tells how."""
    state = turn.state
    for order in list(state.open.values()):
        number = order.broker_order_id
        if number is None or order.status not in _WORKING or number in sync.seen_orders:
            continue
        if state.accepted_ns.get(order.client_order_id, 0) < begun_ns:
            query(turn, number)


def _explained(state: State, contract_id: str) -> None:
    """Forget a difference that fills heard later explain: lifting the halt must not accept it as well."""
    if contract_id in state.standing.mismatches:
        standing = state.change_standing()
        standing.mismatches = {name: qty for name, qty in standing.mismatches.items() if name != contract_id}


def looked(turn: Turn, look: Look) -> None:
    """Take positions from a search of our own where no push is newer than the question."""
    sync = turn.state.sync
    for contract_id in sorted({*sync.positions, *look.positions}):
        if sync.pushed_ns.get(contract_id, 0) < look.started_ns:
            sync.positions[contract_id] = look.positions.get(contract_id, 0)


def watch(turn: Turn) -> None:
    """Look again soon, and say it, when the broker speaks of a position that our fills do not make.

    Pushes get lost and searches lag: until both agree nobody knows whether what is held is protected.
    """
    state = turn.state
    said = {}
    # The first fill of a contract may be lost together with the push of its position: its order tells of it.
    unshown = {one.contract_id for one in state.open.values() if one.missing_qty}
    spoken_of = {*state.sync.positions, *state.net_of_fills, *state.standing.baselines, *unshown}
    for contract_id in sorted(spoken_of):
        why = _apart(state, contract_id)
        if why:
            said[contract_id] = why
    for contract_id in state.apart.keys() - said.keys():
        del state.apart[contract_id]
    for contract_id, why in said.items():
        now_ns = turn.at.mono_ns
        apart = state.apart.get(contract_id)
        if apart is None or apart.why != why:
            since_ns = now_ns if apart is None else apart.since_ns
            look_ns = now_ns + round(state.rules.protect_after_s * NS_PER_S)
            told = apart is not None and apart.told
            apart = state.apart[contract_id] = Apart(why=why, since_ns=since_ns, look_ns=look_ns, told=told)
        age_s = (now_ns - apart.since_ns) / NS_PER_S
        if now_ns >= apart.look_ns:
            apart.look_ns = now_ns + round(LOOK_AGAIN_S * NS_PER_S)
            want_search(turn, delay_s=0.0)
        if age_s >= state.rules.protect_within_s and not apart.told:
            apart.told = True
            turn.alarm("fills_missing", f"{contract_id}: {why} for {age_s:.0f} s")


def _apart(state: State, contract_id: str) -> str:
    missing = sum(one.missing_qty for one in state.open.values() if one.contract_id == contract_id)
    if missing:
        return f"{missing} filled contracts are in no trade that was shown"
    ours, theirs = state.contract_qty(contract_id), state.sync.positions.get(contract_id, 0)
    if state.sync.in_sync and ours != theirs and contract_id not in state.standing.mismatches:
        return f"fills make {ours:+d}, the broker speaks of {theirs:+d}"
    return ""


def _compare(turn: Turn, sync: Sync) -> None:
    """The same difference in all pictures of a while, with nothing on its way, is a broken invariant.

    Two pictures in a row are not enough: a reconnect takes two within a second, and searches for fills are
    known to lag behind positions.
    """
    state = turn.state
    before, sync.differences = sync.differences, {}
    for contract_id in sorted(set(sync.positions) | set(state.net_of_fills) | set(state.standing.baselines)):
        ours, theirs = state.contract_qty(contract_id), sync.positions.get(contract_id, 0)
        if ours == theirs:
            _explained(state, contract_id)
            continue
        if state.in_flight(contract_id):
            continue
        want_search(turn, delay_s=0.0)  # a fill we never heard of is the usual reason
        earlier = before.get(contract_id)
        if earlier is None or (earlier.ours, earlier.theirs) != (ours, theirs):
            sync.differences[contract_id] = Difference(ours, theirs, turn.at.mono_ns)
            continue
        sync.differences[contract_id] = earlier
        lasted_ns = earlier.since_ns + round(state.rules.mismatch_after_s * NS_PER_S)
        if state.look is None or state.look.started_ns < lasted_ns:
            continue  # only a look that began after all that time could have shown the fill, and did not
        if state.standing.mismatches.get(contract_id) == theirs - ours:
            continue  # said already
        standing = state.change_standing()
        standing.mismatches = {**standing.mismatches, contract_id: theirs - ours}
        turn.publish(
            PositionMismatch(contract_id=contract_id, from_fills=ours, at_broker=theirs, ts_ns=turn.at.now_ns)
        )
        text = f"{contract_id}: fills make {ours:+d}, the broker holds {theirs:+d}"
        turn.alarm("position_mismatch", text)
        halts.halt(turn, HaltKind.INVARIANT, f"position mismatch, {text}")
