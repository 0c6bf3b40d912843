"""The tables of `julie status`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from julie.status import _process, _session, show
from shared.domain.control import Beat, Duty, ProcessHealth, ProcessJudged, SessionHealth, SessionState

NOW_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def beat(process: str, *, age_s: float = 0.2, lag: dict[str, int] | None = None) -> Beat:
    return Beat(
        process=process, pid=123, host="h", build="b", started_at_ns=NOW_NS - 60 * SECOND_NS,
        ts_ns=NOW_NS - round(age_s * 1e9), seq=1, ready=True, lag=lag or {}, detail={"sync": "in_sync"},
        duties={
            "reconcile": Duty(interval_s=30, done=2, ts_done_ns=NOW_NS - 7 * SECOND_NS,
                              lateness_ms_p99=3.25, lateness_ms_max=18),
            "watch": Duty(interval_s=1),
        },
    )  # fmt: skip


def verdict(health: ProcessHealth, reason: str) -> ProcessJudged:
    return ProcessJudged(process="broker_sync", health=health, silence_ns=0, reason=reason, ts_ns=NOW_NS)


def shown(*processes: dict[str, Any], judged: bool = True, width: int = 120, **changed: Any) -> str:
    found = {
        "bus": {"answers": True, "redis_cli": "redis-cli -s /x/redis.sock", "unix_path": "/x/redis.sock"},
        "session": {"health": "active", "reason": "validated"},
        "trading": {"state": "reducing", "halts": {"liveness": "feed silent for 3 s"}, "latched": {}},
        "judged": judged,
        "processes": list(processes),
        "account": {},
        **changed,
    }
    console = Console(file=io.StringIO(), width=width)
    show(found, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_process_is_what_it_did_and_what_heartbeat_thinks() -> None:
    found = _process(beat("broker_sync"), verdict(ProcessHealth.ALIVE, "beats"), True, NOW_NS)
    assert (found["health"], found["pid"], found["beat_age_s"], found["up_s"]) == ("alive", 123, 0.2, 60.0)
    assert found["duties"]["reconcile"]["progress_age_s"] == 7.0
    assert found["duties"]["watch"]["progress_age_s"] is None
    text = shown(found)
    assert "broker_sync  123  alive   reconcile 7.0, watch never  3.2/18.0" in text
    assert "liveness: feed silent for 3 s" in text
    assert "redis-cli -s /x/redis.sock" in text


def test_without_a_judge_every_verdict_is_void() -> None:
    found = _process(beat("broker_sync"), verdict(ProcessHealth.ALIVE, "beats"), False, NOW_NS)
    assert (found["health"], found["why"]) == ("unknown", "")
    judge = _process(beat("heartbeat", age_s=9), None, False, NOW_NS)
    assert judge["health"] == "dead"
    assert "nobody judges" in shown(found, judge, judged=False)


def test_why_a_process_is_not_well_comes_first() -> None:
    found = _process(beat("broker_sync"), verdict(ProcessHealth.DEAD, "silent for 3 s"), True, NOW_NS)
    assert "silent for 3 s · sync: in_sync" in shown(found)


@pytest.mark.parametrize(
    ("lag", "behind"),
    [({}, "-"), ({"md:{MES}": 0}, "-"), ({"md:{MES}": 1200}, "1,200 in md:{MES}"),
     ({"a": 1000, "b": 5, "c": 0}, "1,005 in 2 streams")],
)  # fmt: skip
def test_behind_is_one_number(lag: dict[str, int], behind: str) -> None:
    found = _process(beat("recorder", lag=lag), verdict(ProcessHealth.ALIVE, ""), True, NOW_NS)
    (row,) = [line for line in shown(found).splitlines() if line.startswith("recorder") and "alive" in line]
    assert row.rstrip().endswith(behind)


def test_pids_and_health_survive_a_narrow_terminal() -> None:
    found = _process(
        beat("strategy:breakout-mes", lag={"md:{MES}": 123456, "md:{MNQ}": 1}),
        verdict(ProcessHealth.LATE, "silent for 1.5 s"), True, NOW_NS,
    )  # fmt: skip
    text = shown(found, width=70)
    assert "strategy:breakout-mes  123  late" in text


def test_the_account_shows_what_there_is() -> None:
    positions = [{"symbol": "MES", "net_qty": 1, "open_pnl": None, "ts_recv_ns": 5, "type": "x"}]
    text = shown(account={"positions": positions, "open_pnl": "1.25"})
    assert "symbol=MES net_qty=1\n" in text


def test_session_in_ages() -> None:
    state = SessionState(
        health=SessionHealth.ACTIVE, token_version=1, token_expires_at_ns=NOW_NS + 90 * SECOND_NS,
        ts_validated_ns=NOW_NS - 4 * SECOND_NS, reason="validated", ts_ns=NOW_NS,
    )  # fmt: skip
    assert _session(state, NOW_NS) == {
        "health": "active", "reason": "validated", "validated_age_s": 4.0, "token_expires_in_s": 90.0,
    }  # fmt: skip
    assert _session(None, NOW_NS)["health"] == "unknown"
