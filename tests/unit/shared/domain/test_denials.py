"""The table of refusals is whole, and the page says what the code says."""

from __future__ import annotations

import ast
from pathlib import Path

from shared.domain.denials import CODES
from tools import risk_table

ROOT = Path(__file__).resolve().parents[4]
DECIDERS = (ROOT / "shared" / "domain", ROOT / "services" / "execution")


def used_codes() -> set[str]:
    """Return every code that some `deny(...)` of the source may bear; a composed one by each of its names."""
    found: set[str] = set()
    for folder in DECIDERS:
        for path in folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                    continue
                if node.func.id == "deny" and node.args:
                    found |= codes_of(node.args[0])
    return found


def codes_of(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    prices = {"limit_price", "stop_price"}
    if isinstance(node, ast.Name):
        return prices  # `deny(name, ...)` in the check of an order's shape
    assert isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant)
    return {f"{name}{node.values[-1].value}" for name in prices}


def test_every_code_is_explained_and_every_explanation_used() -> None:
    assert used_codes() == set(CODES)


def test_the_page_is_made_of_the_code() -> None:
    page = risk_table.PAGE.read_text(encoding="utf-8")
    assert risk_table.codes() in page, "python -m tools.risk_table"
    assert risk_table.halts() in page, "python -m tools.risk_table"
