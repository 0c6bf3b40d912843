"""Write `julie.toml`: every setting with its meaning, unit and default, from the settings' own descriptions.

Settings that differ from the default are set; the others stand there as comments. A test compares the file in
the repository with what this prints, so that it cannot fall behind.
"""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from julie.installation import section_models

WIDTH = 108

EXAMPLE: dict[str, dict[str, Any]] = {
    "julie": {"market_clock": "venue", "market_speed": 10.0},
    "guard": {"accounts": [{"id": 1001, "profile": "topstep_50k"}]},
    "strategy": {
        "instances": [
            {
                "id": "breakout-mes",
                "class": "strategies.breakout:Breakout",
                "symbols": ["MES"],
            },
            {
                "id": "breakout-mnq",
                "class": "strategies.breakout:Breakout",
                "symbols": ["MNQ"],
            },
        ]
    },
}
"""What the example sets: the simulator at ten times the market's speed, two instances of the example."""

HEAD = """\
# The settings of an installation: this one trades two instruments on the simulator, ten times as fast as a
# market. Every setting there is stands here with its meaning and default. Durations are in seconds unless a
# name says otherwise. Environment variables override: JULIE_FEED__STALE_AFTER_S=5.
#
# For TopstepX: julie.market_clock = "system", julie.market_speed = 1, broker.rest_url = "https://api.topstepx.com",
# broker.hub_url = "https://rtc.topstepx.com/hubs", broker.user_name, broker.api_key_file, julie.account_id.
# `julie doctor` checks it all. This file is written by `make settings`.
"""


def document() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for name, model in section_models().items():
        parts.append(f"\n[{name}]  # {_sentence(model)}\n")
        parts.append(_fields(model, EXAMPLE.get(name, {}), name))
    return "".join(parts)


def _fields(model: type[BaseModel], chosen: dict[str, Any], path: str) -> str:
    lines: list[str] = []
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append((name, field.annotation))
            continue
        lines += [f"# {line}" for line in textwrap.wrap(field.description or "", WIDTH)]
        if name in chosen:
            lines.append(f"{name} = {_toml(chosen[name])}")
        else:
            lines.append(_default(name, field))
    text = "\n".join(lines) + "\n" if lines else ""
    for name, sub in nested:
        text += f"\n[{path}.{name}]  # {_sentence(sub)}\n" + _fields(
            sub, chosen.get(name, {}), f"{path}.{name}"
        )
    return text


def _default(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return f"# {name} ="
    return "\n".join(f"# {line}" for line in f"{name} = {_toml(default)}".splitlines())


def _sentence(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n", 1)[0]


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        if items and isinstance(items[0], (dict, BaseModel)):
            return "[\n" + "".join(f"    {_toml(item)},\n" for item in items) + "]"
        return "[" + ", ".join(_toml(item) for item in items) + "]"
    return msgspec.json.encode(str(value)).decode()


if __name__ == "__main__":
    print(document(), end="")
