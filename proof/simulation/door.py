"""The broker's door in worlds with a real heartbeat: who is let in, with which token, and for how long.

Tokens are those of the simulator (`services.simulator.tokens`): they say themselves when they end. What a
plan does to them they do not say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from proof.simulation.plan import SessionPlan
from services.simulator import tokens
from shared.broker.projectx.enums import LoginErrorCode, ValidateErrorCode

if TYPE_CHECKING:
    from proof.simulation.wire import Fate

NS_PER_S = 1_000_000_000
LOGIN, VALIDATE, LOGOUT = "/api/Auth/loginKey", "/api/Auth/validate", "/api/Auth/logout"
PATHS = frozenset({LOGIN, VALIDATE, LOGOUT})
SLOW_S_MAX = 3.0
_KEY = b"the broker's own"
_encode = msgspec.json.encode
Answer = tuple[int, bytes]


@dataclass(slots=True)
class Issued:
    """One token.

    Attributes:
        dies_ns: When the broker stops accepting it, true time.
    """

    value: str
    issued_ns: int
    dies_ns: int


class Door:
    """See the module.

    Attributes:
        denying: Logins are refused for good.
        needle: What every token begins with, empty before the first.
    """

    def __init__(self, plan: SessionPlan, rng: random.Random, now_ns: Callable[[], int]) -> None:
        self.plan = plan
        self.issued: dict[str, Issued] = {}
        self.denying = False
        self.needle = ""
        self.reach: Callable[[str], None] = lambda state: None
        self._rng = rng
        self._now_ns = now_ns

    def heal(self) -> None:
        """From here on logins are answered, and tokens live as long as they say."""
        self.plan = SessionPlan(on=True, life_s=self.plan.life_s, renews=self.plan.renews)
        self.denying = False

    def accepts(self, token: str | None) -> bool:
        issued = self.issued.get(token or "")
        return issued is not None and self._now_ns() < issued.dies_ns

    def revoke(self) -> None:
        """Every token that was given so far ends now."""
        now_ns = self._now_ns()
        for issued in self.issued.values():
            issued.dies_ns = min(issued.dies_ns, now_ns)

    # -- requests -----------------------------------------------------------------

    def on_the_way(self, path: str, fate: Fate) -> None:
        """Let an answer of the door take its time, or not come at all."""
        if path not in PATHS:
            return
        if self._chance(self.plan.hangs):
            self.reach(f"{_words(path)} without an answer")
            fate.reply_lost = True
        elif self._chance(self.plan.slow):
            self.reach(f"{_words(path)} answered slowly")
            fate.reply_after_s = self._rng.uniform(0.3, SLOW_S_MAX)

    def says(self, path: str, token: str | None) -> Answer | None:
        """Answer a request, or let it in: None."""
        if path == LOGIN:
            return self._login()
        if not self.accepts(token):
            if token in self.issued:
                self.reach("dead token refused")
            if path == VALIDATE and self._chance(0.3):
                return _refused(self._rng.choice(list(ValidateErrorCode)[1:4]))
            return 401, b""
        if path == VALIDATE:
            return self._validate()
        if path == LOGOUT:
            return 200, _encode({"success": True, "errorCode": 0})
        if self._chance(self.plan.refused):
            self.reach("401 for a token that lives")
            return 401, b""
        return None

    def _login(self) -> Answer:
        if self.denying:
            self.reach("login denied")
            return _refused(LoginErrorCode.INVALID_CREDENTIALS)
        if self._chance(self.plan.login_failed):
            self.reach("login failed")
            return self._rng.choice(
                (
                    (503, b""),
                    (200, b"<html>busy</html>"),
                    (200, _encode({"success": True, "errorCode": 0, "token": None})),
                    _refused(LoginErrorCode.UNKNOWN_ERROR),
                )
            )
        return 200, _encode({"success": True, "errorCode": 0, "token": self._issue()})

    def _validate(self) -> Answer:
        if self._chance(self.plan.validate_failed):
            self.reach("validation failed")
            return self._rng.choice(((500, b""), (200, b""), _refused(ValidateErrorCode.UNKNOWN_ERROR)))
        fresh = self._issue() if self._chance(self.plan.renews) else None
        if fresh is not None:
            self.reach("validation brought a token")
        return 200, _encode({"success": True, "errorCode": 0, "newToken": fresh})

    def _issue(self) -> str:
        now_ns = self._now_ns()
        dies_ns = says_ns = now_ns + round(self.plan.life_s * NS_PER_S)
        if self._chance(self.plan.dead_on_arrival):
            self.reach("token dead on arrival")
            dies_ns = now_ns
        elif self._chance(self.plan.over_on_arrival):
            self.reach("token over on arrival")
            dies_ns = says_ns = now_ns - 2 * NS_PER_S
        claims = tokens.Claims(
            sub="sim", jti=str(len(self.issued)), iat=now_ns // NS_PER_S, exp=-(-says_ns // NS_PER_S),
            exp_ns=dies_ns, iat_ns=now_ns,
        )  # fmt: skip
        value = tokens.issue(_KEY, claims)
        self.needle = self.needle or value[: value.index(".") + 1]
        self.issued[value] = Issued(value, now_ns, dies_ns)
        return value

    def _chance(self, chance: float) -> bool:
        return chance > 0 and self._rng.random() < chance


def _refused(code: int) -> Answer:
    return 200, _encode({"success": False, "errorCode": int(code), "errorMessage": "No."})


def _words(path: str) -> str:
    return "login" if path == LOGIN else "validation"
