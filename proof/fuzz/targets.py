"""Every entrance that is fuzzed."""

from __future__ import annotations

from proof.fuzz import bus, hubs, rest, settings
from proof.fuzz.engine import Target

TARGETS: dict[str, Target] = {
    target.name: target for part in (hubs, rest, bus, settings) for target in part.TARGETS
}
