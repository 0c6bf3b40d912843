from __future__ import annotations

from tools.stream_table import PAGE, table


def test_page_has_the_table_of_the_code() -> None:
    """`python -m tools.stream_table` writes it anew."""
    assert table() in PAGE.read_text(encoding="utf-8")
