"""The installation under test: one folder, one settings file for all, secrets that must not be seen again."""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.bus.client import Address
from shared.runtime.embedded import server_binary

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT_ID = 1001
SYMBOLS = ("MES", "MNQ")
USER = "demo"
POSITION_MAX = 3
"""What two strategies in one symbol reach together; one order that is not counted would go beyond it."""
QTYS = (1, 1, 2, 2)
"""Of each instance. Two contracts can be filled in part."""
INSTANCES = ("c1", "c2", "c3", "c4")
KEEP_S = 3_600.0
"""How long archived entries of the market and of journals stay in Redis."""

SETTINGS: dict[str, dict[str, Any]] = {
    "julie": {"market_clock": "venue", "market_speed": 10.0, "account_id": ACCOUNT_ID},
    "heartbeat": {"start_grace_s": 30.0, "resume_after_s": 0.5},
    "feed": {"sessions": "always", "backfill_bars": 10},
    "broker_sync": {"reconcile_interval_s": 30.0, "history_hours": 1.0},
    "strategy": {"failures_max": 100, "warmup_s": 120.0},
    "execution": {"quarantine_s": 20.0, "settle_after_s": 45.0},
    "guard": {"accounts": [{"id": ACCOUNT_ID, "profile": "none"}]},
    "recorder": {"flush_interval_s": 5.0},
    "simulator": {"control": True, "token_ttl_s": 300},
}
"""What differs from the defaults. Quarantine and rest are short so that a run sees their ends."""

RISK = {
    "position_max": POSITION_MAX,
    "daily_loss_max": 1_000_000,
    "open_loss_max": 1_000_000,
    "messages_per_min_max": 500,
    "intents_max": 100,
    "sessions": "always",
    "entries_max": 300,
    "flips_max": 300,
    "exits_per_min_max": 60,
    "rejects_max": 50,
    "denials_max": 200,
}
"""Wide enough that the workload trades on through minutes of faults; a runaway still meets them."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Installation:
    """Files and addresses.

    Attributes:
        keep_s: How long archived entries of the market and of journals stay in Redis.
        market_speed: How many seconds of the venue pass in one.
        redis_socket: Where the services connect: the door. `redis_real` is the server behind it.
        secrets: What must be found nowhere but in its own file.
    """

    def __init__(self, *, every_s: int, seed: int, load: float = 1.0, keep_s: float = KEEP_S) -> None:
        self.keep_s = keep_s
        self.market_speed = SETTINGS["julie"]["market_speed"] * load
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.data = self.folder / "data"
        self.logs = self.folder / "logs"
        self.redis_folder = self.folder / "redis"
        for one in (self.data, self.logs, self.redis_folder):
            one.mkdir()
        self.redis_socket = self.folder / "redis.sock"
        self.redis_real = self.folder / "real.sock"
        self.broker_port = free_port()
        self.simulator_port = free_port()
        self.mark = self.folder / "mark"
        self.rogue = self.folder / "rogue"
        self.rogue.write_text("")
        self.timeline = self.folder / "timeline.jsonl"
        self.ledger = self.data / f"execution-{ACCOUNT_ID}.sqlite"
        self.venue_database = self.data / "simulator.sqlite"
        self.secrets = {name: f"canary-{name}-{secrets.token_hex(12)}" for name in ("api-key", "redis")}
        for name, value in self.secrets.items():
            path = self.folder / f"secret-{name}"
            path.write_text(value)
            path.chmod(0o600)
        self.settings = self.folder / "julie.toml"
        self.settings.write_text(_toml(self._settings(every_s, seed, load)))
        self.redis_config = self.folder / "redis.conf"
        self._write_redis_config()

    @property
    def address(self) -> Address:
        """The server itself, past the door: for the harness only."""
        return Address(unix_path=str(self.redis_real), password=self.secrets["redis"])

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("JULIE_")}
        own |= {
            "JULIE_CONFIG": str(self.settings),
            "JULIE_PROCESS": "strategy@chaos",
            "JULIE_MARK": f"@{self.mark}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        return own | dict(extra or {})

    def redis_command(self) -> list[str]:
        return [server_binary(), str(self.redis_config)]

    def _write_redis_config(self) -> None:
        lines = {
            "port": "0",
            "unixsocket": str(self.redis_real),
            "dir": str(self.redis_folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "enable-debug-command": "yes",
            "requirepass": self.secrets["redis"],
        }
        self.redis_config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self.redis_config.chmod(0o600)

    def _settings(self, every_s: int, seed: int, load: float) -> dict[str, dict[str, Any]]:
        found = {name: dict(section) for name, section in SETTINGS.items()}
        found["julie"]["market_speed"] = self.market_speed
        found["recorder"]["keep_s"] = self.keep_s
        found["julie"] |= {"data_dir": str(self.data), "symbols": list(SYMBOLS)}
        found["redis"] = {
            "url": f"unix://{self.redis_socket}",
            "password_file": str(self.folder / "secret-redis"),
        }
        url = f"http://127.0.0.1:{self.broker_port}"
        found["broker"] = {
            "rest_url": url,
            "hub_url": f"{url}/hubs",
            "user_name": USER,
            "api_key_file": str(self.folder / "secret-api-key"),
        }
        found["simulator"] |= {
            "port": self.simulator_port,
            "seed": seed,
            "users": [{"name": USER, "api_key": self.secrets["api-key"]}],
        }
        found["execution"]["risk"] = RISK
        found["strategy"]["instances"] = [
            {
                "id": name,
                "class": "proof.chaos.strategies:Churn",
                "symbols": [SYMBOLS[n % len(SYMBOLS)]],
                "settings": {"every_s": every_s + 3 * n, "qty": QTYS[n]},
            }
            for n, name in enumerate(INSTANCES)
        ]
        rogue = {
            "id": "rogue",
            "class": "proof.chaos.strategies:Rogue",
            "symbols": ["MES"],
            "settings": {"file": str(self.rogue)},
        }
        found["strategy"]["instances"].append(rogue)
        return found


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for name, section in sections.items():
        parts.append(f"[{name}]")
        parts += [f"{key} = {_value(value)}" for key, value in section.items()]
    return "\n".join(parts) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value)


class Happening(msgspec.Struct, kw_only=True):
    """One line of the timeline."""

    t_s: float
    ts_ns: int
    what: str
    detail: dict[str, Any] = {}
