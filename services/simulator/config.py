"""Settings of the simulator."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from services.simulator.contracts import PRODUCTS
from services.simulator.fault_settings import FaultsConfig
from services.simulator.firm_rules import FirmRules
from shared.runtime.config import Section

HOST_TIME = "host"


def is_loopback(host: str) -> bool:
    """Return whether a host, as in a URL, is this machine and nothing else."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class UserConfig(Section):
    """A user that may log in. Meant for the simulator only: no real credential belongs here."""

    name: str = Field(default="demo", description="Platform login, compared without case.")
    api_key: SecretStr = Field(
        default=SecretStr("demo-key"), description="API key of this user, simulator-only."
    )


class AccountConfig(Section):
    """A trading account, created when the store does not have it yet."""

    id: int = Field(default=1001, gt=0, description="Account id.")
    name: str = Field(default="SIM-50K", description="Account name.")
    balance: Decimal = Field(default=Decimal(50_000), description="Starting balance in USD.")
    can_trade: bool = Field(default=True, description="False: every order is refused with code 4.")
    auto_oco: bool = Field(
        default=True, description='Bracket mode: true is "Auto OCO Brackets", false is "Position Brackets".'
    )
    flat_at: str = Field(
        default="",
        pattern=r"^(1[0-6]:[0-5][0-9])?$",
        description="Chicago time, as 15:10, from which to 17:00 the firm closes all. Empty: never.",
    )
    daily_loss_usd: Decimal = Field(
        default=Decimal(0),
        ge=0,
        description="Loss of equity since the day's start that liquidates and locks for the day; 0: none.",
    )
    max_loss_usd: Decimal = Field(
        default=Decimal(0),
        ge=0,
        description="Loss below the best balance at a day's end that liquidates and locks for good; 0: none.",
    )

    @property
    def firm_rules(self) -> FirmRules:
        """Return what a prop firm demands of this account."""
        hour, _, minute = self.flat_at.partition(":")
        return FirmRules(
            flat_at_s=int(hour) * 3600 + int(minute) * 60 if self.flat_at else None,
            daily_loss=self.daily_loss_usd or None,
            max_loss=self.max_loss_usd or None,
        )


class LimitsConfig(Section):
    """Request limits per user, as the gateway documents them."""

    history_requests: int = Field(default=50, gt=0, description="retrieveBars requests per window.")
    history_window_s: float = Field(default=30.0, gt=0, description="Window of retrieveBars, seconds.")
    requests: int = Field(
        default=200, gt=0, description="Requests of all other endpoints together per window."
    )
    window_s: float = Field(default=60.0, gt=0, description="Window of all other endpoints, seconds.")
    retry_after: bool = Field(default=False, description="Send a Retry-After header (seconds) with HTTP 429.")


class HubConfig(Section):
    """Both hubs. Times are the defaults of ASP.NET Core."""

    ping_after_s: float = Field(
        default=15.0, gt=0, description="Ping a client after this silence of ours, seconds."
    )
    silent_after_s: float = Field(
        default=30.0, gt=0, description="Cut a client silent for this long, seconds."
    )
    handshake_within_s: float = Field(
        default=15.0, gt=0, description="Cut a client without handshake, seconds."
    )
    handshake_versions: tuple[int, ...] = Field(
        default=(0, 1),
        min_length=1,
        description="Handshake versions taken. signalrcore says 0; one report has the gateway drop such a "
        "client when it skipped negotiation: set [1] to be as strict.",
    )
    envelope: bool = Field(
        default=True, description='User events as {"action","data"}; false: the bare object.'
    )
    arrays: bool = Field(default=True, description="Trades and depth as arrays; false: one bare object each.")
    clients_max: int = Field(default=200, gt=0, description="Connections per hub; beyond it HTTP 503.")
    snapshot_on_subscribe: bool = Field(
        default=True, description="Send the present quote and touch to a new market subscriber."
    )
    conflate_above_bytes: int = Field(
        default=1_048_576,
        gt=0,
        description="Unsent bytes of one client above which its quotes and depth are conflated (synthetic "
        "market) or the replay waits for it (replay).",
    )
    unsent_max_bytes: int = Field(
        default=16_777_216,
        gt=0,
        description="Unsent bytes above which a client is cut (never by a replay).",
    )


class SimulatorConfig(Section):
    """A venue that speaks the ProjectX gateway's protocol."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8700, ge=0, le=65_535, description="TCP port of REST and both hubs; 0 takes a free one."
    )
    database: Path | None = Field(
        default=None, description="The venue's own SQLite file. Default: simulator.sqlite in julie.data_dir."
    )
    source: Literal["synthetic", "replay"] = Field(
        default="synthetic", description="Where the market comes from."
    )
    symbols: tuple[str, ...] = Field(
        default=(), description="Synthetic markets to run, tickers such as MES. Default: julie.symbols."
    )
    seed: int = Field(default=1, description="Seed of the synthetic market.")
    speed: float | None = Field(
        default=None,
        ge=0,
        description="Venue seconds per real second; 0 (replay only) is as fast as clients read. "
        "Default: julie.market_speed.",
    )
    venue_start: str | None = Field(
        default=None,
        description="Venue time at the first start, ISO-8601 with zone. Default: 09:30 New York time of the "
        "last Monday to Thursday on which that time has passed; a later start continues from the stored one. "
        "`host`: this machine's time, with a market that never closes, for clients that ask for "
        "history or orders by their own clock.",
    )
    skip_weekends: bool = Field(
        default=True,
        description="Whether venue time jumps over the weekend; no when venue_start is `host`.",
    )
    replay_file: Path | None = Field(default=None, description="Recording to replay, csv or csv.gz.")
    replay_symbol: str = Field(default="ES", description="Ticker of the recording.")
    replay_start: Literal["subscribed", "boot"] = Field(
        default="subscribed",
        description="When the replay starts: with the first client subscribed to quotes, trades and depth "
        "of its contract, or at once.",
    )
    flood_quotes_per_s: int = Field(
        default=0,
        ge=0,
        description="Instead of the usual synthetic market: quotes per real second, over all symbols.",
    )
    control: bool = Field(
        default=False,
        description="Whether /simulator/... may be used: faults set, orders placed by hand, the books read. "
        "For tests: needs a loopback host.",
    )
    users: tuple[UserConfig, ...] = Field(
        default=(UserConfig(),), min_length=1, description="Who may log in."
    )
    accounts: tuple[AccountConfig, ...] = Field(
        default=(AccountConfig(),),
        min_length=1,
        description="Trading accounts. A prop firm's rules, off by default: flat_at (Chicago time, 15:10), "
        "daily_loss_usd, max_loss_usd.",
    )
    token_ttl_s: float = Field(default=86_400.0, gt=0, description="Life of a session token, seconds.")
    fees_usd: dict[str, Decimal] = Field(
        default={
            "ES": Decimal("1.40"),
            "NQ": Decimal("1.40"),
            "RTY": Decimal("1.40"),
            "YM": Decimal("1.40"),
            "MES": Decimal("0.37"),
            "MNQ": Decimal("0.37"),
            "M2K": Decimal("0.37"),
            "MYM": Decimal("0.37"),
        },
        description="Fees in USD per contract and side, by symbol.",
    )
    bracket_ticks_min: int = Field(default=4, ge=1, description="Least distance of a bracket, ticks.")
    stop_limit_orders: bool = Field(
        default=False, description="Take stop-limit orders; the gateway's documentation does not list them."
    )
    close_cancels_brackets: bool = Field(
        default=False,
        description="Whether closing a position cancels its bracket children. Reported live: no.",
    )
    open_rows_with_tag: bool = Field(
        default=False, description="Whether Order/searchOpen rows carry customTag."
    )
    step_ms: float = Field(
        default=5.0, gt=0, le=1000, description="Pause between two turns of the market, ms."
    )
    limits: LimitsConfig = Field(default=LimitsConfig(), description="Request limits.")
    hub: HubConfig = Field(default=HubConfig(), description="Both hubs.")
    faults: FaultsConfig = Field(default=FaultsConfig(), description="Faults on demand.")

    @field_validator("symbols")
    @classmethod
    def _listed(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in symbols:
            if symbol not in PRODUCTS:
                raise ValueError(f"{symbol!r} is not listed at this venue; there are {', '.join(PRODUCTS)}")
        return symbols

    @field_validator("venue_start")
    @classmethod
    def _with_zone(cls, text: str | None) -> str | None:
        if text in (None, HOST_TIME):
            return text
        if datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("venue_start needs a zone, as in 2026-03-02T09:30:00-05:00")
        return text

    @model_validator(mode="after")
    def _check_control(self) -> SimulatorConfig:
        if self.control and not is_loopback(self.host):
            raise ValueError(
                f"control is true but host is {self.host!r}: whoever reaches it could trade; "
                "set simulator.host to 127.0.0.1, or control to false"
            )
        return self

    @model_validator(mode="after")
    def _check_source(self) -> SimulatorConfig:
        if self.source == "replay" and self.replay_file is None:
            raise ValueError("source is 'replay' but replay_file is not set: name the recording to replay")
        if self.source == "synthetic" and self.speed == 0:
            raise ValueError("speed 0 (as fast as clients read) needs source 'replay'")
        return self


SECTION = SimulatorConfig
