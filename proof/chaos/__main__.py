"""`python -m proof.chaos --seed S --seconds N --plan NAME`: exit 1 on any violation."""

from __future__ import annotations

import argparse
import asyncio
import sys

from rich.console import Console
from rich.table import Table

from proof.chaos.faults.clocks import NoFaketime, library
from proof.chaos.plans import plans
from proof.chaos.run import RECORDS, put_away, run
from proof.invariants import FAULTS, INVARIANTS
from proof.record import Record


def main() -> int:
    known = plans()
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=None, help="of faults; default: the plan's")
    parser.add_argument("--plan", choices=sorted(known), default="short")
    parser.add_argument("--strict", action="store_true", help="times beyond their thresholds are violations")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a good run too")
    asked = parser.parse_args()
    plan = known[asked.plan]
    if "jump_clock" in plan.weights or "jump_clock" in plan.first:
        try:
            library()
        except NoFaketime as error:
            # Found out after an hour of faults, it would cost all that they have shown.
            print(f"plan {asked.plan}: {error}", file=sys.stderr)
            return 2
    record, world = asyncio.run(
        run(
            plan, name=asked.plan, seed=asked.seed, seconds=asked.seconds or plan.seconds, strict=asked.strict
        )
    )
    record.write(RECORDS / f"{record.name}.json")
    show(record, Console())
    missing = [row for row in plan.rows if row not in record.faults]
    for row in missing:
        print(f"NOT REACHED: {row}: {FAULTS[row]}")
    unreached = [state for state in plan.states if not record.reached.get(state)]
    for state in unreached:
        print(f"NOT REACHED: {state}")
    bad = bool(record.violations or missing or unreached)
    folder = put_away(world, keep=bad or asked.keep)
    if folder is not None:
        print(f"kept: {folder} (timeline.jsonl, logs, data); repeat: {record.command}")
    return 1 if bad else 0


def show(record: Record, console: Console) -> None:
    table = Table("invariant", "checks", "violations", "meaning", title=record.command)
    for name in sorted(record.checks, key=lambda name: int(name[2:])):
        wrong = record.violations.get(name, 0)
        style = "red" if wrong else None
        table.add_row(name, str(record.checks[name]), str(wrong), INVARIANTS[name], style=style)
    console.print(table)
    faults = Table("fault", "times", "what")
    for name in sorted(record.faults, key=lambda name: int(name[2:])):
        faults.add_row(name, str(record.faults[name]), FAULTS[name])
    console.print(faults)
    for title, values in (("figure", record.figures), ("reached", record.reached)):
        rows = Table(title, "value")
        for name, value in sorted(values.items()):
            rows.add_row(name, f"{value:g}")
        console.print(rows)
    for text in record.texts:
        console.print(f"[red]{text}[/red]", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
