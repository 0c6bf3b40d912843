"""What the cases are made of."""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """An error whose text begins so; what stands behind it differs between servers and versions."""

    start: str


Steps = list[tuple[str, object]]

OK = b"OK"
WRONG_TYPE = Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
NOT_A_NUMBER = Refused("ERR value is not an integer or out of range")
SYNTAX = Refused("ERR syntax error")
BAD_ID = Refused("ERR Invalid stream ID specified as stream command argument")
TOO_SMALL = Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
