"""The life of a link, driven by a table of events; the other end is a real server session."""

from __future__ import annotations

from typing import Any

import pytest

from shared.broker.port import (
    FrameRefused,
    LinkDown,
    LinkUp,
    LoggedOut,
    SubscriptionRefused,
    SubscriptionTaken,
)
from shared.broker.projectx.link_words import (
    At,
    CloseSocket,
    Command,
    Deliver,
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
from shared.broker.projectx.session import Phase, State, decide
from shared.broker.projectx.signalr import Invocation, ServerConnection, encode_close, encode_invocation

SECOND = 1_000_000_000
DAY_NS = 86_400 * SECOND
QUOTES = Subscription("SubscribeContractQuotes", "A")
TRADES = Subscription("SubscribeContractTrades", "A")
WALL = 1_000_000 * SECOND


class Bench:
    """A link core, a hub, and a clock that somebody turns by hand."""

    def __init__(self, *wanted: Subscription, **settings: Any) -> None:
        self.state = State(hub="market", settings=LinkSettings(**settings))
        self.server = ServerConnection()
        self.now_ns = 0
        self.chance = 0.0
        self.delivered: list[Any] = []
        self.closed: list[str] = []
        self.opened = 0
        self.refuse: set[str] = set()
        self.silent = False
        for subscription in wanted:
            self.do(Wanted(subscription=subscription, at=self.at))
        self.do(Started(at=self.at))

    @property
    def at(self) -> At:
        return At(self.now_ns, WALL + self.now_ns, self.chance)

    def do(self, event: Any) -> list[Command]:
        commands = decide(event, self.state)
        for command in commands:
            if isinstance(command, Deliver):
                self.delivered += command.records
            elif isinstance(command, OpenSocket):
                self.opened += 1
            elif isinstance(command, CloseSocket):
                self.closed.append(command.reason)
            else:
                assert isinstance(command, SendFrame)
                self._serve(command.data)
        return commands

    def open(self, token_life_ns: int = DAY_NS) -> None:
        self.server = ServerConnection()
        self.server.start(self.now_ns)
        self.do(Opened(token_life_ns=token_life_ns, at=self.at))

    def hear(self, data: bytes) -> list[Command]:
        return self.do(FrameReceived(data=data, at=self.at))

    def wait(self, seconds: float) -> list[Command]:
        self.now_ns += int(seconds * SECOND)
        return self.do(Tick(at=self.at))

    def take(self) -> list[Any]:
        taken, self.delivered = self.delivered, []
        return taken

    def _serve(self, data: bytes) -> None:
        for call in self.server.receive(data, self.now_ns):
            if isinstance(call, Invocation) and call.invocation_id and not self.silent:
                error = "no such method" if call.target in self.refuse else None
                self.server.complete(call.invocation_id, self.now_ns, error=error)
        answer = self.server.take_output()
        if answer:
            self.hear(answer)


def live(*wanted: Subscription, **settings: Any) -> Bench:
    bench = Bench(*wanted, **settings)
    bench.open()
    assert bench.state.phase is Phase.LIVE
    bench.take()
    return bench


def test_link_is_up_when_every_subscription_was_answered() -> None:
    bench = Bench(QUOTES, TRADES)
    assert bench.opened == 1
    bench.silent = True
    bench.open()
    assert bench.state.phase is Phase.SUBSCRIBING
    assert bench.take() == []
    bench.server.complete("2", 0)
    bench.hear(bench.server.take_output())
    assert bench.take() == []
    bench.server.complete("1", 0)
    bench.hear(bench.server.take_output())
    assert bench.take() == [LinkUp(connection=1, ts_recv_ns=WALL)]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b'{}\x1e{"type":7,"error":"too many connections"}\x1e', "too many connections"),
        (b'{}\x1e{"type":1,"target":"x","arguments":[],"invocationId":"7"}\x1e{"type":7}\x1e', ""),
    ],
)
def test_a_hub_that_takes_the_handshake_and_closes_in_one_breath_is_a_refusal(frame: bytes, why: str) -> None:
    bench = Bench(QUOTES)
    bench._serve = lambda data: None  # type: ignore[method-assign]
    bench.open()
    bench.hear(frame)
    (down,) = [one for one in bench.take() if isinstance(one, LinkUp | LinkDown)]
    assert isinstance(down, LinkDown)
    assert why in down.reason
    assert bench.state.refusals == 1
    bench.wait(down.retry_in_ns / SECOND)
    assert bench.opened == 2


def test_link_without_subscriptions_is_up_after_the_handshake() -> None:
    bench = Bench()
    bench.open()
    assert bench.take() == [LinkUp(connection=1, ts_recv_ns=WALL)]


def test_refused_subscription_is_told_and_the_link_is_up() -> None:
    bench = Bench(QUOTES, Subscription("SubscribeToBars", "A"))
    bench.refuse = {"SubscribeToBars"}
    bench.open()
    refused, up = bench.take()
    assert refused == SubscriptionRefused(
        target="SubscribeToBars", argument="A", error="no such method", ts_recv_ns=WALL
    )
    assert isinstance(up, LinkUp)


def refused() -> Bench:
    """Return a link that is up, whose hub refuses trades."""
    bench = Bench(QUOTES, TRADES)
    bench.refuse = {TRADES.target}
    bench.open()
    assert bench.state.phase is Phase.LIVE
    bench.take()
    return bench


def wait(bench: Bench, seconds: int) -> list[float]:
    """Return when within this time the hub was asked for trades."""
    asked = []
    for _ in range(seconds * 4):
        bench.hear(b'{"type":6}\x1e')
        commands = bench.wait(0.25)
        if any(isinstance(c, SendFrame) and TRADES.target.encode() in c.data for c in commands):
            asked.append(bench.now_ns / SECOND)
    return asked


def test_refused_subscription_is_asked_for_again_with_pauses_that_grow() -> None:
    bench = refused()
    assert wait(bench, 250) == [2, 6, 14, 30, 62, 122, 182, 242]
    assert [type(event) for event in bench.take()] == [SubscriptionRefused] * 8
    assert bench.state.phase is Phase.LIVE


def test_refused_subscription_that_is_taken_at_last_is_told_once() -> None:
    bench = refused()
    bench.refuse.clear()
    assert wait(bench, 300) == [2]
    assert bench.take() == [
        SubscriptionTaken(target=TRADES.target, argument="A", still_refused=0, ts_recv_ns=WALL + 2 * SECOND)
    ]


def test_refused_subscription_is_asked_for_once_at_a_time() -> None:
    bench = refused()
    bench.silent = True
    assert wait(bench, 11) == [2]
    assert bench.state.next_time_ns is not None


def test_refused_subscription_that_nobody_wants_any_more_is_left_alone() -> None:
    bench = refused()
    bench.do(Unwanted(subscription=TRADES, goodbye=Subscription("Unsubscribe", "A"), at=bench.at))
    assert wait(bench, 100) == []


def test_after_a_reconnect_a_refused_subscription_is_one_like_the_others() -> None:
    bench = refused()
    bench.do(Lost(reason="reset", at=bench.at))
    bench.refuse.clear()
    bench.wait(1)
    bench.open()
    assert [type(event) for event in bench.take()] == [LinkDown, LinkUp]
    assert wait(bench, 100) == []


def test_unanswered_subscription_costs_the_link() -> None:
    bench = Bench(QUOTES)
    bench.silent = True
    bench.open()
    assert bench.wait(9.9) == []
    bench.wait(0.2)
    (down,) = bench.take()
    assert isinstance(down, LinkDown)
    assert "SubscribeContractQuotes" in down.reason
    assert bench.closed


def test_subscription_while_live_and_its_end() -> None:
    bench = live(QUOTES)
    commands = bench.do(Wanted(subscription=TRADES, at=bench.at))
    assert [type(command) for command in commands] == [SendFrame]
    assert bench.do(Wanted(subscription=TRADES, at=bench.at)) == []  # already wanted
    goodbye = Subscription("UnsubscribeContractTrades", "A")
    (command,) = bench.do(Unwanted(subscription=TRADES, goodbye=goodbye, at=bench.at))
    assert isinstance(command, SendFrame)
    assert b"UnsubscribeContractTrades" in command.data
    assert list(bench.state.wanted) == [QUOTES]


def test_subscriptions_are_asked_for_again_after_a_reconnect() -> None:
    bench = live(QUOTES, TRADES)
    bench.do(Lost(reason="reset", at=bench.at))
    bench.wait(1)
    bench.open()
    assert bench.take()[-1] == LinkUp(connection=2, ts_recv_ns=WALL + bench.now_ns)
    assert bench.server.is_open


def test_market_data_is_delivered_in_order_as_one_batch() -> None:
    bench = live(QUOTES)
    (command,) = bench.hear(
        encode_invocation("GatewayQuote", ["A", {}]) + encode_invocation("GatewayTrade", ["A", []])
    )
    assert isinstance(command, Deliver)
    assert [record.target for record in command.records if isinstance(record, Invocation)] == [
        "GatewayQuote",
        "GatewayTrade",
    ]


def test_malformed_record_is_delivered_as_a_refusal() -> None:
    bench = live(QUOTES)
    bench.hear(b"{oops\x1e" + encode_invocation("GatewayQuote", ["A", {}]))
    refused, call = bench.take()
    assert isinstance(refused, FrameRefused)
    assert (refused.origin, refused.raw) == ("market", b"{oops")
    assert isinstance(call, Invocation)
    assert bench.state.phase is Phase.LIVE


def test_pauses_double_up_to_the_longest_and_never_end() -> None:
    bench = Bench(pause_s=0.5, pause_max_s=4.0)
    pauses = []
    for _ in range(50):
        bench.do(OpenFailed(reason="refused", at=bench.at))
        (down,) = bench.take()
        pauses.append(down.retry_in_ns / SECOND)
        before = bench.opened
        assert bench.wait(down.retry_in_ns / SECOND - 0.01) == []
        bench.wait(0.02)
        assert bench.opened == before + 1
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert set(pauses[5:]) == {4.0}


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 0.5), (0.5, 0.45), (0.999, 0.4001)])
def test_jitter_shortens_a_pause_by_at_most_its_share(chance: float, pause_s: float) -> None:
    bench = Bench()
    bench.chance = chance
    bench.do(OpenFailed(reason="refused", at=bench.at))
    (down,) = bench.take()
    assert down.retry_in_ns == pytest.approx(pause_s * SECOND)


@pytest.mark.parametrize(("held_s", "failures"), [(59, 3), (61, 1)])
def test_pauses_start_over_only_after_a_link_that_held(held_s: float, failures: int) -> None:
    bench = Bench()
    for _ in range(2):
        bench.do(OpenFailed(reason="refused", at=bench.at))
        bench.wait(60)
    bench.open()
    for _ in range(int(held_s)):
        bench.hear(b'{"type":6}\x1e')
        bench.wait(1)
    bench.do(Lost(reason="reset", at=bench.at))
    assert bench.state.failures == failures


def test_silent_peer_costs_the_link() -> None:
    bench = live(QUOTES)
    for _ in range(29):
        bench.wait(1)
    assert bench.take() == []
    bench.wait(1)
    (down,) = bench.take()
    assert "peer_silent" in down.reason
    assert bench.closed
    assert bench.do(Lost(reason="we closed it", at=bench.at)) == []  # the echo of our own close


def test_we_ping_when_quiet() -> None:
    bench = live(QUOTES)
    bench.wait(14)
    assert bench.wait(0.9) == []
    (command,) = bench.wait(0.2)
    assert command == SendFrame(b'{"type":6}\x1e')


@pytest.mark.parametrize(("allow", "pause_s"), [(True, 0.5), (False, 10.0)])
def test_close_without_leave_to_reconnect_is_answered_by_a_longer_pause(allow: bool, pause_s: float) -> None:
    bench = live(QUOTES)
    bench.hear(encode_close("maintenance", allow_reconnect=allow))
    (down,) = bench.take()
    assert "maintenance" in down.reason
    assert down.retry_in_ns == pause_s * SECOND
    bench.wait(pause_s)
    assert bench.opened == 2


def test_logout_by_another_device_pauses_longer_each_time() -> None:
    bench = live(QUOTES)
    pauses = []
    for _ in range(6):
        bench.hear(encode_invocation("GatewayLogout", ["multiple sessions"]))
        said, down = bench.take()
        assert isinstance(said, LoggedOut)
        assert "multiple sessions" in said.text
        pauses.append(down.retry_in_ns / SECOND)
        bench.wait(pauses[-1])
        bench.open()
        bench.take()
    assert pauses == [20, 40, 80, 160, 300, 300]


def test_planned_reconnect_before_the_token_expires() -> None:
    bench = Bench(QUOTES, renew_before_s=1_800.0)
    bench.open(token_life_ns=7_200 * SECOND)
    bench.take()
    for _ in range(5_399):
        bench.hear(b'{"type":6}\x1e')
        bench.wait(1)
    assert bench.take() == []
    bench.hear(b'{"type":6}\x1e')
    bench.wait(1)
    (down,) = bench.take()
    assert (down.planned, down.retry_in_ns, bench.opened) == (True, 0, 2)
    assert bench.state.failures == 0
    bench.open()
    assert [type(event) for event in bench.take()] == [LinkUp]


@pytest.mark.parametrize(
    ("life_s", "renew_s"), [(86_400, 84_600), (3_600, 1_800), (600, 300), (1, 60), (0, 60)]
)
def test_token_that_is_nearly_over_makes_no_reconnect_loop(life_s: int, renew_s: int) -> None:
    bench = Bench()
    bench.open(token_life_ns=life_s * SECOND)
    assert bench.state.renew_at_ns == renew_s * SECOND


def test_watchdog_may_ask_for_a_reconnect() -> None:
    bench = live(QUOTES)
    bench.do(ReconnectAsked(reason="no data for 5 s", at=bench.at))
    (down,) = bench.take()
    assert (down.reason, bench.closed) == ("no data for 5 s", ["no data for 5 s"])
    assert bench.do(ReconnectAsked(reason="again", at=bench.at)) == []
    assert bench.hear(encode_invocation("GatewayQuote", ["A", {}])) == []  # was still on its way


def test_stop_says_goodbye_and_stays_stopped() -> None:
    bench = live(QUOTES)
    commands = bench.do(Stopped(at=bench.at))
    assert [type(command) for command in commands] == [SendFrame, CloseSocket]
    assert bench.server.is_closed
    assert bench.do(Lost(reason="closed", at=bench.at)) == []
    assert bench.wait(100) == []


def test_stop_while_opening_closes_the_late_socket() -> None:
    bench = Bench()
    assert bench.do(Stopped(at=bench.at)) == []
    assert [type(command) for command in bench.do(Opened(token_life_ns=1, at=bench.at))] == [CloseSocket]


def test_call_of_the_hub_that_wants_an_answer_gets_one() -> None:
    bench = live(QUOTES)
    commands = bench.hear(encode_invocation("Question", [], "77"))
    assert [type(command) for command in commands] == [SendFrame, Deliver]


def test_handshake_that_never_comes() -> None:
    bench = Bench()
    decide(Opened(token_life_ns=DAY_NS, at=bench.at), bench.state)
    bench.wait(15)
    (down,) = bench.take()
    assert "handshake" in down.reason
