"""`julie status`: what every process did last, and what heartbeat thinks of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from julie.installation import Installation
from shared.bus.bus import RedisBus
from shared.bus.port import BusAway, BusRefused
from shared.domain.control import Beat, ProcessHealth, ProcessJudged, SessionState
from shared.domain.execution import TradingStateChanged
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

NS_PER_S = 1e9
HEARTBEAT_SILENT_S = 3.0
"""Beyond this nobody judges any more, so every verdict is void."""


async def read_beats(bus: RedisBus) -> list[Beat]:
    """Return the latest beat of every process; unreadable ones are left out."""
    beats: list[Beat] = []
    for key in await bus.keys(topics.beat("*")):
        value = await bus.get(key)
        try:
            message = decode(b"beat", value) if value else None
        except MessageRefused:
            continue
        if isinstance(message, Beat):
            beats.append(message)
    return beats


async def read_verdicts(bus: RedisBus) -> tuple[SessionState | None, dict[str, ProcessJudged]]:
    """Return the session and heartbeat's verdict on every process, as far as they are readable."""
    session: SessionState | None = None
    verdicts: dict[str, ProcessJudged] = {}
    for name, value in (await bus.hash_get(topics.SESSION_STATE)).items():
        try:
            if name == STATE_FIELD:
                message = decode(b"session_state", value)
                session = message if isinstance(message, SessionState) else None
            elif name.startswith("process:"):
                judged = decode(b"process_judged", value)
                if isinstance(judged, ProcessJudged):
                    verdicts[judged.process] = judged
        except MessageRefused:
            continue
    return session, verdicts


async def collect(installation: Installation) -> dict[str, Any]:
    """Return everything `julie status --json` prints. Times are ages in seconds.

    Raises:
        BusAway, BusRefused: If the bus cannot be asked.
    """
    bus = installation.bus()
    account_id = installation.julie.account_id
    try:
        await bus.ready()
        now_ns = time.time_ns()
        beats = await read_beats(bus)
        session, verdicts = await read_verdicts(bus)
        account = await bus.hash_get(topics.account(account_id))
        trading = await _trading_state(bus, account_id)
    finally:
        await bus.close()
    judge = next((b for b in beats if b.process == "heartbeat"), None)
    judged = judge is not None and _age_s(judge.ts_ns, now_ns) < HEARTBEAT_SILENT_S
    return {
        "bus": {
            "answers": True,
            "redis_cli": installation.address.cli(),
            "unix_path": installation.address.unix_path,
        },
        "session": _session(session, now_ns),
        "trading": trading,
        "judged": judged,
        "processes": [
            _process(beat, verdicts.get(beat.process), judged, now_ns)
            for beat in sorted(beats, key=lambda beat: beat.process)
        ],
        "account": {name: _json(value) for name, value in sorted(account.items())},
    }


async def _trading_state(bus: RedisBus, account_id: int) -> dict[str, Any]:
    """Find the newest trading state; execution states it at every start, so it is near the end."""
    stream = topics.orders(account_id)
    newest = "+"
    for _ in range(20):
        rows = await bus.between_newest(stream, newest, 500)
        for entry in rows:
            if entry.kind == b"trading_state":
                message = decode(entry.kind, entry.value)
                assert isinstance(message, TradingStateChanged)
                return {
                    "state": str(message.state),
                    "halts": {str(kind): why for kind, why in message.halts.items()},
                    "latched": message.latched,
                }
        if not rows:
            break
        newest = "(" + rows[-1].id.decode()
    return {"state": "unknown", "halts": {}, "latched": {}}


def _session(session: SessionState | None, now_ns: int) -> dict[str, Any]:
    if session is None:
        return {"health": "unknown", "reason": "heartbeat has not published a session yet"}
    validated = _age_s(session.ts_validated_ns, now_ns) if session.ts_validated_ns else None
    return {
        "health": str(session.health),
        "reason": session.reason,
        "validated_age_s": validated,
        "token_expires_in_s": round((session.token_expires_at_ns - now_ns) / NS_PER_S, 1),
    }


def _process(beat: Beat, verdict: ProcessJudged | None, judged: bool, now_ns: int) -> dict[str, Any]:
    is_judge = beat.process == "heartbeat"
    health = str(verdict.health) if verdict is not None and judged else "unknown"
    if is_judge:
        health = str(ProcessHealth.ALIVE if judged else ProcessHealth.DEAD)
    return {
        "process": beat.process,
        "pid": beat.pid,
        "host": beat.host,
        "health": health,
        "why": verdict.reason if verdict is not None and judged else "",
        "ready": beat.ready,
        "beat_age_s": _age_s(beat.ts_ns, now_ns),
        "started_at_ns": beat.started_at_ns,
        "up_s": _age_s(beat.started_at_ns, now_ns),
        "build": beat.build,
        "lag": beat.lag,
        "detail": beat.detail,
        "duties": {
            name: {
                "interval_s": duty.interval_s,
                "done": duty.done,
                "progress_age_s": _age_s(duty.ts_done_ns, now_ns) if duty.ts_done_ns else None,
                "lateness_ms_p99": duty.lateness_ms_p99,
                "lateness_ms_max": duty.lateness_ms_max,
            }
            for name, duty in beat.duties.items()
        },
    }


def _age_s(ts_ns: int, now_ns: int) -> float:
    return round((now_ns - ts_ns) / NS_PER_S, 2)


def _json(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value.decode("utf-8", "replace")


_HEALTH_COLORS = {"alive": "green", "late": "yellow", "dead": "red", "starting": "cyan"}


def show(found: dict[str, Any], console: Console) -> None:
    """Print the status as tables; details of each process go below it on a narrow terminal."""
    session, trading = found["session"], found["trading"]
    console.print(f"session  [bold]{session['health']}[/bold]  {escape(session['reason'])}")
    halts = "; ".join(f"{kind}: {reason}" for kind, reason in trading["halts"].items())
    console.print(f"trading  [bold]{trading['state']}[/bold]  {escape(halts)}")
    for name, why in trading["latched"].items():
        console.print(f"strategy [bold]{escape(name)}[/bold]  latched off  {escape(why)}")
    if not found["judged"]:
        console.print("[red]heartbeat is silent: nobody judges, so every health below is unknown[/red]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("process", "pid", "health", "did, s ago", "late p99/max ms", "behind"):
        table.add_column(title, no_wrap=title in {"process", "pid", "health"})
    for process in found["processes"]:
        color = _HEALTH_COLORS.get(process["health"], "white")
        table.add_row(
            f"[bold]{process['process']}[/bold]",
            str(process["pid"]),
            f"[{color}]{process['health']}[/{color}]",
            _progress(process),
            _lateness(process),
            _behind(process),
        )
    console.print(table)
    for process in found["processes"]:
        _show_detail(process, console)
    _show_account(found["account"], console)
    console.print(
        f"[dim]{'bus':<22}[/dim] {escape(found['bus']['redis_cli'])}", highlight=False, soft_wrap=True
    )


def _show_detail(process: dict[str, Any], console: Console) -> None:
    facts = [f"{key}: {value}" for key, value in process["detail"].items()]
    if process["health"] != "alive" and process["why"]:
        facts.insert(0, process["why"])
    if facts:
        line = escape(" · ".join(facts))
        console.print(f"[dim]{process['process']:<22}[/dim] {line}", highlight=False, soft_wrap=True)


def _show_account(account: dict[str, Any], console: Console) -> None:
    for name, value in account.items():
        for line in value if isinstance(value, list) else [value]:
            shown = _words(line) if isinstance(line, dict) else str(line)
            if shown:
                console.print(f"[dim]{name:<22}[/dim] {escape(shown)}", highlight=False, soft_wrap=True)


def _words(fields: dict[str, Any]) -> str:
    """Return what a person reads of it: no message type, no nanoseconds, nothing that is not there."""
    quiet = {k: v for k, v in fields.items() if k != "type" and not k.endswith("_ns") and v not in (None, "")}
    return " ".join(f"{k}={v}" for k, v in quiet.items())


def _progress(process: dict[str, Any]) -> str:
    parts = []
    for name, duty in process["duties"].items():
        age = duty["progress_age_s"]
        parts.append(f"{name} {age:.1f}" if age is not None else f"{name} never")
    return ", ".join(parts) or f"beat {process['beat_age_s']:.1f}"


def _lateness(process: dict[str, Any]) -> str:
    timed = [d for d in process["duties"].values() if d["interval_s"]]
    if not timed:
        return "-"
    return f"{max(d['lateness_ms_p99'] for d in timed):.1f}/{max(d['lateness_ms_max'] for d in timed):.1f}"


def _behind(process: dict[str, Any]) -> str:
    """Sum what waits: one number says whether it is much, `--json` has every stream."""
    waiting = {key: n for key, n in process["lag"].items() if n}
    if len(waiting) > 1:
        return f"{sum(waiting.values()):,} in {len(waiting)} streams"
    return " ".join(f"{n:,} in {key}" for key, n in waiting.items()) or "-"


async def status(installation: Installation, console: Console, *, as_json: bool) -> int:
    """Print the status. Returns 0 when all is well, 1 when something is not."""
    try:
        found = await collect(installation)
    except (BusAway, BusRefused) as error:
        if as_json:
            print(msgspec.json.encode({"bus": {"answers": False, "why": str(error)}}).decode())
        else:
            console.print(
                f"[red]{escape(str(error))}[/red]\nis it up? `julie up`; `julie doctor` looks closer"
            )
        return 1
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found, console)
    bad = [p for p in found["processes"] if p["health"] in {"dead", "late", "unknown"}]
    return 1 if bad or found["session"]["health"] != "active" else 0
