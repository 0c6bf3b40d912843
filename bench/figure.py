"""What a benchmark returns: a figure, its floor from the same run, and what is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row.

    Attributes:
        value: With its unit, for people.
        floor: What the machine can do at best, measured in the same run; empty when there is none.
        ratio: value / floor, or None.
        target: What is to be reached, in words.
        reached: None when there is no target.
    """

    name: str
    value: str
    floor: str = ""
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(figures: Sequence[Figure], console: Console) -> None:
    table = Table(title="Benchmarks: each ratio against a floor measured in the same run", pad_edge=False)
    for column in ("figure", "measured", "floor", "ratio", "to reach", ""):
        table.add_column(column, overflow="fold")
    for figure in figures:
        mark = {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[figure.reached]
        ratio = f"{figure.ratio:.2f}x" if figure.ratio is not None else ""
        table.add_row(figure.name, figure.value, figure.floor, ratio, figure.target, mark)
    console.print(table)
