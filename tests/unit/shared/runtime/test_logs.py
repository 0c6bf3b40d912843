from __future__ import annotations

import copy
import logging
import pickle  # noqa: TID251  to show that it does not work
from pathlib import Path

import pytest

from shared.runtime.logs import VALUE_CHARS_MAX, LineFormatter
from shared.runtime.secret import REDACTED, Secret, redact


def line_of(event: str, *, error: BaseException | None = None, **fields: object) -> str:
    record = logging.LogRecord("julie", logging.WARNING, "", 0, event, None, None)
    record.created = 0.125
    record.fields = fields
    if error is not None:
        record.exc_info = (type(error), error, None)
    return LineFormatter("feed").format(record)


def test_line() -> None:
    line = line_of("quote_refused", symbol="MES", why="off tick")
    assert line == '1970-01-01T00:00:00.125Z WARNING feed quote_refused symbol=MES why="off tick"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("two\nlines\r", '"two\\nlines\\r"'),
        (5, "5"),
        (None, "None"),
    ],
)
def test_value_never_breaks_the_line(value: object, shown: str) -> None:
    assert line_of("e", v=value).endswith(f" e v={shown}")


def test_long_value_is_cut() -> None:
    assert len(line_of("e", raw="x" * 10_000_000)) < VALUE_CHARS_MAX + 100


@pytest.mark.proves("I-27")
def test_secret_shows_nowhere(tmp_path: Path) -> None:
    """In fields, in the event, in errors and their causes."""
    path = tmp_path / "key"
    path.write_text("  canary-7f3a\n")
    secret = Secret.from_file(path)
    assert secret.reveal() == "canary-7f3a"
    assert f"{secret} {secret!r} {[secret]} {{'k': {secret!r}}}".count(REDACTED) == 4
    error = ValueError("wrong key canary-7f3a")
    error.__cause__ = OSError("canary-7f3a")
    lines = [
        line_of("login canary-7f3a", key=secret, body='{"apiKey":"canary-7f3a"}'),
        line_of("failed", error=error),
    ]
    assert "canary" not in "".join(lines)
    assert REDACTED in lines[0]


def test_secret_is_not_copied_into_files() -> None:
    secret = Secret("canary-9b1c")
    with pytest.raises(TypeError, match="not copied"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="not copied"):
        copy.copy(secret)


def test_short_words_are_not_taken_for_secrets() -> None:
    """A three-letter password would black out half of every line."""
    Secret("the")
    assert redact("the feed") == "the feed"
