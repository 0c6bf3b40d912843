"""Settings of the simulator: what is refused, and that the key stays unseen."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.simulator.config import SimulatorConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sped": 2}, "sped"),
        ({"source": "replay"}, "name the recording to replay"),
        ({"speed": 0}, "needs source 'replay'"),
        ({"symbols": ["ZZ"]}, "'ZZ' is not listed at this venue"),
        ({"venue_start": "2026-03-02T09:30:00"}, "needs a zone"),
        ({"venue_start": "soon"}, "venue_start"),
        ({"port": 70_000}, "port"),
        ({"hub": {"pings": 1}}, "hub.pings"),
    ],
)
def test_refused_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SimulatorConfig.model_validate(settings)


def test_defaults_are_settings_and_hide_the_key() -> None:
    config = SimulatorConfig.model_validate({})
    assert "demo-key" not in repr(config)
    assert config.users[0].api_key.get_secret_value() == "demo-key"
