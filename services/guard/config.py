"""Settings of guard: `[guard]`, with one row of `accounts` per account that has rules of its own."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from pydantic import Field, field_validator

from services.guard.hours import Hours
from services.guard.profiles import NONE, PROFILES
from services.guard.rules import Rules, Scale
from services.guard.state import Limits
from shared.runtime.config import JulieSection, Section, SettingsRefused

PROFILE_NAMES = ", ".join(PROFILES)


def _time_of_day(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day; write 15:10") from None


def _known(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {PROFILE_NAMES}")
    return name


class GuardedAccount(Section):
    """The rules of one account: a profile, and what differs from it. 0 means: no such rule."""

    id: int = Field(gt=0, description="The broker's account id.")
    profile: str = Field(description=f"One of {PROFILE_NAMES}.")
    since: date | None = Field(
        None,
        description="First trading date the rules count from, after a reset of the account: what was "
        "recorded before is forgotten.",
    )
    start_balance: Decimal | None = Field(None, description="Balance the account began with.")
    max_loss: Decimal | None = Field(None, ge=0, description="Maximum loss below the highest end of day.")
    trailing_eod: bool | None = Field(None, description="The floor follows the highest end-of-day balance.")
    floor_stops_at_start: bool | None = Field(None, description="It rises no further than the start balance.")
    daily_loss: Decimal | None = Field(None, ge=0, description="Loss of one trading day, open P&L included.")
    contracts_max: tuple[tuple[Decimal, Decimal], ...] | None = Field(
        None, description="Steps of [profit, contracts]; ten micros are one contract."
    )
    flat_by: str | None = Field(
        None, description="Time of day to be flat by; empty: positions may be held over the close."
    )
    reopen: str | None = Field(None, description="Time of day at which the trading day turns.")

    @field_validator("profile")
    @classmethod
    def _profile(cls, name: str) -> str:
        return _known(name)

    @field_validator("flat_by", "reopen")
    @classmethod
    def _times(cls, text: str | None) -> str | None:
        if text:
            _time_of_day(text)
        return text

    @field_validator("contracts_max")
    @classmethod
    def _rising(
        cls, steps: tuple[tuple[Decimal, Decimal], ...] | None
    ) -> tuple[tuple[Decimal, Decimal], ...] | None:
        if steps and ([profit for profit, _ in steps] != sorted({profit for profit, _ in steps})):
            raise ValueError("the steps must begin with the lowest profit, each profit once")
        if steps and any(contracts < 0 for _, contracts in steps):
            raise ValueError("contracts must not be negative")
        return steps

    def rules(self) -> Rules:
        """Return the profile with what this account has otherwise."""
        changes = {
            "start_balance": self.start_balance,
            "trailing_eod": self.trailing_eod,
            "floor_stops_at_start": self.floor_stops_at_start,
        }
        rules = msgspec.structs.replace(
            PROFILES[self.profile], **{name: value for name, value in changes.items() if value is not None}
        )
        if self.max_loss is not None:
            rules = msgspec.structs.replace(rules, max_loss=self.max_loss or None)
        if self.daily_loss is not None:
            rules = msgspec.structs.replace(rules, daily_loss=self.daily_loss or None)
        if self.contracts_max is not None:
            scaling = tuple(Scale(profit=profit, contracts=qty) for profit, qty in self.contracts_max)
            rules = msgspec.structs.replace(rules, scaling=scaling)
        return rules


class GuardConfig(Section):
    """The prop firm's rules, watched by a process of its own that can close everything by itself."""

    profile: str | None = Field(
        None, description=f"Rules of an account that is not listed below: {PROFILE_NAMES}."
    )
    accounts: tuple[GuardedAccount, ...] = Field(
        (), description="Account id -> profile, with what differs from it."
    )
    flat_by: str = Field("15:10", description="Of profiles with rules: flat by this time of day.")
    reopen: str = Field("17:00", description="A trading day turns and trading begins again at this time.")
    zone: str = Field("America/Chicago", description="Zone of both.")
    early_close_lead_s: float = Field(
        900.0, ge=0, le=14_400, description="Where the exchange closes early: flat this long before."
    )
    entries_end_s: float = Field(
        120.0,
        ge=0,
        le=3_600,
        description="No new exposure this long before flat_by, on this machine's clock.",
    )
    flat_lead_s: float = Field(
        30.0, ge=5, le=3_600, description="Closing begins this long before flat_by, on this machine's clock."
    )
    look_interval_s: float = Field(
        15.0, ge=1, le=60, description="The account is read at the broker this often: about three requests."
    )
    near_interval_s: float = Field(
        5.0, ge=0.5, le=60, description="The same near a limit, and while Redis or broker_sync are away."
    )
    near_share: Decimal = Field(
        Decimal("0.25"), ge=0, le=1, description="Near: less than this share of a loss limit is left."
    )
    look_within_s: float = Field(10.0, ge=0.5, le=60, description="A look without an answer is given up.")
    truth_age_s_max: float = Field(
        45.0, ge=2, le=600, description="Older knowledge of the account is no knowledge: new exposure halts."
    )
    price_age_s_max: float = Field(10.0, ge=1, le=600, description="The same for the price of what is held.")
    blind_s: float = Field(
        60.0, ge=1, le=3_600, description="Blind for so long with a position open: blind_action."
    )
    blind_action: Literal["flatten", "halt"] = Field(
        "flatten", description="`flatten`: close what cannot be judged. `halt`: take no new exposure."
    )
    wedge_s: float = Field(
        3.0, ge=0.5, le=60, description="Without a sign that execution obeys, guard closes by itself."
    )
    silent_s: float = Field(
        2.0, ge=0.5, le=60, description="Execution's beats missing for so long: guard does not wait for it."
    )
    shrink_s: float = Field(
        5.0, ge=0.5, le=120, description="The same when nothing is closed or cancelled for so long."
    )
    resume_after_s: float = Field(
        2.0, ge=0, le=60, description="A halt of guard's ends when its reason has been gone for so long."
    )
    history_days: int = Field(
        30, ge=1, le=365, description="How far back fills are read to find earlier end-of-day balances."
    )

    @field_validator("profile")
    @classmethod
    def _profile(cls, name: str | None) -> str | None:
        return _known(name) if name is not None else None

    @field_validator("flat_by", "reopen")
    @classmethod
    def _times(cls, text: str) -> str:
        _time_of_day(text)
        return text

    @field_validator("zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no time zone {name!r}; write America/Chicago") from None
        return name

    @field_validator("accounts")
    @classmethod
    def _once(cls, accounts: tuple[GuardedAccount, ...]) -> tuple[GuardedAccount, ...]:
        ids = [account.id for account in accounts]
        if len(set(ids)) != len(ids):
            raise ValueError("an account is listed twice")
        return accounts

    def account(self, account_id: int) -> GuardedAccount:
        """Return the row of one account.

        Raises:
            SettingsRefused: If nothing says which rules it has.
        """
        for account in self.accounts:
            if account.id == account_id:
                return account
        if self.profile is None:
            remedy = (
                f"guard: account {account_id} has no rules; set guard.profile, or add it to guard.accounts "
                f"with one of {PROFILE_NAMES} (`none` for an account without rules)"
            )
            raise SettingsRefused("guard", [remedy])
        return GuardedAccount.model_validate({"id": account_id, "profile": self.profile})

    def hours(self, julie: JulieSection) -> Hours:
        """Return the account's hours; what is meant in real seconds is more time of a faster market."""
        account = self.account(julie.account_id)
        none = account.profile == NONE and account.flat_by is None
        flat_by = "" if none else self.flat_by if account.flat_by is None else account.flat_by
        return Hours(
            flat_by=_time_of_day(flat_by) if flat_by else None,
            reopen=_time_of_day(account.reopen or self.reopen),
            zone=self.zone,
            symbols=julie.symbols,
            early_close_lead_s=self.early_close_lead_s,
            entries_end_s=max(self.entries_end_s, self.flat_lead_s) * julie.market_speed,
            flat_lead_s=self.flat_lead_s * julie.market_speed,
        )

    def limits(self) -> Limits:
        """Return what the core counts by."""
        return Limits(
            look_interval_s=self.look_interval_s,
            near_interval_s=min(self.near_interval_s, self.look_interval_s),
            near_share=self.near_share,
            truth_age_s_max=self.truth_age_s_max,
            price_age_s_max=self.price_age_s_max,
            blind_s=self.blind_s,
            blind_flattens=self.blind_action == "flatten",
            wedge_s=self.wedge_s,
            silent_s=self.silent_s,
            shrink_s=self.shrink_s,
            resume_after_s=self.resume_after_s,
            history_days=self.history_days,
        )


SECTION = GuardConfig
