"""`python -m proof.table`: write the tables of `docs/reliability.md` from the records in `docs/proof/`.

`python -m proof.table RECORD ...` first takes new records over: each replaces that of its machine and plan.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from proof.invariants import FAULTS, INVARIANTS
from proof.record import Record, read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RECORDS = ROOT / "docs" / "proof"
MACHINES = ("simulation", "chaos", "fuzz", "tests", "bench")
STARTED = slice(0, 16)
"""Of a time: to the minute."""

FIGURES: dict[str, tuple[str, ...]] = {
    "simulation": ("{seeds} seeds", "{seeds_per_s} seeds/s", "{virtual_s} virtual s", "{kills} kills"),
    "chaos": (
        "{kills} kills", "{intents} intents", "{orders_at_venue} orders at the venue",
        "{duplicates} duplicates", "{lost} lost", "{wrong_positions_at_rest} wrong positions at rest",
        "longest without its stop {unprotected_s_max} s{told}",
        "standstill noticed in p99 {noticed_s_p99} s ({noticed_samples} times)",
        "deciding again after a kill p50 {deciding_again_clean_s_p50} s, "
        "p99 {deciding_again_clean_s_p99} s ({deciding_again_clean_samples} times)",
        "whatever else was killed meanwhile p50 {deciding_again_any_s_p50} s, "
        "p99 {deciding_again_any_s_p99} s ({deciding_again_any_samples} times)",
        "all killed at once: all decide again in at most {all_again_s_max} s ({all_again_samples} times)",
        "breach to flat at most {breach_to_flat_s_max} s ({breach_to_flat_samples} times)",
    ),
    "fuzz": ("{inputs} inputs", "{failures} failures"),
    "bench": ("lateness p99 {lateness ms p99} ms", "at most {lateness ms max} ms"),
}  # fmt: skip
"""Machine -> what the page tells of its figures, if there are samples; the rest stands in the record."""
TOLD = "position without its stop, told by an alarm"

BUG = "planted bug caught: "
CAUGHT_IN = "caught in seed: "
GROUPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(kill of [\w@]+) (?:before|after|sent) .+"), r"\1 before or after a call"),
)
"""States that are shown as one -> its words."""


def kept() -> list[Record]:
    """Return the records of the page, in the order of `MACHINES`."""
    found = [read(path) for path in sorted(RECORDS.glob("*.json"))]
    return sorted(found, key=lambda one: (MACHINES.index(one.machine), one.plan))


def keep(paths: Iterable[Path]) -> None:
    """Replace the records of the machines and plans that `paths` are from; several of one are summed."""
    summed: dict[str, Record] = {}
    for record in map(read, paths):
        if record.name in summed:
            summed[record.name].add(record)
            summed[record.name].seconds += record.seconds
        else:
            summed[record.name] = record
    for name, record in summed.items():
        record.write(RECORDS / f"{name}.json")


def invariants(records: Sequence[Record]) -> list[str]:
    """Return the table of invariants: what is promised, where it is checked and how often it was."""
    rows = ["| | Promise | Checked in | Times | Broken |", "|---|---|---|---:|---:|"]
    for name, words in INVARIANTS.items():
        where = _by_machine((one.machine, one.checks.get(name, 0)) for one in records)
        broken = sum(one.violations.get(name, 0) for one in records)
        rows.append(f"| {name} | {words} | {_places(where)} | {where.total():,} | {broken} |")
    return rows


def faults(records: Sequence[Record]) -> list[str]:
    """Return the fault matrix: what was done to the system, where and how often."""
    rows = ["| | Fault | Injected in |", "|---|---|---|"]
    for name, words in FAULTS.items():
        where = _by_machine((one.machine, one.faults.get(name, 0)) for one in records)
        rows.append(f"| {name} | {words} | {_places(where)} |")
    return rows


def runs(records: Sequence[Record]) -> list[str]:
    """Return what was run, when, and what most asked for of its figures."""
    rows = ["| Machine | Command | Build | Begun | Took | Figures |", "|---|---|---|---|---:|---|"]
    for one in records:
        took = f"{one.seconds:,.0f} s" if one.seconds else ""
        name = f"{one.machine}, {one.plan}" if one.plan else one.machine
        told = ", ".join(_figures(one))
        rows.append(f"| {name} | `{one.command}` | {one.build} | {one.started[STARTED]} | {took} | {told} |")
    return rows


def states(records: Sequence[Record]) -> list[str]:
    """Return every rare state that was reached."""
    rows = ["| Machine | State reached | Times |", "|---|---|---:|"]
    for machine, reached in _reached(records).items():
        rows += [f"| {machine} | {state} | {times:,} |" for state, times in sorted(reached.items())]
    return rows


def bugs(records: Sequence[Record]) -> list[str]:
    """Return every planted bug that was caught, and the seed that shows it."""
    rows = ["| Planted bug | Caught in seed |", "|---|---:|"]
    for one in records:
        for figure, seed in sorted(one.figures.items()):
            if figure.startswith(CAUGHT_IN):
                rows.append(f"| {figure.removeprefix(CAUGHT_IN)} | {seed:.0f} |")
    return rows


def _by_machine(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for machine, times in counts:
        found[machine] += times
    return found


def _places(where: Counter[str]) -> str:
    return ", ".join(f"{machine} {times:,}" for machine, times in where.items() if times) or "nowhere yet"


def _figures(record: Record) -> Iterator[str]:
    """Yield the phrases of which the record has every figure."""
    told = {name: value for name, value in record.figures.items() if value or not name.endswith("_samples")}
    numbers = {name: _number(value) for name, value in told.items()}
    numbers["told"] = ""
    if over := record.figures.get("unprotected_over_5s"):
        numbers["told"] = f" ({record.reached.get(TOLD, 0)} of {over:.0f} over 5 s told by an alarm)"
    for phrase in FIGURES.get(record.machine, ()):
        with suppress(KeyError):
            yield phrase.format_map(numbers)
    if caught := sum(state.startswith(BUG) for state in record.reached):
        yield f"{caught} planted bugs caught"


def _reached(records: Iterable[Record]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in records:
        for state, times in one.reached.items():
            if not state.startswith(BUG):
                found[one.machine][_group(state)] += times
    return found


def _group(state: str) -> str:
    for pattern, words in GROUPS:
        if found := pattern.fullmatch(state):
            return found.expand(words)
    return state


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1_000 else f"{value:,.3g}"


TABLES = {"runs": runs, "invariants": invariants, "faults": faults, "states": states, "bugs": bugs}


def page(text: str, records: Sequence[Record]) -> str:
    """Return `text` with every table between its marks made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        assert found, f"{PAGE} lacks {begin!r}"
        _, found, after = rest.partition(end)
        assert found, f"{PAGE} lacks {end!r}"
        text = before + begin + "\n".join(table(records)) + "\n" + end + after
    return text


def main(arguments: Sequence[str]) -> None:
    keep(map(Path, arguments))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
