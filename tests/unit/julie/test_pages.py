"""What the front page and the example settings say is what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from julie.installation import section_models
from services.strategy.rehearsal import Rehearsal
from shared.runtime.config import Settings
from shared.strategy import Strategy
from tools.example_settings import document

ROOT = Path(__file__).parents[3]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_settings_are_those_of_the_code() -> None:
    assert document() == (ROOT / "julie.toml").read_text(encoding="utf-8"), "run `make settings`"


def test_the_strategy_on_the_front_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)
    space: dict[str, object] = {"__name__": "readme_strategy"}
    exec(compile(code, "README.md", "exec"), space)
    cls = space["TwoBars"]
    assert isinstance(cls, type)
    assert issubclass(cls, Strategy)
    stage = Rehearsal(cls)
    assert stage.bars(100.0, 100.5) == []
    (order,) = stage.bars(101.0)
    assert order.order_qty == 1


def test_the_settings_for_a_real_broker_are_valid() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", readme(), re.DOTALL)
    sections = Settings(tomllib.loads(text), "README.md", []).sections(**section_models())
    assert not sections["broker"].model_dump()["live_data"]
    assert sections["julie"].model_dump()["market_clock"] == "system"


def test_every_link_of_the_pages_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_make_target_of_the_front_page_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", readme())) <= targets
