"""Who is logged in: tokens issued, renewed, logged out, and read from requests."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from services.simulator import tokens
from services.simulator.config import UserConfig
from services.simulator.faults import Faults


class Sessions:
    """Issue and check session tokens.

    A second login leaves earlier tokens valid, as documented. A token works in the
    `Authorization` header and, for the hubs, in the query.
    """

    def __init__(
        self,
        *,
        users: tuple[UserConfig, ...],
        secret: bytes,
        ttl_s: float,
        now_ns: Callable[[], int],
        faults: Faults,
        revoked_ns: int = 0,
    ) -> None:
        """Args:
        revoked_ns: Tokens issued up to then are no good.
        """
        self._users = {user.name.casefold(): user for user in users}
        self._secret = secret
        self._ttl_ns = int(ttl_s * 1e9)
        self._now_ns = now_ns
        self._faults = faults
        self._revoked_ns = revoked_ns
        self._issued = 0
        self._logged_out: dict[str, int] = {}  # token number -> when it expires anyway

    def known_name(self, name: str) -> str | None:
        """Return the configured spelling of a user name, or None."""
        user = self._users.get(name.casefold())
        return None if user is None else user.name

    def log_in(self, name: str, api_key: str) -> str | None:
        """Return a new token, or None when name or key is wrong."""
        user = self._users.get(name.casefold())
        if user is None or user.api_key.get_secret_value() != api_key:
            return None
        return self._issue(user.name)

    def renew(self, request: web.Request) -> str | None:
        """Return a new token for the request's user."""
        user = self.user_of(request)
        return None if user is None else self._issue(user)

    def log_out(self, request: web.Request) -> None:
        """End the request's token, and only that one."""
        claims = tokens.read(self._secret, _token_of(request) or "")
        now_s = self._now_ns() // 1_000_000_000
        for number in [one for one, expires_s in self._logged_out.items() if expires_s <= now_s]:
            del self._logged_out[number]
        if claims is not None:
            self._logged_out[claims.jti] = claims.exp

    def user_of(self, request: web.Request) -> str | None:
        """Return the user of a request's token, or None when the token is no good."""
        token = _token_of(request)
        claims = tokens.read(self._secret, token) if token else None
        if claims is None or claims.jti in self._logged_out or claims.iat_ns <= self._revoked_ns:
            return None
        if claims.exp_ns <= self._now_ns() or claims.sub.casefold() not in self._users:
            return None
        return claims.sub

    def revoke_all(self) -> int:
        """Make every token issued so far invalid; return up to when."""
        self._revoked_ns = self._now_ns()
        return self._revoked_ns

    def _issue(self, name: str) -> str:
        """Return a new token. A fault may shorten its life, openly or against what the token says."""
        self._issued += 1
        now_ns = self._now_ns()
        life_ns = self._ttl_ns
        if short := self._faults.draw("short_tokens", name):
            life_ns = int(short.delay_s * 1e9)
        expires_ns = said_ns = now_ns + life_ns
        if early := self._faults.draw("early_expiry", name):
            expires_ns = now_ns + int(early.delay_s * 1e9)
        claims = tokens.Claims(
            sub=name,
            jti=f"{now_ns}-{self._issued}",
            iat=now_ns // 1_000_000_000,
            exp=-(-said_ns // 1_000_000_000),
            exp_ns=expires_ns,
            iat_ns=now_ns,
        )
        return tokens.issue(self._secret, claims)


def _token_of(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "bearer" and token:
        return token.strip()
    return request.query.get("access_token")
