"""Settings: one TOML file, one section per service, environment variables on top.

Every problem is reported at once, with the setting's name and what to do, before anything starts. Each
service reads the common sections and its own; a misspelled name is an error, never silently ignored.

`JULIE_CONFIG` names the file (default `julie.toml`). `JULIE_<SECTION>__<FIELD>` overrides one setting, for
containers: `JULIE_REDIS__URL=redis://redis:6379/0`. Secrets are always files; a setting holds the path.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.bus.client import Address
from shared.domain.ids import STRATEGY_ID_PATTERN
from shared.runtime.secret import Secret

SECTIONS = (
    "julie",
    "redis",
    "broker",
    "heartbeat",
    "feed",
    "broker_sync",
    "strategy",
    "execution",
    "guard",
    "recorder",
    "simulator",
)

DEFAULT_FILE = "julie.toml"

SOCKET_FOLDER_CHARS_MAX = 80


class Section(BaseModel):
    """Base of every section: frozen, and nothing misspelled gets in."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


class JulieSection(Section):
    """What all processes share."""

    env: str = Field(
        "sim", pattern=r"^[a-z0-9]{1,4}$", description="Short name of this installation; part of order ids."
    )
    data_dir: Path = Field(
        Path("data"), description="Folder for the ledger, archives and the embedded server."
    )
    account_id: int = Field(1001, gt=0, description="The broker's account id that is traded.")
    symbols: tuple[str, ...] = Field(
        ("MES", "MNQ"), min_length=1, description="Exchange tickers, such as MES."
    )
    market_clock: Literal["system", "venue"] = Field(
        "system",
        description="`system`: market time is this machine's. `venue`: taken from the venue's own timestamps "
        "(simulator, replay).",
    )
    market_speed: float = Field(
        1.0, gt=0, le=10_000, description="Market seconds per second; 1 but for the simulator."
    )
    beat_interval_s: float = Field(
        0.5, ge=0.1, le=5, description="How often each process publishes its progress."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("symbols")
    @classmethod
    def _tickers(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        for symbol in symbols:
            if not (symbol.isascii() and symbol.isalnum() and symbol.isupper()):
                raise ValueError(f"{symbol!r} is not an exchange ticker; write MES, MNQ, ES, 6E ...")
        if len(set(symbols)) != len(symbols):
            raise ValueError("a symbol is listed twice")
        return symbols


class RedisSection(Section):
    """Where the bus is."""

    url: str | None = Field(
        None, description="unix:///path or redis://host:port/0; unset: the embedded server of `julie up`."
    )
    username: str | None = Field(None, description="ACL user; None for the default user.")
    password_file: Path | None = Field(None, description="File with the password; None for no password.")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str | None) -> str | None:
        if url is not None:
            Address.from_url(url)
        return url

    def address(self, data_dir: Path) -> Address:
        """Return the address with its password.

        Args:
            data_dir: Of the installation, where the embedded server lives.

        Raises:
            SettingsRefused: If the password file cannot be read.
        """
        password = None
        if self.password_file is not None:
            password = read_secret("redis.password_file", self.password_file).reveal()
        url = self.url or f"unix://{run_dir(data_dir) / 'redis.sock'}"
        return Address.from_url(url, password=password, username=self.username)


class BrokerSection(Section):
    """The gateway and who we are there."""

    rest_url: str = Field("http://127.0.0.1:8700", pattern=r"^https?://", description="Base of the REST API.")
    hub_url: str = Field(
        "http://127.0.0.1:8700/hubs",
        pattern=r"^(https?|wss?)://",
        description="Base of the hubs; /market and /user follow.",
    )
    user_name: str = Field("demo", min_length=1, description="Platform login (not the e-mail address).")
    api_key_file: Path | None = Field(
        None, description="File with the API key; None only with the simulator, whose key is public."
    )
    live_data: bool = Field(
        False, description="Use the live data subscription; practice accounts need false."
    )
    stop_limit_orders: bool = Field(
        False, description="The gateway takes stop-limit orders; its documentation does not list them."
    )
    requests_max_per_60s: int = Field(
        190, ge=10, le=200, description="Shared by all processes; the gateway allows 200."
    )
    requests_reserved: int = Field(30, ge=5, le=100, description="Kept for cancel and flatten.")
    requests_for_blind: int = Field(
        20, ge=0, le=100, description="Kept for who must look at the account first: at a start, out of sync."
    )
    history_requests_max_per_30s: int = Field(45, ge=1, le=50, description="The gateway allows 50.")

    @model_validator(mode="after")
    def _room_for_others(self) -> BrokerSection:
        if self.requests_reserved + self.requests_for_blind >= self.requests_max_per_60s:
            raise ValueError(
                "requests_reserved and requests_for_blind together must be below requests_max_per_60s, "
                "or nothing else may be asked"
            )
        return self

    def api_key(self) -> Secret:
        """Return the API key.

        Raises:
            SettingsRefused: If its file cannot be read.
        """
        if self.api_key_file is None:
            return Secret("demo-key")
        return read_secret("broker.api_key_file", self.api_key_file)


class SettingsRefused(ValueError):
    """Everything that is wrong with the settings, together."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__(source, problems)
        self.source, self.problems = source, problems

    def __str__(self) -> str:
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} problem(s) in the settings ({self.source}):\n{lines}"


SectionT = TypeVar("SectionT", bound=BaseModel)


class Settings:
    """The raw settings of an installation; `section` gives checked parts of it."""

    def __init__(self, raw: dict[str, dict[str, Any]], source: str, problems: list[str]) -> None:
        self._raw = raw
        self.source = source
        self._problems = problems

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read file and environment. Problems are kept until `check` or `sections`."""
        path = Path(environ.get("JULIE_CONFIG", DEFAULT_FILE))
        problems: list[str] = []
        raw: dict[str, Any] = {}
        if path.exists():
            try:
                raw = tomllib.loads(path.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
                problems.append(f"{path} is not valid TOML: {error}")
        elif "JULIE_CONFIG" in environ:
            problems.append(f"{path}: no such file; set JULIE_CONFIG to the settings file")
        for name in [n for n, value in raw.items() if n not in SECTIONS or not isinstance(value, dict)]:
            problems.append(f"[{name}]: no such section{_did_you_mean(name, SECTIONS)}")
            del raw[name]
        for name, value in sorted(environ.items()):
            _apply_variable(name, value, raw, problems)
        return cls(raw, str(path), problems)

    def sections(self, **models: type[BaseModel]) -> dict[str, BaseModel]:
        """Return the checked sections.

        Raises:
            SettingsRefused: With every problem of all asked sections, and of file and environment.
        """
        problems = list(self._problems)
        checked: dict[str, BaseModel] = {}
        for name, model in models.items():
            try:
                checked[name] = model.model_validate(self._raw.get(name, {}))
            except ValidationError as error:
                problems += [_problem(name, model, item) for item in error.errors(include_input=False)]
        if problems:
            raise SettingsRefused(self.source, problems)
        return checked

    def section(self, name: str, model: type[SectionT]) -> SectionT:
        """Return one checked section."""
        section = self.sections(**{name: model})[name]
        assert isinstance(section, model)
        return section

    def fingerprint(self) -> str:
        """Return a short hash of all settings (they hold paths of secrets, never secrets)."""
        text = json.dumps(self._raw, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def shared_settings_hash(julie: JulieSection, broker: BrokerSection) -> str:
    """Return a short hash of what all processes must agree on.

    Sections that one service reads are that service's own, and so are the places of files.
    """
    common = {
        "julie": julie.model_dump(mode="json", exclude={"data_dir", "log_level", "beat_interval_s"}),
        "broker": broker.model_dump(mode="json", exclude={"api_key_file"}),
    }
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:12]


def read_secret(setting: str, path: Path) -> Secret:
    """Raises: SettingsRefused: If the file cannot be read or is empty."""
    try:
        secret = Secret.from_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused(setting, [f"{setting}: cannot read {path}: {error}"]) from None
    if not secret.reveal():
        raise SettingsRefused(setting, [f"{setting}: {path} is empty; put the secret into it"])
    return secret


def run_dir(data_dir: Path) -> Path:
    """Return the folder of sockets and pid files of an installation.

    Socket paths have a limit of about 100 characters; a long data folder gets a short stand-in, always the
    same for the same folder.
    """
    folder = data_dir.absolute() / "run"
    if len(str(folder)) <= SOCKET_FOLDER_CHARS_MAX:
        return folder
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"julie-{os.getuid()}-{digest}"


def halt_flag(data_dir: Path) -> Path:
    """Return the file whose presence halts trading, also when nothing else can be reached."""
    return data_dir / "halt"


def check_strategy_id(value: str) -> str:
    """Raises: ValueError: If `value` may not stand in keys, tags and process names."""
    if not STRATEGY_ID_PATTERN.fullmatch(value):
        raise ValueError(f"{value!r}: use a-z, 0-9, - and _, at most 32 characters")
    return value


def _apply_variable(name: str, value: str, raw: dict[str, Any], problems: list[str]) -> None:
    if not name.startswith("JULIE_") or "__" not in name:
        return
    section, _, field = name.removeprefix("JULIE_").lower().partition("__")
    if section not in SECTIONS:
        problems.append(f"{name}: no section [{section}]{_did_you_mean(section, SECTIONS)}")
        return
    try:
        parsed = json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        parsed = value
    raw.setdefault(section, {})[field] = parsed


def _problem(section: str, model: type[BaseModel], item: Any) -> str:
    where = ".".join([section, *(str(part) for part in item["loc"])])
    if item["type"] == "extra_forbidden":
        return f"{where}: no such setting{_did_you_mean(str(item['loc'][-1]), tuple(model.model_fields))}"
    field = model.model_fields.get(str(item["loc"][0])) if item["loc"] else None
    hint = f" ({field.description})" if field is not None and field.description else ""
    return f"{where}: {item['msg']}{hint}"


def _did_you_mean(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
