"""Write the table of keys in `docs/architecture.md` from `shared/wire/topics.py`; a test compares them."""

from __future__ import annotations

from pathlib import Path

from shared.wire.topics import TOPICS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
HEAD = "| Key | Kind | Writer | Readers | Delivery and retention |\n|---|---|---|---|---|\n"


def table() -> str:
    """Return the table, one row a topic."""
    rows = (f"| `{t.key}` | {t.kind.value} | {t.writer} | {t.readers} | {t.retention} |\n" for t in TOPICS)
    return HEAD + "".join(rows)


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEAD)
    lines = rest.splitlines(keepends=True)
    after = next(n for n, line in enumerate(lines) if not line.startswith("|"))
    PAGE.write_text(before + table() + "".join(lines[after:]), encoding="utf-8")


if __name__ == "__main__":
    main()
