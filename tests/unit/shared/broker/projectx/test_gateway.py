"""What the body of an HTTP 200 says about a mutation: the table of the order protocol."""

from __future__ import annotations

import json

import pytest

from shared.broker.port import Accepted, Outcome, Rejected, Unknown
from shared.broker.projectx import endpoints
from shared.broker.projectx.endpoints import Endpoint
from shared.broker.projectx.gateway import outcome
from shared.broker.projectx.payloads import Envelope


def body(success: bool, code: int, message: str | None = None, **more: object) -> bytes:
    return json.dumps({"success": success, "errorCode": code, "errorMessage": message, **more}).encode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (body(True, 0, orderId=9_056), Accepted(broker_order_id=9_056)),
        # A refused order may carry an id too; success alone decides.
        (body(False, 2, "Invalid price", orderId=9_056), Rejected(code=2, reason="Invalid price")),
        (body(False, 2), Rejected(code=2, reason="order rejected")),
        *[(body(False, code, "m"), Rejected(code=code, reason="m")) for code in (1, 3, 4, 5, 8, 9, 10)],
        (body(False, 6, "m"), Unknown(reason="m", http_status=200, code=6)),
        (body(False, 7, "m"), Unknown(reason="m", http_status=200, code=7)),
        (body(False, 42, "m"), Unknown(reason="m", http_status=200, code=42)),  # not documented
        (body(False, 0, "m"), Unknown(reason="m", http_status=200, code=0)),  # contradicts itself
        (
            body(True, 0, orderId=None),
            Unknown(reason="success without an order id", http_status=200, code=0),
        ),
        (
            body(True, 3, "m", orderId=1),
            Unknown(reason="success with an error code: m", http_status=200, code=3),
        ),
    ],
)
def test_place(answer: bytes, expected: Outcome) -> None:
    assert outcome(endpoints.ORDER_PLACE, answer, []) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"success":"yes"}',
        b'{"success":tru',
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
def test_answer_that_cannot_be_read_is_unknown(answer: bytes) -> None:
    found = outcome(endpoints.ORDER_PLACE, answer, [])
    assert isinstance(found, Unknown)
    assert "could not be read" in found.reason
    assert len(found.reason) < 700


@pytest.mark.parametrize(
    ("endpoint", "unknown", "rejected"),
    [
        (endpoints.ORDER_MODIFY, {4, 5}, {1, 2, 3, 6, 7}),
        (endpoints.ORDER_CANCEL, {4, 5}, {1, 2, 3, 6}),
        (endpoints.POSITION_CLOSE, {6, 7}, {1, 2, 3, 4, 5, 8}),
        (endpoints.POSITION_PARTIAL_CLOSE, {7, 8}, {1, 2, 3, 4, 5, 6, 9}),
    ],
)
def test_codes_of_the_other_mutations(
    endpoint: Endpoint[Envelope], unknown: set[int], rejected: set[int]
) -> None:
    found = {code: type(outcome(endpoint, body(False, code), [])) for code in range(1, 12)}
    assert {code for code, kind in found.items() if kind is Rejected} == rejected
    assert unknown <= {code for code, kind in found.items() if kind is Unknown}
    assert outcome(endpoint, body(True, 0), []) == Accepted()


def test_secrets_in_an_answer_are_taken_out() -> None:
    found = outcome(endpoints.ORDER_PLACE, body(False, 2, "key canary-4711 is bad"), ["canary-4711"])
    assert found == Rejected(code=2, reason="key [secret] is bad")
