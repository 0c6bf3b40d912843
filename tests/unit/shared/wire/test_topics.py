from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import STRATEGY_ID_PATTERN
from shared.wire import topics
from shared.wire.topics import TOPICS, Kind, folder_of, head, topic_of

KEYS = [
    (topics.md("MES"), "md:{SYM}"),
    (topics.quote("6E"), "quote:{SYM}"),
    (topics.quotes("MES"), "quotes:{SYM}"),
    (topics.intents(1001, "breakout-mes"), "intents:{ACCT}:ID"),
    (topics.journal(1001, "a"), "journal:{ACCT}:ID"),
    (topics.state(1001, "a"), "state:{ACCT}:ID"),
    (topics.lease(1001, "a_1"), "lease:{ACCT}:ID"),
    (topics.orders(1001), "orders:{ACCT}"),
    (topics.reports(1001), "reports:{ACCT}"),
    (topics.account(1001), "account:{ACCT}"),
    (topics.beat("strategy.breakout-mes"), "beat:NAME"),
    (topics.refused("strategy:breakout-mes"), "refused:NAME"),
    (topics.budget("demo.general"), "budget:{NAME}"),
    (topics.pause("demo.general"), "pause:{NAME}"),
    (topics.pauses("demo.general"), "pauses:{NAME}"),
    (topics.BARS_WANTED, "bars:wanted"),
    (topics.SESSION, "session"),
    (topics.SESSION_STATE, "session:state"),
    (topics.SESSION_TOKEN, "session:token"),
    (topics.SESSION_DOUBTS, "session:doubts"),
    (topics.CONTROL_HEARTBEAT, "control:heartbeat"),
    (topics.CONTROL_OPERATOR, "control:operator"),
    (topics.CONTROL_GUARD, "control:guard"),
    (topics.guard(1001), "guard:{ACCT}"),
    (topics.BEATS, "beats"),
    (topics.head(topics.md("MES")), "KEY:head"),
    (topics.head(topics.SESSION), "KEY:head"),
    (topics.head(topics.intents(1001, "a")), "KEY:head"),
]


def matching(key: str) -> list[str]:
    return [row.key for pattern, row in topics._PATTERNS if pattern.fullmatch(key)]


@pytest.mark.parametrize(("key", "row"), KEYS)
def test_every_key_belongs_to_one_row(key: str, row: str) -> None:
    assert matching(key) == [row]
    found = topic_of(key)
    assert found is not None
    assert found.key == row


def test_every_row_has_a_key() -> None:
    assert {row for _, row in KEYS} == {row.key for row in TOPICS}


@pytest.mark.parametrize(
    "key",
    ["", "md:MES", "md:{mes}", "md:{../../etc}", "orders:{x}", "intents:{1}:", "intents:{1}:../x", "other"],
)
def test_foreign_keys_belong_to_none(key: str) -> None:
    assert topic_of(key) is None


def slot_of(key: str) -> str:
    """What a Redis Cluster hashes: the first non-empty part between braces, else the whole key."""
    start = key.find("{")
    end = key.find("}", start)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


STREAMS = [key for key, _ in KEYS if (row := topic_of(key)) is not None and row.kind is Kind.STREAM]


@pytest.mark.parametrize("stream", STREAMS)
def test_head_lies_in_the_slot_of_its_stream(stream: str) -> None:
    assert slot_of(head(stream)) == slot_of(stream)


@given(st.from_regex(STRATEGY_ID_PATTERN, fullmatch=True), st.integers(1, 2**40))
def test_a_step_touches_one_slot(strategy_id: str, account_id: int) -> None:
    names = (topics.intents, topics.journal, topics.state, topics.lease)
    keys = [name(account_id, strategy_id) for name in names]
    slots = {slot_of(key) for key in [*keys, head(keys[0]), head(keys[1])]}
    assert slots == {str(account_id)}
    assert all(matching(key) for key in keys)


@pytest.mark.parametrize(
    ("stream", "folder"),
    [
        (topics.md("MES"), ("md", "MES")),
        (topics.intents(1001, "a"), ("intents", "1001", "a")),
        (topics.SESSION, ("session",)),
        (topics.CONTROL_OPERATOR, ("control", "operator")),
    ],
)
def test_folder_of_a_stream(stream: str, folder: tuple[str, ...]) -> None:
    assert folder_of(stream) == folder


def test_every_stream_has_a_folder_of_its_own() -> None:
    assert len({folder_of(stream) for stream in STREAMS}) == len(STREAMS)


def test_symbol_of() -> None:
    assert topics.symbol_of(topics.md("MNQ")) == "MNQ"


def test_table_says_who_writes_reads_and_deletes() -> None:
    assert all(row.writer and row.readers and row.retention for row in TOPICS)
