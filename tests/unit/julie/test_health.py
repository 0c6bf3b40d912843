"""`julie.health`: when a container counts as healthy."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from julie import health
from julie.health import judge, name_of
from services.heartbeat.board import PROCESS_FIELD
from shared.domain.control import Beat, Duty, ProcessHealth, ProcessJudged
from shared.wire import topics
from shared.wire.codec import encode

NOW_NS = 1_800_000_000_000_000_000
SECOND_NS = 1_000_000_000


def wire(message: msgspec.Struct) -> Any:
    """What a healthcheck reads: the message as it lies on the bus."""
    return json.loads(encode(message))


def beat(process: str = "feed", *, age_s: float = 0.2, ready: bool = True, done_age_s: float = 0.5) -> Any:
    return wire(
        Beat(
            process=process, pid=7, host="box", build="b", started_at_ns=NOW_NS - 100 * SECOND_NS, seq=9,
            ts_ns=NOW_NS - round(age_s * SECOND_NS), ready=ready,
            duties={
                "watch": Duty(interval_s=1.0, done=4, ts_done_ns=NOW_NS - round(done_age_s * SECOND_NS)),
                "append": Duty(done=1, ts_done_ns=NOW_NS - 99 * SECOND_NS),
            },
        )
    )  # fmt: skip


def verdict(as_health: ProcessHealth, reason: str = "") -> Any:
    return wire(
        ProcessJudged(process="feed", health=as_health, silence_ns=0, reason=reason, ts_ns=NOW_NS - SECOND_NS)
    )


def test_the_keys_are_those_of_the_table() -> None:
    assert topics.beat("") == health.BEAT_KEY
    assert health.VERDICT_KEY == topics.SESSION_STATE
    assert health.VERDICT_FIELD == PROCESS_FIELD


@pytest.mark.parametrize(
    ("found", "well"),
    [
        (ProcessHealth.ALIVE, True),
        (ProcessHealth.LATE, True),
        (ProcessHealth.DEAD, False),
        (ProcessHealth.STARTING, False),
    ],
)
def test_heartbeats_verdict_decides(found: ProcessHealth, well: bool) -> None:
    answer, text = judge(
        "feed", "box", beat(), verdict(found, "watch stands still"), beat("heartbeat"), NOW_NS
    )
    assert answer is well
    assert "watch stands still" in text


def test_without_a_verdict_nobody_is_healthy_while_heartbeat_judges() -> None:
    assert not judge("feed", "box", beat(), None, beat("heartbeat"), NOW_NS)[0]


def test_without_a_beat_or_before_it_is_ready_a_process_is_not_healthy() -> None:
    alive = verdict(ProcessHealth.ALIVE)
    assert not judge("feed", "box", None, alive, beat("heartbeat"), NOW_NS)[0]
    assert not judge("feed", "box", beat(ready=False), alive, beat("heartbeat"), NOW_NS)[0]


def test_the_good_health_of_another_container_is_not_ours() -> None:
    answer, text = judge("feed", "other", beat(), verdict(ProcessHealth.ALIVE), beat("heartbeat"), NOW_NS)
    assert not answer
    assert "box" in text and "other" in text


def test_when_heartbeat_is_silent_a_process_is_judged_by_its_own_beat() -> None:
    for silent in (None, beat("heartbeat", age_s=4)):
        stale = verdict(ProcessHealth.DEAD)
        assert judge("feed", "box", beat(), stale, silent, NOW_NS)[0]
        assert not judge("feed", "box", beat(age_s=3.5), stale, silent, NOW_NS)[0]
        assert not judge("feed", "box", beat(done_age_s=3.5), stale, silent, NOW_NS)[0]


def test_heartbeat_is_judged_by_its_own_beat() -> None:
    assert judge("heartbeat", "box", beat("heartbeat"), None, beat("heartbeat"), NOW_NS)[0]
    frozen = beat("heartbeat", age_s=4)
    assert not judge("heartbeat", "box", frozen, None, frozen, NOW_NS)[0]


def test_a_strategy_host_has_the_name_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JULIE_PROCESS", raising=False)
    assert name_of("strategy", "4f5e") == "strategy@4f5e"
    assert name_of("feed", "4f5e") == "feed"
    monkeypatch.setenv("JULIE_PROCESS", "left")
    assert name_of("strategy", "4f5e") == "strategy@left"


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text(" hunter22\n")
    monkeypatch.setenv("JULIE_REDIS__URL", "redis://redis:6380/1")
    monkeypatch.setenv("JULIE_REDIS__PASSWORD_FILE", str(file))
    assert health.address() == {
        "host": "redis", "port": 6380, "db": 1, "username": None, "password": "hunter22"
    }  # fmt: skip
