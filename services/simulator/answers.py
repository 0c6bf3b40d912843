"""Envelopes, as every endpoint answers them."""

from __future__ import annotations

from services.simulator import rows

ACCOUNT_NOT_FOUND = 1  # the same in all account searches


class Malformed(Exception):
    """A body that is JSON of the right types but still no request: HTTP 400."""


def ok(**payload: object) -> rows.Row:
    return {"success": True, "errorCode": 0, "errorMessage": None, **payload}


def failed(code: int, message: str | None = None, **payload: object) -> rows.Row:
    return {"success": False, "errorCode": int(code), "errorMessage": message, **payload}


def moment(text: str, field: str) -> int:
    try:
        return rows.parse_iso(text)
    except ValueError as error:
        raise Malformed(f"The {field} field is not a date and time: {text!r}.") from error


def no_account(field: str) -> rows.Row:
    return failed(ACCOUNT_NOT_FOUND, "Account not found.", **{field: None})
