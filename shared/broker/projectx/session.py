"""The life of one hub link, without I/O: open, shake hands, subscribe, live, lose, back off, again.

A link never gives up and never storms. Subscriptions do not survive a reconnect, so
they are kept here as wishes and asked for again each time, always with an id, because
a hub answers only those; the link counts as up when every one of them was answered.
A refused one is asked for again on the same link, with pauses that grow.
Each reconnect takes a fresh token, and one is planned before the token expires: an
expired one shows as reconnects that fail for no visible reason.

`GatewayLogout` says that another device has taken the session. Reconnecting at once
would start two devices throwing each other out, so the link waits, longer each time.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeGuard, assert_never

from msgspec import Struct, field

from shared.broker.port import (
    FrameRefused,
    LinkDown,
    LinkEvent,
    LinkUp,
    LoggedOut,
    SubscriptionRefused,
    SubscriptionTaken,
)
from shared.broker.projectx.link_words import (
    LOGOUT_TARGET,
    SECOND_NS,
    SUBSCRIPTIONS_MAX,
    CloseSocket,
    Command,
    Deliver,
    Event,
    FrameReceived,
    LinkSettings,
    Lost,
    Opened,
    OpenFailed,
    OpenSocket,
    ReconnectAsked,
    SendFrame,
    Started,
    Stopped,
    Subscription,
    Tick,
    Unwanted,
    Wanted,
)
from shared.broker.projectx.signalr import (
    ClientConnection,
    Closed,
    CloseReason,
    Completion,
    HandshakeAccepted,
    HubEvent,
    Invocation,
    Malformed,
)

# -- state ------------------------------------------------------------------------

NEVER_NS = 2**63 - 1


class Phase(StrEnum):
    IDLE = "idle"
    OPENING = "opening"
    HANDSHAKE = "handshake"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    WAITING = "waiting"
    STOPPED = "stopped"


class Refusal(Struct):
    """A subscription that the hub refused. Attributes: ask_at_ns: `NEVER_NS` while it is being asked."""

    times: int = 0
    ask_at_ns: int = NEVER_NS


class State(Struct, kw_only=True):
    """All that is known of one link. Only `decide` changes it."""

    hub: str
    settings: LinkSettings = LinkSettings()
    wanted: dict[Subscription, None] = field(default_factory=dict)  # a set that keeps its order
    phase: Phase = Phase.IDLE
    connection: ClientConnection | None = None
    connections: int = 0
    unanswered: dict[str, tuple[Subscription, int]] = field(default_factory=dict)  # id -> what, since when
    refused: dict[Subscription, Refusal] = field(default_factory=dict)
    retry_at_ns: int = 0
    renew_at_ns: int = 0
    live_since_ns: int = 0
    failures: int = 0  # since the last stable link
    refusals: int = 0
    logouts: int = 0
    ignored_records: int = 0

    @property
    def next_time_ns(self) -> int | None:
        """When a `Tick` has something to do at the earliest; None when never."""
        if self.phase is Phase.WAITING:
            return self.retry_at_ns
        if self.connection is None:
            return None
        times = [since_ns + _ns(self.settings.answer_within_s) for _, since_ns in self.unanswered.values()]
        if self.connection.next_time_ns is not None:
            times.append(self.connection.next_time_ns)
        if self.phase is Phase.LIVE:
            times.append(self.renew_at_ns)
            times += [refusal.ask_at_ns for refusal in self.refused.values()]
        return min(times, default=None)


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen."""
    match event:
        case FrameReceived():
            return _receive(event, state)
        case Tick():
            return _tick(event, state)
        case Started():
            assert state.phase is Phase.IDLE
            state.phase = Phase.OPENING
            return [OpenSocket()]
        case Opened():
            return _opened(event, state)
        case OpenFailed(reason=reason) | Lost(reason=reason):
            return _down(event, state, reason)
        case Wanted(subscription=subscription):
            return _want(event, subscription, state)
        case Unwanted(subscription=subscription, goodbye=goodbye):
            state.wanted.pop(subscription, None)
            state.refused.pop(subscription, None)
            return _ask(event, [goodbye], state, awaited=False)
        case ReconnectAsked(reason=reason):
            if state.connection is None:
                return []  # already on it
            return [CloseSocket(reason), *_down(event, state, reason)]
        case Stopped():
            return _stop(event, state)
        case _:
            assert_never(event)


def _opened(event: Opened, state: State) -> list[Command]:
    if state.phase is not Phase.OPENING:
        return [CloseSocket("nobody waits for this socket any more")]
    state.phase = Phase.HANDSHAKE
    state.connection = ClientConnection(keep_alive=state.settings.keep_alive)
    state.connection.start(event.at.now_ns)
    state.connections += 1
    # A token that is nearly over (not renewed yet) must not make us reconnect in a loop.
    life_ns = max(event.token_life_ns - _ns(state.settings.renew_before_s), event.token_life_ns // 2)
    state.renew_at_ns = event.at.now_ns + max(life_ns, 60 * SECOND_NS)
    return _output(state)


def _receive(event: FrameReceived, state: State) -> list[Command]:
    connection = state.connection
    if connection is None:
        return []  # a frame that was on its way when we gave the link up
    records = connection.receive(event.data, event.at.now_ns)
    if state.phase is Phase.LIVE and _only_pushes(records):
        return [Deliver(records)] if records else []
    return _sort(event, records, connection, state)


def _only_pushes(records: list[HubEvent]) -> TypeGuard[list[Invocation | LinkEvent]]:
    """Say whether all are plain pushes of the hub: market data is nothing else, nearly always."""
    for record in records:
        if type(record) is not Invocation:
            return False
        if record.target == LOGOUT_TARGET or record.invocation_id is not None:
            return False
    return True


def _sort(
    event: FrameReceived, records: list[HubEvent], connection: ClientConnection, state: State
) -> list[Command]:
    delivered: list[Invocation | LinkEvent] = []
    commands: list[Command] = []
    for record in records:
        match record:
            case Invocation(target=target) if target == LOGOUT_TARGET:
                text = bytes(record.arguments)[:300].decode("utf-8", "replace")
                delivered.append(LoggedOut(text=text, ts_recv_ns=event.at.ts_ns))
                state.logouts += 1
                reason = f"the broker logged this session out: {text}"
                return [*_deliver(delivered), *_give_up(event, state, reason, _logout_pause_ns(event, state))]
            case Invocation(invocation_id=invocation_id):
                # Not known of this gateway; silence would hang its caller.
                if invocation_id is not None and connection.is_open:
                    connection.complete(invocation_id, event.at.now_ns, error="not supported by this client")
                delivered.append(record)
            case Completion():
                delivered += _answered(event, record, state)
            case HandshakeAccepted() if connection.is_open:  # or closed in the same breath
                state.phase = Phase.SUBSCRIBING
                commands += _ask(event, list(state.wanted), state)
                delivered += _up_when_answered(event, state)
            case Malformed(reason=reason, raw=raw):
                refused = FrameRefused(
                    origin=state.hub, field="", reason=reason, raw=raw, ts_recv_ns=event.at.ts_ns
                )
                delivered.append(refused)
            case Closed(detail=detail):
                state.ignored_records += connection.ignored_records
                return [*_deliver(delivered), *_closed(event, record, detail, state)]
    return [*commands, *_output(state), *_deliver(delivered)]


def _closed(event: Event, closed: Closed, detail: str, state: State) -> list[Command]:
    reason = f"{closed.reason}: {detail}"
    forbidden = closed.reason is CloseReason.BY_PEER and not closed.allow_reconnect
    if forbidden or closed.reason is CloseReason.HANDSHAKE_REFUSED:
        state.refusals += 1
        settings = state.settings
        pause_ns = _pause_ns(
            event, state, settings.refused_pause_s, settings.refused_pause_max_s, state.refusals
        )
        return _give_up(event, state, reason, pause_ns)
    return _give_up(event, state, reason, None)


def _tick(event: Tick, state: State) -> list[Command]:
    now_ns = event.at.now_ns
    if state.phase is Phase.WAITING and now_ns >= state.retry_at_ns:
        state.phase = Phase.OPENING
        return [OpenSocket()]
    connection = state.connection
    if connection is None:
        return []
    for record in connection.on_time(now_ns):
        if isinstance(record, Closed):
            return _closed(event, record, record.detail, state)
    answer_within_ns = _ns(state.settings.answer_within_s)
    for subscription, since_ns in state.unanswered.values():
        if now_ns - since_ns >= answer_within_ns:
            seconds = state.settings.answer_within_s
            return _give_up(event, state, f"no answer to {subscription.target} within {seconds:g} s", None)
    if state.phase is Phase.LIVE:
        if now_ns - state.live_since_ns >= _ns(state.settings.stable_after_s):
            state.failures = state.refusals = state.logouts = 0
        if now_ns >= state.renew_at_ns:
            return _renew(event, state)
        return _ask_again(event, state)
    return _output(state)


def _ask_again(event: Tick, state: State) -> list[Command]:
    due = [what for what, refusal in state.refused.items() if event.at.now_ns >= refusal.ask_at_ns]
    for subscription in due:
        state.refused[subscription].ask_at_ns = NEVER_NS
    return _ask(event, due, state)


def _renew(event: Tick, state: State) -> list[Command]:
    reason = "planned reconnect with a fresh token"
    _drop_connection(state)
    state.phase = Phase.OPENING
    down = LinkDown(reason=reason, retry_in_ns=0, planned=True, ts_recv_ns=event.at.ts_ns)
    return [CloseSocket(reason), Deliver([down]), OpenSocket()]


def _want(event: Event, subscription: Subscription, state: State) -> list[Command]:
    if subscription in state.wanted:
        return []
    assert len(state.wanted) < SUBSCRIPTIONS_MAX, f"more than {SUBSCRIPTIONS_MAX} subscriptions on one link"
    state.wanted[subscription] = None
    return _ask(event, [subscription], state)


def _ask(
    event: Event, subscriptions: list[Subscription], state: State, *, awaited: bool = True
) -> list[Command]:
    if state.phase not in (Phase.SUBSCRIBING, Phase.LIVE) or state.connection is None:
        return []  # asked for once the link is open
    for subscription in subscriptions:
        invocation_id = state.connection.invoke(subscription.target, subscription.arguments, event.at.now_ns)
        if awaited:
            state.unanswered[invocation_id] = (subscription, event.at.now_ns)
    return _output(state)


def _answered(event: FrameReceived, completion: Completion, state: State) -> list[LinkEvent]:
    asked = state.unanswered.pop(completion.invocation_id, None)
    if asked is None:
        return []  # of an unsubscription, or nobody's
    events: list[LinkEvent] = []
    subscription = asked[0]
    argument = "" if subscription.argument is None else str(subscription.argument)
    if completion.error is not None:
        if subscription in state.wanted:
            _refuse(event, subscription, state)
        refused = SubscriptionRefused(
            target=subscription.target, argument=argument, error=completion.error, ts_recv_ns=event.at.ts_ns
        )
        events.append(refused)
    elif state.refused.pop(subscription, None) is not None:
        taken = SubscriptionTaken(
            target=subscription.target,
            argument=argument,
            still_refused=len(state.refused),
            ts_recv_ns=event.at.ts_ns,
        )
        events.append(taken)
    return events + _up_when_answered(event, state)


def _refuse(event: FrameReceived, subscription: Subscription, state: State) -> None:
    refusal = state.refused.setdefault(subscription, Refusal())
    refusal.times += 1
    first_s, longest_s = state.settings.ask_again_pause_s, state.settings.ask_again_pause_max_s
    refusal.ask_at_ns = event.at.now_ns + _pause_ns(event, state, first_s, longest_s, refusal.times)


def _up_when_answered(event: FrameReceived, state: State) -> list[LinkEvent]:
    if state.phase is not Phase.SUBSCRIBING or state.unanswered:
        return []
    state.phase = Phase.LIVE
    state.live_since_ns = event.at.now_ns
    return [LinkUp(connection=state.connections, ts_recv_ns=event.at.ts_ns)]


# -- losing the link --------------------------------------------------------------


def _give_up(event: Event, state: State, reason: str, pause_ns: int | None) -> list[Command]:
    """Close a link that we hold: say goodbye, close the socket, wait."""
    sent = _output(state)
    return [*sent, CloseSocket(reason), *_down(event, state, reason, pause_ns)]


def _down(event: Event, state: State, reason: str, pause_ns: int | None = None) -> list[Command]:
    if state.phase in (Phase.STOPPED, Phase.WAITING, Phase.IDLE):
        return []  # the close that we caused ourselves comes back as a loss
    _drop_connection(state)
    state.failures += 1
    if pause_ns is None:
        settings = state.settings
        pause_ns = _pause_ns(event, state, settings.pause_s, settings.pause_max_s, state.failures)
    state.phase = Phase.WAITING
    state.retry_at_ns = event.at.now_ns + pause_ns
    down = LinkDown(reason=reason, retry_in_ns=pause_ns, planned=False, ts_recv_ns=event.at.ts_ns)
    return [Deliver([down])]


def _stop(event: Event, state: State) -> list[Command]:
    was_open = state.connection is not None
    if state.connection is not None:
        state.connection.close(event.at.now_ns)
    commands = _output(state)
    _drop_connection(state)
    state.phase = Phase.STOPPED
    return [*commands, CloseSocket("closed by this side")] if was_open else commands


def _drop_connection(state: State) -> None:
    state.connection = None
    state.unanswered.clear()
    state.refused.clear()


def _logout_pause_ns(event: Event, state: State) -> int:
    settings = state.settings
    base = settings.logout_pause_s
    # Jitter only lengthens here: 20 s is the least that lets the other session settle.
    return _ns(min(settings.logout_pause_max_s, base * 2 ** min(state.logouts - 1, 16))) + int(
        event.at.chance * settings.jitter_share * _ns(base)
    )


def _pause_ns(event: Event, state: State, first_s: float, longest_s: float, nth: int) -> int:
    pause_s = min(longest_s, first_s * 2 ** min(nth - 1, 16))
    return _ns(pause_s * (1 - state.settings.jitter_share * event.at.chance))


def _output(state: State) -> list[Command]:
    if state.connection is None:
        return []
    data = state.connection.take_output()
    return [SendFrame(data)] if data else []


def _deliver(records: list[Invocation | LinkEvent]) -> list[Command]:
    return [Deliver(records)] if records else []


def _ns(seconds: float) -> int:
    return int(seconds * SECOND_NS)
