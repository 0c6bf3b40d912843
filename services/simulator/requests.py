"""Request bodies of the REST endpoints: what is required, what may be left out.

Unknown fields are ignored, as they apparently are at the gateway. A missing or
mistyped required field is HTTP 400.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of request bodies: camelCase keys."""


class Empty(Body, frozen=True, kw_only=True):
    """Endpoints whose body is not read."""


class LoginKey(Body, frozen=True, kw_only=True):
    user_name: str
    api_key: str

    def __repr__(self) -> str:
        return "LoginKey(...)"  # the key stays out of logs and errors


class LoginApp(Body, frozen=True, kw_only=True):
    user_name: str
    password: str
    device_id: str
    app_id: str
    verify_key: str

    def __repr__(self) -> str:
        return "LoginApp(...)"


class AccountSearch(Body, frozen=True, kw_only=True):
    only_active_accounts: bool


class ContractSearch(Body, frozen=True, kw_only=True):
    search_text: str
    live: bool


class ContractAvailable(Body, frozen=True, kw_only=True):
    live: bool


class ContractById(Body, frozen=True, kw_only=True):
    contract_id: str


class RetrieveBars(Body, frozen=True, kw_only=True):
    contract_id: str
    live: bool
    start_time: str
    end_time: str
    unit: int
    unit_number: int
    limit: int
    include_partial_bar: bool = False  # left out by clients that ran live, so not insisted on


class Bracket(Body, frozen=True, kw_only=True):
    ticks: int
    type: int


class Place(Body, frozen=True, kw_only=True):
    account_id: int
    contract_id: str
    type: int
    side: int
    size: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    custom_tag: str | None = None
    stop_loss_bracket: Bracket | None = None
    take_profit_bracket: Bracket | None = None


class Modify(Body, frozen=True, kw_only=True):
    account_id: int
    order_id: int
    size: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None


class OrderKey(Body, frozen=True, kw_only=True):
    account_id: int
    order_id: int


class Since(Body, frozen=True, kw_only=True):
    account_id: int
    start_timestamp: str
    end_timestamp: str | None = None


class AccountKey(Body, frozen=True, kw_only=True):
    account_id: int


class QueryFilter(Body, frozen=True, kw_only=True):
    account_id: int
    statuses: list[int] | None = None
    contract_id: str | None = None
    created_after: str | None = None
    created_before: str | None = None


class Query(Body, frozen=True, kw_only=True):
    filter: QueryFilter
    page_size: int | None = None
    page_offset: int | None = None
    sort_by: int | None = None
    sort_direction: int | None = None
    include_total_count: bool | None = None


class Close(Body, frozen=True, kw_only=True):
    account_id: int
    contract_id: str


class PartialClose(Body, frozen=True, kw_only=True):
    account_id: int
    contract_id: str
    size: int
