"""Ids made from facts: the same input gives the same id, so a restart cannot send an order twice."""

from __future__ import annotations

import base64
import hashlib
import re

STRATEGY_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""Strategy ids appear in keys, tags and process names; nothing in them may need quoting."""

CLIENT_ORDER_ID_CHARS_MAX = 36
"""The gateway's limit for `customTag` is not documented; a UUID's length is taken by every system."""


def client_order_id(*, env: str, account_id: int, strategy_id: str, cause: str, n: int) -> str:
    """Return the id of the `n`-th order that `cause` led to.

    Args:
        env: Short name of the installation (`sim`, `prod`), so that two never collide on one account.
        cause: Stream entry, `stream@id`; recomputable from the journal.
        n: 0 for the first order of that cause.
    """
    code = _code(f"{account_id}|{strategy_id}|{cause}|{n}")
    room = CLIENT_ORDER_ID_CHARS_MAX - len(code) - 2
    short_env = env[:4]
    return f"{short_env}.{strategy_id[: room - len(short_env)]}.{code}"


def dependent_order_id(parent: str, purpose: str) -> str:
    """Return the id of an order that exists because of another: its protection, or its end.

    Args:
        parent: Id of the other order; the beginning of it stays readable.
        purpose: What for, with a number where there may be several (`stop0`).
    """
    code = _code(f"{parent}|{purpose}")
    begin = parent.rpartition(".")[0] or parent
    return f"{begin[: CLIENT_ORDER_ID_CHARS_MAX - len(code) - 1]}.{code}"


def _code(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest).decode("ascii")[:20].lower()
