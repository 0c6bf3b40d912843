from __future__ import annotations

import re

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from shared.bus.functions import LIBRARY, VERSION, refusal_of
from shared.bus.port import BusRefused, Fenced, RolledBack


def make_error(line: str) -> ResponseError:
    """The exception the library makes of a server's error line."""
    error = BaseParser.parse_error(line)
    assert isinstance(error, ResponseError)
    return error


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("FENCED epoch 1 is older than 2", Fenced),
        ("ROLLEDBACK stream stands at 3, the writer at 9", RolledBack),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", BusRefused),
        ("NOPERM User x has no permissions", BusRefused),
        ("ERR Function not found", ResponseError),
        ("OOM command not allowed when used memory > 'maxmemory'.", ResponseError),
        ("MISCONF Valkey is configured to save RDB snapshots", ResponseError),
        ("READONLY You can't write against a read only replica.", ResponseError),
        ("BUSY Valkey is busy running a script.", ResponseError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", ResponseError),
    ],
)
def test_what_a_refusal_means(line: str, kind: type[Exception]) -> None:
    """`ResponseError`: nothing was done and it may be over soon; the others are final for a writer."""
    refusal = refusal_of(make_error(line))
    assert isinstance(refusal, kind)
    assert isinstance(refusal, BusRefused) == (kind is not ResponseError)


def test_refusal_keeps_the_server_words() -> None:
    line = "NOPERM User default has no permissions"
    assert str(refusal_of(make_error(line))) == line


def test_library_tells_its_version() -> None:
    assert re.fullmatch(rb"\d+", VERSION)
    assert LIBRARY.startswith("#!lua name=julie\n")
