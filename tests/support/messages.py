"""Any message of the union, made from its type: a new field is tested without anybody writing a test."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import msgspec.inspect as mi
from hypothesis import strategies as st

from shared.domain.messages import Message

MESSAGE_TYPES: tuple[type[msgspec.Struct], ...] = get_args(Message)

_PLAIN: dict[type, st.SearchStrategy[Any]] = {
    mi.StrType: st.text(max_size=20),
    mi.IntType: st.integers(-(2**63), 2**63 - 1),
    mi.FloatType: st.floats(allow_nan=False, allow_infinity=False),
    mi.BoolType: st.booleans(),
    mi.NoneType: st.none(),
    mi.DecimalType: st.decimals(allow_nan=False, allow_infinity=False),
}

_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "tick_size": st.sampled_from(["0.25", "0.1", "0.00005", "1"]),
    "tick_value": st.sampled_from(["12.5", "1.25", "0.5"]),
    "last_qty": st.integers(1, 2**31),
    "ts_event_ns": st.integers(0, 2**63 - 1),
}
"""Fields that refuse what their type would allow."""


def messages(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for one message type."""
    return _of(mi.type_info(kind))


def any_message() -> st.SearchStrategy[Any]:
    return st.one_of([messages(kind) for kind in MESSAGE_TYPES])


def _of(info: Any) -> st.SearchStrategy[Any]:
    if type(info) in _PLAIN:
        return _PLAIN[type(info)]
    match info:
        case mi.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case mi.UnionType(types=types):
            return st.one_of([_of(t) for t in types])
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case mi.ListType(item_type=item):
            return st.lists(_of(item), max_size=3)
        case mi.StructType(cls=cls, fields=fields):
            parts = {
                field.name: _BY_NAME[field.name] if field.name in _BY_NAME else _of(field.type)
                for field in fields
            }
            return st.builds(cls, **parts)
    raise AssertionError(f"no strategy for {info}")
