"""`python -m proof.table`: write the tables of `docs/reliability.md` from the records in `docs/proof/`.

`python -m proof.table RECORD ...` first takes new records over: the runs of one machine become one file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from proof.invariants import FAULTS, INVARIANTS
from proof.record import Record, read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RECORDS = ROOT / "docs" / "proof"
MACHINES = ("simulation", "chaos", "fuzz", "tests", "bench")


def kept() -> dict[str, Record]:
    """Return the records of the page by machine, in the order of `MACHINES`."""
    found = {path.stem: read(path) for path in sorted(RECORDS.glob("*.json"))}
    return {name: found[name] for name in MACHINES if name in found}


def keep(paths: Iterable[Path]) -> None:
    """Replace the records of the machines that `paths` are from; several of one machine are summed."""
    summed: dict[str, Record] = {}
    for record in map(read, paths):
        if record.machine in summed:
            summed[record.machine].add(record)
            summed[record.machine].seconds += record.seconds
        else:
            summed[record.machine] = record
    for name, record in summed.items():
        record.write(RECORDS / f"{name}.json")


def invariants(records: dict[str, Record]) -> list[str]:
    """Return the table of invariants: what is promised, where it is checked and how often it was."""
    rows = ["| | Promise | Checked in | Times | Broken |", "|---|---|---|---:|---:|"]
    for name, words in INVARIANTS.items():
        where = {machine: one.checks[name] for machine, one in records.items() if one.checks.get(name)}
        shown = ", ".join(f"{machine} {times:,}" for machine, times in where.items()) or "nowhere yet"
        broken = sum(one.violations.get(name, 0) for one in records.values())
        rows.append(f"| {name} | {words} | {shown} | {sum(where.values()):,} | {broken} |")
    return rows


def faults(records: dict[str, Record]) -> list[str]:
    """Return the fault matrix: what was done to the system, where and how often."""
    rows = ["| | Fault | Injected in |", "|---|---|---|"]
    for name, words in FAULTS.items():
        where = [
            f"{machine} {one.faults[name]:,}" for machine, one in records.items() if one.faults.get(name)
        ]
        rows.append(f"| {name} | {words} | {', '.join(where) or 'nowhere yet'} |")
    return rows


def runs(records: dict[str, Record]) -> list[str]:
    """Return what was run, when, and its figures."""
    rows = ["| Machine | Command | Build | Begun | Took | Figures |", "|---|---|---|---|---:|---|"]
    for machine, one in records.items():
        figures = ", ".join(f"{name} {_number(value)}" for name, value in one.figures.items())
        took = f"{one.seconds:,.0f} s"
        rows.append(f"| {machine} | `{one.command}` | {one.build} | {one.started} | {took} | {figures} |")
    return rows


def states(records: dict[str, Record]) -> list[str]:
    """Return every rare state that was reached and every planted bug that was caught."""
    rows = ["| Machine | State reached or bug caught | Times |", "|---|---|---:|"]
    for machine, one in records.items():
        rows += [f"| {machine} | {state} | {times:,} |" for state, times in sorted(one.reached.items())]
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


TABLES = {"runs": runs, "invariants": invariants, "faults": faults, "states": states}


def page(text: str, records: dict[str, Record]) -> str:
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
