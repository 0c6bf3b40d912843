"""What the shell makes of the settings: the rest is tried with a real bus (`test_heartbeat_session`)."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from services.heartbeat.config import HeartbeatSection
from services.heartbeat.core import OWN_PAUSE_NS, State
from services.heartbeat.shell import Shell
from shared.runtime.clock import NS_PER_S
from tests.support.clocks import ManualClock


def state(beat_interval_s: float, **settings: Any) -> State:
    beat = SimpleNamespace(duty=lambda name, interval_s: None, build="b", settings="s")
    context = SimpleNamespace(
        config=HeartbeatSection.model_validate(settings),
        julie=SimpleNamespace(beat_interval_s=beat_interval_s),
        clock=ManualClock(),
        rng=random.Random(1),
        beat=beat,
        broker=SimpleNamespace(api_key_file=None),
        bus=SimpleNamespace(reader=lambda: None),
        log=None,
        process="heartbeat",
    )
    return Shell(cast(Any, context), open_port=cast(Any, None))._state


def test_trading_resumes_as_the_settings_say() -> None:
    assert state(0.5).resume_after_ns == 2 * NS_PER_S


@pytest.mark.parametrize(("beat_interval_s", "resume_after_s"), [(2.0, 2.0), (0.5, 0.0)])
def test_no_resume_comes_before_a_silence_could_show(beat_interval_s: float, resume_after_s: float) -> None:
    made = state(beat_interval_s, resume_after_s=resume_after_s, judge_interval_s=0.5)
    assert made.resume_after_ns >= made.late_after_ns + NS_PER_S // 2


def test_its_own_turns_are_never_so_far_apart_that_they_look_like_a_pause() -> None:
    with pytest.raises(ValidationError):
        HeartbeatSection.model_validate({"judge_interval_s": 0.51})
    assert OWN_PAUSE_NS >= 2 * 0.5 * NS_PER_S
