"""The broker session: what is said of the token, how often it is asked about, and who may read it.

I-17 (an older heartbeat changes nothing), I-20 (a dead token is noticed), I-25 (logins keep their pauses) and
I-27 (a token stays where it belongs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker
from proof.simulation.door import LOGIN, PATHS, VALIDATE
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import (
    ASK_WITHIN_S,
    REFUSED_RETRY_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    SESSION_POLL_S,
    VALIDATE_S,
)
from shared.broker.projectx.enums import LoginErrorCode
from shared.domain.control import HaltKind, SessionHealth, SessionState
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import decode

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

MARGIN_S = 1.0
KNOWN_WITHIN_S = 1.0
"""What the broker said of a token is on the bus so soon."""
THERE_WITHIN_S = 2.0
"""A token that is called active can be found by whoever starts."""
AS_APPENDED_S = 0.5
JITTER = 0.75
"""A pause is shortened by up to a fifth, and looked at from here."""
STREAM = topics.SESSION.encode()
STATE, TOKEN = topics.SESSION_STATE.encode(), topics.SESSION_TOKEN.encode()


class Asking(msgspec.Struct):
    """What one life of heartbeat asks the broker.

    Attributes:
        under_way: Questions without an answer.
        useless: Logins in a row that are known to have brought no token that the broker accepts, with the one
            under way, and without those denied for good.
        unproven: What the last login brought, until a validation has told of it.
        denied: The last login was denied for good.
        last_ns: When it last asked anything, and the last login; 0 before.
        well: The last answer was one.
    """

    under_way: int = 0
    useless: int = 0
    last_ns: int = 0
    login_ns: int = 0
    well: bool = False
    denied: bool = False
    unproven: str | None = None


class Session(Checker):
    """See the module."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.session.on
        self.asking: dict[Incarnation, Asking] = {}
        self._token: str | None = None
        self._false_s = 0.0
        self._known_s = 0.0
        self._missing_s = 0.0
        self._differs_s = 0.0
        self._looked: Stream | None = None
        self._looked_at = 0
        self._last: SessionState | None = None
        self._idle_s = 0.0
        self._usable_s = 0.0
        self._older: list[tuple[str, float]] = []
        self._known_dead: set[tuple[Incarnation | None, str | None]] = set()

    # -- truth --------------------------------------------------------------------------

    def state(self) -> SessionState | None:
        """Return what the bus says of the session."""
        fields = self.world.stream(STATE)
        value = fields.get(STATE_FIELD.encode()) if isinstance(fields, dict) else None
        state = decode(b"session_state", value) if value else None
        return state if isinstance(state, SessionState) else None

    def token(self) -> str | None:
        value = self.world.redis.server.store.find(TOKEN)
        return value.decode() if isinstance(value, bytes) else None

    def usable(self) -> bool:
        """Return whether every process has had the time to take a token that the broker accepts."""
        return not self.on or self._usable_s >= SESSION_POLL_S + MARGIN_S

    def unsettled(self) -> str:
        """Return what is not well yet with session and judge, after the faults; empty when all is."""
        if not self.on:
            return ""
        state, door = self.state(), self.world.venue.door
        assert door is not None
        if state is None or state.health is not SessionHealth.ACTIVE:
            return f"the session is {state}"
        if not door.accepts(self.token()):
            return "the token on the bus is no good"
        if self.judge.liveness.halted:
            return "heartbeat has not lifted its halt"
        if HaltKind.LIVENESS in self.world.disk.standing_now().halts:
            return "execution holds the halt of heartbeat"
        return ""

    # -- time ---------------------------------------------------------------------------

    def tick(self, every_s: float) -> None:
        """Look at what must not last."""
        if not self.on:
            return
        door = self.world.venue.door
        assert door is not None
        token, state, liveness = self.token(), self.state(), self.judge.liveness
        now_s = self.world.loop.now_s
        if token != self._token:
            if self._token is not None:
                self._older.append((self._token, now_s))
            self._token, self._false_s, self._known_s = token, 0.0, 0.0
        self._older = [(one, at_s) for one, at_s in self._older if now_s - at_s < SESSION_POLL_S + MARGIN_S]
        taken = door.accepts(token) and all(door.accepts(one) for one, _ in self._older)
        self._usable_s = self._usable_s + every_s if taken else 0.0
        if not liveness.able():
            self._idle_s = 0.0
            return
        called_active = state is not None and state.health is SessionHealth.ACTIVE
        lies = called_active and token is not None and not door.accepts(token)
        self._missing_s = self._missing_s + every_s if called_active and token is None else 0.0
        self._false_s = self._false_s + every_s if lies else 0.0
        # What another life was told it took with it: this one asks by itself.
        known = lies and (self.world.machine.processes["heartbeat"].now, token) in self._known_dead
        self._known_s = self._known_s + every_s if known else 0.0
        if lies:
            self.reach("dead token called active")
        margin_s, false_s, known_s = liveness.margin_s, self._false_s, self._known_s
        missing_s = self._missing_s
        self.check(
            "I-20",
            missing_s <= THERE_WITHIN_S + margin_s,
            lambda: f"a session is called active for {missing_s:.2f} s, and nobody finds its token",
        )
        self.check(
            "I-20",
            false_s <= VALIDATE_S + ASK_WITHIN_S + margin_s,
            lambda: f"a dead token is called active for {false_s:.2f} s",
        )
        self.check(
            "I-20",
            known_s <= KNOWN_WITHIN_S + margin_s - MARGIN_S,
            lambda: f"a token that the broker refused to heartbeat is called active for {known_s:.2f} s",
        )
        self._asked_in_time(every_s)
        self._as_appended(state, every_s)

    def _as_appended(self, state: SessionState | None, every_s: float) -> None:
        """What lies in the hash is what the stream ended with, which only the newest heartbeat can write."""
        newest = self._newest()
        differs = newest is not None and (
            state is None or (state.health, state.token_version) != (newest.health, newest.token_version)
        )
        self._differs_s = self._differs_s + every_s if differs else 0.0
        bound_s, differs_s = AS_APPENDED_S + 2 * self.judge.liveness.margin_s, self._differs_s
        self.check(
            "I-17",
            differs_s <= bound_s,
            lambda: f"for {differs_s:.2f} s the hash says {state}, the stream {newest}",
        )

    def _newest(self) -> SessionState | None:
        stream = self.world.stream(STREAM)
        if not isinstance(stream, Stream):
            return None
        if self._looked is not stream or self._looked_at != stream.added:
            self._looked, self._looked_at, self._last = stream, stream.added, None
            for row in reversed(stream.rows):
                fields: Any = row[1]
                if fields[0] == b"session_state":
                    said = decode(*fields)
                    assert isinstance(said, SessionState)
                    self._last = said
                    break
        return self._last

    def _asked_in_time(self, every_s: float) -> None:
        """The session is asked about every interval, whatever the last answer was."""
        running = self.world.machine.processes["heartbeat"].now
        asking = self.asking.get(running) if running is not None else None
        now_ns = self.world.clock.true_ns()
        if asking is not None and now_ns - asking.last_ns <= every_s * NS_PER_S:
            self._idle_s = 0.0
        self._idle_s += every_s
        bound_s = VALIDATE_S if asking is not None and asking.well else RETRY_MAX_S + REFUSED_RETRY_S
        idle_s, bound_s = self._idle_s, bound_s + ASK_WITHIN_S + self.judge.liveness.margin_s
        self.check("I-20", idle_s <= bound_s, lambda: f"nothing is asked of the session for {idle_s:.2f} s")

    # -- requests -------------------------------------------------------------------------

    def tried(self, path: str, incarnation: Incarnation) -> None:
        """Heartbeat has its turn, whether the request leaves or not."""
        if self.on and path in PATHS:
            self.asking.setdefault(incarnation, Asking()).last_ns = self.world.clock.true_ns()

    def asked(self, path: str, incarnation: Incarnation) -> None:
        """Heartbeat asks: one thing at a time, and logins that bring nothing ever less often."""
        if not self.on or path not in PATHS:
            return
        now_ns = self.world.clock.true_ns()
        one = self.asking[incarnation]
        others = one.under_way
        self.check("I-25", others == 0, lambda: f"{path} is asked while {others} questions are under way")
        one.under_way += 1
        if path != LOGIN:
            return
        self.reach("login")
        if one.denied:
            pause_s = (now_ns - one.login_ns) / NS_PER_S
            self.check(
                "I-25", pause_s >= REFUSED_RETRY_S, lambda: f"a login {pause_s:.2f} s after one was denied"
            )
        elif one.useless:
            doubled_s = min(RETRY_FIRST_S * 2 ** min(one.useless - 1, 8), RETRY_MAX_S)
            pause_s, useless = (now_ns - one.login_ns) / NS_PER_S, one.useless
            self.reach("login after one that brought nothing")
            self.check(
                "I-25",
                pause_s >= doubled_s * JITTER,
                lambda: f"a login {pause_s:.2f} s after one that brought nothing, the {useless}. in a row",
            )
        one.useless += 1
        one.login_ns, one.denied = now_ns, False

    def over(self, path: str, incarnation: Incarnation) -> None:
        """A question has its answer, or nobody waits for it any more."""
        if self.on and path in PATHS and (one := self.asking.get(incarnation)) is not None:
            one.under_way -= 1
            one.well = False

    def heard(self, path: str, incarnation: Incarnation, token: str | None, status: int, body: bytes) -> None:
        """Heartbeat has an answer in hand."""
        if not self.on or path not in PATHS:
            return
        door, one = self.world.venue.door, self.asking[incarnation]
        assert door is not None
        try:
            said = msgspec.json.decode(body) if status == 200 else {}
        except msgspec.MsgspecError:
            said = {}
        well = isinstance(said, dict) and bool(said.get("success"))
        given = (said.get("token") or said.get("newToken")) if well else None
        over = given in door.issued and door.issued[given].dies_ns < door.issued[given].issued_ns
        if path == LOGIN and given and (not over or self.world.clock.jump_ns):  # by its clock it may live
            one.useless, one.unproven = one.useless - 1, given  # nobody knows yet what it is worth
        gone = status == 401 or (not well and said.get("errorCode") in (1, 2, 3))
        if path == VALIDATE and gone and token is not None:
            self.reach("heartbeat learns that its token is dead")
            self._known_dead.add((incarnation, token))
            if token == one.unproven:
                one.useless, one.unproven = one.useless + 1, None
        if path == LOGIN and said.get("errorCode") == LoginErrorCode.INVALID_CREDENTIALS:
            one.useless, one.denied = one.useless - 1, True
        if path == VALIDATE and well and token == one.unproven:
            one.useless, one.unproven = 0, None
        one.well = well and (path == VALIDATE or given is not None)

    # -- secrets ----------------------------------------------------------------------------

    def said(self, where: str, words: object) -> None:
        """Look for a token in what people read."""
        door = self.world.venue.door
        if not self.on or door is None or not door.needle:
            return
        self.check("I-27", door.needle not in str(words), lambda: f"a token stands in {where}")

    def leaks(self) -> None:
        """Look for a token in everything that lies in Redis, but for its own key."""
        door = self.world.venue.door
        if not self.on or door is None or not door.needle:
            return
        needle = door.needle.encode()
        for key, value in self.world.redis.server.store.keys.items():
            if key == TOKEN:
                continue
            inside = value.rows if isinstance(value, Stream) else value
            found = needle in inside if isinstance(inside, bytes) else door.needle in repr(inside)
            self.check("I-27", not found, lambda k=key: f"a token stands in {k.decode()}")  # type: ignore[misc]
