"""The words of one hub link: its settings, what happens to it, what it wants done.

Times: `now_ns` never goes backward and is what waiting is measured in; `ts_ns` is the
wall clock and only stamps what is delivered. `chance` is a number in [0, 1) for jitter.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from shared.broker.port import LinkEvent
from shared.broker.projectx.signalr import Invocation, KeepAlive

LOGOUT_TARGET: Final = "GatewayLogout"
SUBSCRIPTIONS_MAX: Final = 1_000  # of one link
SECOND_NS: Final = 1_000_000_000


class LinkSettings(Struct, frozen=True, kw_only=True):
    """Pauses double from the first to the longest and lose up to `jitter_share` of themselves.

    Attributes:
        stable_after_s: A link that held this long was a good one: pauses start from the first again.
        refused_pause_s: First pause after a Close that forbids reconnecting. We come back anyway,
            a position may be open; but slowly.
        logout_pause_s: First pause after GatewayLogout.
        ask_again_pause_s: First pause before a refused subscription is asked for again: a hub refuses also
            because of a passing trouble of its own, and the link may hold for a day.
        answer_within_s: For the completion of a subscription.
        renew_before_s: Planned reconnect this long before the token expires.
    """

    pause_s: float = 0.5
    pause_max_s: float = 30.0
    refused_pause_s: float = 10.0
    refused_pause_max_s: float = 120.0
    logout_pause_s: float = 20.0
    logout_pause_max_s: float = 300.0
    ask_again_pause_s: float = 2.0
    ask_again_pause_max_s: float = 60.0
    jitter_share: float = 0.2
    stable_after_s: float = 60.0
    answer_within_s: float = 10.0
    renew_before_s: float = 1_800.0
    keep_alive: KeepAlive = KeepAlive()

    def __post_init__(self) -> None:
        assert 0 < self.pause_s <= self.pause_max_s
        assert 0 < self.refused_pause_s <= self.refused_pause_max_s
        assert 0 < self.logout_pause_s <= self.logout_pause_max_s
        assert 0 < self.ask_again_pause_s <= self.ask_again_pause_max_s
        assert 0 <= self.jitter_share < 1


class Subscription(Struct, frozen=True):
    """A hub method and its argument; `argument` None: the method takes none."""

    target: str
    argument: str | int | None = None

    @property
    def arguments(self) -> list[str | int]:
        return [] if self.argument is None else [self.argument]


# -- events -----------------------------------------------------------------------


class At(Struct, frozen=True, gc=False):
    now_ns: int
    ts_ns: int
    chance: float = 0.0


class _Event(Struct, frozen=True, kw_only=True, gc=False):
    at: At


class Started(_Event, frozen=True, kw_only=True): ...


class Opened(_Event, frozen=True, kw_only=True):
    """The socket is open. Attributes: token_life_ns: of the token it was opened with, from now on."""

    token_life_ns: int


class OpenFailed(_Event, frozen=True, kw_only=True):
    reason: str


class FrameReceived(_Event, frozen=True, kw_only=True, gc=False):
    data: bytes


class Lost(_Event, frozen=True, kw_only=True):
    """The socket closed under us."""

    reason: str


class Tick(_Event, frozen=True, kw_only=True): ...


class Wanted(_Event, frozen=True, kw_only=True):
    subscription: Subscription


class Unwanted(_Event, frozen=True, kw_only=True):
    """Attributes: goodbye: the method that ends the subscription."""

    subscription: Subscription
    goodbye: Subscription


class ReconnectAsked(_Event, frozen=True, kw_only=True):
    """A watchdog finds the link up and silent."""

    reason: str


class Stopped(_Event, frozen=True, kw_only=True): ...


Event = (
    Started | Opened | OpenFailed | FrameReceived | Lost | Tick | Wanted | Unwanted | ReconnectAsked | Stopped
)

# -- commands ---------------------------------------------------------------------


class OpenSocket(Struct, frozen=True):
    """Open a socket with the newest token; answer with `Opened` or `OpenFailed`."""


class CloseSocket(Struct, frozen=True):
    """Close the socket, after what was to be sent; say nothing about it."""

    reason: str


class SendFrame(Struct, frozen=True):
    data: bytes


class Deliver(Struct, frozen=True, gc=False):
    """Everything one frame held, in order: calls of the hub, and what became of the link."""

    records: list[Invocation | LinkEvent]


Command = OpenSocket | CloseSocket | SendFrame | Deliver
