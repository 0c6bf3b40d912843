"""`julie doctor`: look at everything that must hold before trading, and say what to do about the rest."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from rich.console import Console
from rich.markup import escape

from julie.installation import Installation, SettingsRefused, check_settings
from shared.broker.errors import BrokerQueryFailed
from shared.broker.limiter import LocalLimiter
from shared.broker.port import Credentials, LoggedIn, LoginRefused
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.bus.port import BusAway, BusRefused
from shared.runtime.clock import SystemClock
from shared.runtime.secret import redact

CLOCK_OFFSET_MAX_S = 2.0
"""Beyond this the broker's times and ours cannot be compared."""

DISK_FREE_MIN_GB = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line. `remedy` is empty when all is well."""

    what: str
    good: bool
    found: str
    remedy: str = ""


async def doctor(console: Console) -> int:
    """Print every finding. Returns 0 when all are good."""
    try:
        check_settings()
        installation = Installation.find()
    except SettingsRefused as refused:
        _show(
            console,
            Finding(
                what="settings", good=False, found=str(refused), remedy="correct the settings named above"
            ),
        )
        return 1
    findings = [
        Finding(what="settings", good=True, found=f"{installation.settings.source}: every section is valid"),
        _python(),
        _disk(installation),
        _credentials(installation),
    ]
    checks: list[Callable[[Installation], Awaitable[list[Finding]]]] = [_bus, _broker]
    for check in checks:
        findings += await check(installation)
    for finding in findings:
        _show(console, finding)
    return 0 if all(finding.good for finding in findings) else 1


def _show(console: Console, finding: Finding) -> None:
    mark = "[green]good[/green]" if finding.good else "[red]bad [/red]"
    console.print(
        f"{mark}  {finding.what:<12} {escape(redact(finding.found))}", highlight=False, soft_wrap=True
    )
    if finding.remedy:
        console.print(f"      {'':<12} do: {escape(finding.remedy)}", highlight=False, soft_wrap=True)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    return Finding(
        what="python", good=good, found=version, remedy="" if good else "install Python 3.11 or newer"
    )


def _disk(installation: Installation) -> Finding:
    folder = installation.julie.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    good = free_gb >= DISK_FREE_MIN_GB
    return Finding(
        what="disk",
        good=good,
        found=f"{free_gb:.1f} GB free for {installation.julie.data_dir}",
        remedy="" if good else "free some space: a full disk halts trading",
    )


def _credentials(installation: Installation) -> Finding:
    broker = installation.broker
    try:
        broker.api_key()
    except SettingsRefused as refused:
        return Finding(
            what="credentials",
            good=False,
            found="; ".join(refused.problems),
            remedy="write the API key into that file, readable by this user alone (chmod 600)",
        )
    if broker.api_key_file is None:
        found = f"user {broker.user_name}, the simulator's public key"
        return Finding(what="credentials", good=True, found=found)
    mode = broker.api_key_file.stat().st_mode & 0o077
    return Finding(
        what="credentials",
        good=not mode,
        found=f"user {broker.user_name}, key from {broker.api_key_file}",
        remedy=f"chmod 600 {broker.api_key_file}: others can read it" if mode else "",
    )


async def _bus(installation: Installation) -> list[Finding]:
    bus = installation.bus()
    cli = installation.address.cli()
    try:
        await bus.ready()
        started = time.perf_counter()
        await bus.set("doctor:probe", b"1", expire_s=5)
        took_ms = (time.perf_counter() - started) * 1e3
        info = await bus.info()
    except (BusAway, BusRefused) as error:
        remedy = "start it (`julie up` starts the embedded one), or correct redis.url and redis.password_file"
        return [Finding(what="bus", good=False, found=str(error), remedy=remedy)]
    finally:
        await bus.close()
    version = info.get("valkey_version", info.get("redis_version", "?"))
    durable = info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") == "ok"
    return [
        Finding(what="bus", good=True, found=f"{cli}: version {version}, a write took {took_ms:.2f} ms"),
        Finding(
            what="durability",
            good=durable,
            found="append-only file is on" if durable else "append-only file is off or failing",
            remedy="" if durable else "set appendonly yes and look at the server's disk",
        ),
    ]


async def _broker(installation: Installation) -> list[Finding]:
    broker, clock = installation.broker, SystemClock()
    try:
        key = broker.api_key()
    except SettingsRefused:
        return [Finding(what="broker", good=False, found="not tried without credentials", remedy="see above")]
    adapter = ProjectX(
        settings=ProjectXSettings(api_url=broker.rest_url, hub_url=broker.hub_url, live=broker.live_data),
        clock=clock,
        limiter=LocalLimiter(clock=clock),
        token=lambda: None,
        chance=random.Random(0).random,
    )
    try:
        credentials = Credentials(user_name=broker.user_name, api_key=key.reveal())
        answer = await adapter.session(credentials).login()
        return _login_findings(installation, answer, adapter.venue_now_ns())
    except (BrokerQueryFailed, aiohttp.ClientError) as error:
        remedy = f"is {broker.rest_url} right, and up? The simulator runs under `julie up`"
        return [Finding(what="broker", good=False, found=str(error), remedy=remedy)]
    finally:
        await adapter.close()


def _login_findings(
    installation: Installation, answer: LoggedIn | LoginRefused, venue_now_ns: int | None
) -> list[Finding]:
    url = installation.broker.rest_url
    if isinstance(answer, LoginRefused):
        return [Finding(what="broker", good=False, found=f"{url}: {answer.sentence}", remedy=answer.remedy)]
    findings = [Finding(what="broker", good=True, found=f"{url}: login accepted")]
    if venue_now_ns is None:
        found = "the broker's answers carry no Date"
        return [
            *findings,
            Finding(what="clock", good=False, found=found, remedy="compare the clocks by hand"),
        ]
    offset_s = (venue_now_ns - time.time_ns()) / 1e9
    if installation.julie.market_clock == "venue":
        return [
            *findings,
            Finding(what="clock", good=True, found="market time is the venue's (simulator, replay)"),
        ]
    good = abs(offset_s) <= CLOCK_OFFSET_MAX_S
    return [
        *findings,
        Finding(
            what="clock",
            good=good,
            found=f"{offset_s:+.1f} s against the broker (its Date has whole seconds)",
            remedy="" if good else "synchronize this machine's clock (NTP); trading stays reduced beyond 2 s",
        ),
    ]
