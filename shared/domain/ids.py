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
    digest = hashlib.sha256(f"{account_id}|{strategy_id}|{cause}|{n}".encode()).digest()
    code = base64.b32encode(digest).decode("ascii")[:20].lower()
    room = CLIENT_ORDER_ID_CHARS_MAX - len(code) - 2
    short_env = env[:4]
    return f"{short_env}.{strategy_id[: room - len(short_env)]}.{code}"
