"""The modelled server and real ones answer the same, command by command.

The model is only worth something as long as it cannot be told from a server; each case runs on all of them.
"""

from __future__ import annotations

import shlex

import pytest

from proof.simulation.bus.replies import ErrorReply, Reply
from shared.bus.functions import LIBRARY
from tests.support.redis_cases import CASES
from tests.support.redis_cases.words import Refused
from tests.support.redis_wires import AnyServer, ask

pytestmark = pytest.mark.integration


def matches(reply: Reply, expected: object) -> bool:
    if isinstance(expected, Refused):
        return isinstance(reply, ErrorReply) and reply.text.startswith(expected.start)
    if isinstance(expected, list):
        return (
            isinstance(reply, list)
            and len(reply) == len(expected)
            and all(matches(one, other) for one, other in zip(reply, expected, strict=True))
        )
    return bool(reply == expected) and not isinstance(reply, ErrorReply)


@pytest.mark.parametrize("case", CASES)
def test_commands(redis: AnyServer, case: str) -> None:
    wire = redis.wire()
    assert ask(wire, "FUNCTION", "LOAD", LIBRARY) == b"julie"
    for line, expected in CASES[case]:
        reply = ask(wire, *shlex.split(line))
        assert matches(reply, expected), f"{line} -> {reply!r}, not {expected!r}"
