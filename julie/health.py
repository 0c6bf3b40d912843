"""`python -m julie.health NAME`: is the process of this container doing its work? For healthchecks.

Heartbeat judges everybody by progress; this reads its verdict. That alone would not do: the verdict on
`feed` may be about another container's, and when heartbeat is silent there is none. So the beat must come
from this very host, and without heartbeat the process is judged by its own beat, by the same rule: one dead
judge does not make everybody sick, and nobody restarts execution for it.

It runs every few seconds in every container, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from typing import Any

from shared.bus.peek import PeekFailed, peek

BEAT_KEY = "beat:"
VERDICT_KEY = "session:state"
VERDICT_FIELD = "process:"
"""As in `shared.wire.topics` and heartbeat's board, whose imports cost more than all of this; a test
compares."""

JUDGE = "heartbeat"
HOSTS = "strategy"
SILENT_AFTER_S = 3.0
"""Heartbeat's own limit (`heartbeat.dead_after_s`)."""
OVERDUE_FACTOR = 2.5
WORKS = frozenset({"alive", "late"})
NS_PER_S = 1e9
ANSWER_WITHIN_S = 1.5
SECOND_LOOK_AFTER_S = 1.5
"""One slow moment is no alarm, and looking twice only when it matters is cheaper than looking often."""
_URL = re.compile(r"redis://([\w.-]+)(?::(\d+))?(?:/(\d+))?/?")

Beat = dict[str, Any]


def name_of(process: str, host: str) -> str:
    """Return the name in beats: strategy hosts carry the name of their machine, or `JULIE_PROCESS`."""
    if process != HOSTS:
        return process
    own = os.environ.get("JULIE_PROCESS") or host
    return own if own.startswith(f"{HOSTS}@") else f"{HOSTS}@{own}"


def judge(
    name: str, host: str, beat: Beat | None, verdict: Beat | None, judges_beat: Beat | None, now_ns: int
) -> tuple[bool, str]:
    """Return whether `name` does its work on `host`, and why."""
    if beat is None:
        return False, f"{name}: has not sent a beat yet"
    if beat["host"] != host:
        return False, f"{name}: its beats come from {beat['host']}, and this is {host}"
    if not beat.get("ready"):
        return False, f"{name}: is there, but not ready"
    judged = judges_beat is not None and _age_s(judges_beat["ts_ns"], now_ns) < SILENT_AFTER_S
    if judged and name != JUDGE:
        if verdict is None:
            return False, f"{name}: heartbeat has no verdict yet"
        well = verdict["health"] in WORKS
        return well, f"{name}: {verdict['health']} {verdict['reason']}".rstrip()
    idle = _standstill(beat, now_ns)
    if idle:
        return False, f"{name}: {idle}"
    return True, f"{name}: works" + ("" if name == JUDGE else "; heartbeat is silent, judged by its own beat")


def _standstill(beat: Beat, now_ns: int) -> str:
    """Return what stands still, empty when nothing does."""
    silence_s = _age_s(beat["ts_ns"], now_ns)
    if silence_s >= SILENT_AFTER_S:
        return f"silent for {silence_s:.1f} s"
    for duty, progress in beat.get("duties", {}).items():
        interval_s, done_ns = progress.get("interval_s", 0.0), progress.get("ts_done_ns", 0)
        limit_s = max(SILENT_AFTER_S, OVERDUE_FACTOR * interval_s)
        if interval_s and done_ns and _age_s(done_ns, now_ns) > limit_s:
            return f"{duty} is overdue: last done {_age_s(done_ns, now_ns):.1f} s ago"
    return ""


def _age_s(ts_ns: int, now_ns: int) -> float:
    return (now_ns - ts_ns) / NS_PER_S


def check(process: str, where: dict[str, Any]) -> tuple[bool, str]:
    """Ask Redis and judge.

    Args:
        process: `feed`, `strategy` ...
        where: Keyword arguments of `peek`: host, port, db, username, password.
    """
    host = socket.gethostname()
    name = name_of(process, host)
    asked = [
        ("GET", BEAT_KEY + name),
        ("HGET", VERDICT_KEY, VERDICT_FIELD + name),
        ("GET", BEAT_KEY + JUDGE),
    ]
    try:
        found = peek(asked, within_s=ANSWER_WITHIN_S, **where)
        beat, verdict, judges_beat = (json.loads(value) if value else None for value in found)
        return judge(name, host, beat, verdict, judges_beat, time.time_ns())
    except PeekFailed as failed:
        return False, f"{name}: {failed}"
    except (ValueError, KeyError, TypeError) as error:
        return False, f"{name}: cannot read what is on the bus ({error!r}); run one build everywhere"


def address() -> dict[str, Any]:
    """Return where Redis is: from the environment, as containers have it, or else from all settings.

    Raises:
        SettingsRefused: If they cannot be used.
    """
    url = _URL.fullmatch(os.environ.get("JULIE_REDIS__URL", ""))
    if url is None:
        from julie.installation import Installation  # costs half a second

        found = Installation.find().address
        return {
            "unix_path": found.unix_path, "host": found.host, "port": found.port, "db": found.db,
            "username": found.username, "password": found.password,
        }  # fmt: skip
    password = None
    path = os.environ.get("JULIE_REDIS__PASSWORD_FILE")
    if path:
        with open(path, encoding="utf-8") as file:
            password = file.read().strip()
    return {
        "host": url[1],
        "port": int(url[2] or 6379),
        "db": int(url[3] or 0),
        "username": os.environ.get("JULIE_REDIS__USERNAME"),
        "password": password,
    }


def main() -> None:
    process, where = sys.argv[1], address()
    well, text = check(process, where)
    if not well:
        time.sleep(SECOND_LOOK_AFTER_S)
        well, text = check(process, where)
    print(text)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
