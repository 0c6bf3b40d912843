"""Write the tables of `docs/risk.md` from the code: refusals and halts; a test compares."""

from __future__ import annotations

from pathlib import Path

from shared.domain.control import HALTS
from shared.domain.denials import CODES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "risk.md"
CODES_HEAD = "| Code | Means | Do |\n|---|---|---|\n"
HALTS_HEAD = "| Halt | Means | Trading | Survives a restart | Lifted by |\n|---|---|---|---|---|\n"


def codes() -> str:
    """Return the table of codes; a star marks what counts against the strategy, two what latches it off."""
    rows = []
    for name, code in CODES.items():
        mark = " \\*\\*" if code.latches else " \\*" if code.blames else ""
        rows.append(f"| `{name}`{mark} | {code.meaning} | {code.remedy} |\n")
    return CODES_HEAD + "".join(rows)


def halts() -> str:
    rows = []
    for kind, rule in HALTS.items():
        lifters = ", ".join(sorted(rule.lifted_by))
        kept = "yes" if rule.latched else "measured again"
        rows.append(f"| `{kind}` | {rule.meaning} | {rule.state} | {kept} | {lifters} |\n")
    return HALTS_HEAD + "".join(rows)


def _put(page: str, head: str, table: str) -> str:
    before, _, rest = page.partition(head)
    lines = rest.splitlines(keepends=True)
    after = next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return before + table + "".join(lines[after:])


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    page = _put(page, CODES_HEAD, codes())
    page = _put(page, HALTS_HEAD, halts())
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
