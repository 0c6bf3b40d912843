"""The gateway's payloads, as they are on the wire.

Strict by default: a missing or mistyped field refuses the payload. Optional is
only what the documentation, or the traffic others have seen, leaves out:
`searchOpen` rows lack customTag, symbolId and fillVolume; account samples lack
`simulated`; hub orders lack the trail, parent and linked fields; hub trades lack
commissions; quotes are sparse. Enums stay integers here, so that an unknown value
is refused by `translate` with its field's name instead of failing as "invalid".

Market data is float because it is snapped to the tick grid a moment later; orders,
fills and money are `Decimal`, which msgspec reads from the digits on the wire.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""The wire's integers are of 64 bits; a larger one is no id, and no database takes it."""


class Payload(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of all payloads: camelCase keys, unknown keys ignored."""


class Request(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of request bodies: an optional field that is not set is not sent."""


# -- REST and user hub rows -------------------------------------------------------


class AccountRow(Payload, frozen=True, kw_only=True):
    id: Int64
    name: str
    balance: Decimal  # realized; no open P&L
    can_trade: bool
    is_visible: bool = True
    simulated: bool | None = None  # absent from the documented sample, required in Swagger


class ContractRow(Payload, frozen=True, kw_only=True):
    id: str
    name: str
    tick_size: Decimal
    tick_value: Decimal
    active_contract: bool
    description: str = ""
    symbol_id: str | None = None


class OrderRow(Payload, frozen=True, kw_only=True):
    id: Int64
    account_id: Int64
    contract_id: str
    creation_timestamp: str
    status: Int64
    type: Int64
    side: Int64
    size: Int64
    update_timestamp: str | None = None
    symbol_id: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    fill_volume: Int64 | None = None  # None: the row does not say, which is not zero
    filled_price: Decimal | None = None
    custom_tag: str | None = None
    trail_distance: Decimal | None = None
    trail_price: Decimal | None = None
    parent_order_id: Int64 | None = None
    linked_order_id: Int64 | None = None


class PositionRow(Payload, frozen=True, kw_only=True):
    id: Int64
    account_id: Int64
    contract_id: str
    type: Int64  # the only carrier of direction; `size` is never negative
    size: Int64
    average_price: Decimal
    creation_timestamp: str | None = None
    contract_display_name: str | None = None


class TradeRow(Payload, frozen=True, kw_only=True):
    """A half turn: one fill."""

    id: Int64
    account_id: Int64
    contract_id: str
    creation_timestamp: str
    price: Decimal
    side: Int64
    size: Int64
    order_id: Int64
    profit_and_loss: Decimal | None = None  # None: an opening fill
    fees: Decimal = Decimal(0)
    commissions: Decimal | None = None
    voided: bool = False


class BarRow(Struct, frozen=True, kw_only=True, gc=False):
    t: str  # open time
    o: float
    h: float
    l: float  # noqa: E741 - the wire's name
    c: float
    v: Int64


# -- market hub -------------------------------------------------------------------


class QuoteData(Payload, frozen=True, kw_only=True):
    """Sparse: what is absent has not changed. No sizes.

    Fields that nobody here uses (symbolName, change, open, high, low ...) are not declared: this is the
    most frequent payload of all, and what is not declared is skipped without being built.
    """

    symbol: str
    last_updated: str | None = None
    timestamp: str | None = None
    last_price: float | None = None
    best_bid: float | None = None
    best_ask: float | None = None
    volume: int | float | None = None  # session total; seen as 12345 and as 12345.0


class TradeData(Payload, frozen=True, kw_only=True):
    price: float
    timestamp: str
    volume: Int64
    type: Int64 | None = None  # of an opening print there is no aggressor to tell
    symbol_id: str | None = None


class DepthData(Payload, frozen=True, kw_only=True):
    timestamp: str
    type: Int64
    price: float = 0.0  # a reset carries none
    volume: Int64 = 0
    current_volume: Int64 | None = None
    index: Int64 | None = None


# -- envelopes of REST answers ----------------------------------------------------


class Envelope(Payload, frozen=True, kw_only=True):
    """What every REST answer has; the payload's field comes from a subclass."""

    success: bool
    error_code: Int64 = 0
    error_message: str | None = None


class TokenEnvelope(Envelope, frozen=True, kw_only=True):
    token: str | None = None

    def __repr__(self) -> str:
        return f"TokenEnvelope(success={self.success}, error_code={self.error_code})"


class NewTokenEnvelope(Envelope, frozen=True, kw_only=True):
    new_token: str | None = None  # null or absent: keep the old one

    def __repr__(self) -> str:
        return f"NewTokenEnvelope(success={self.success}, error_code={self.error_code})"


class AccountsEnvelope(Envelope, frozen=True, kw_only=True):
    accounts: list[AccountRow] | None = None


class ContractsEnvelope(Envelope, frozen=True, kw_only=True):
    contracts: list[ContractRow] | None = None


class ContractEnvelope(Envelope, frozen=True, kw_only=True):
    contract: ContractRow | None = None


class BarsEnvelope(Envelope, frozen=True, kw_only=True):
    bars: list[BarRow] | None = None


class OrdersEnvelope(Envelope, frozen=True, kw_only=True):
    orders: list[OrderRow] | None = None
    total_count: Int64 | None = None


class OrderEnvelope(Envelope, frozen=True, kw_only=True):
    order: OrderRow | None = None


class PositionsEnvelope(Envelope, frozen=True, kw_only=True):
    positions: list[PositionRow] | None = None


class TradesEnvelope(Envelope, frozen=True, kw_only=True):
    trades: list[TradeRow] | None = None


class PlaceEnvelope(Envelope, frozen=True, kw_only=True):
    order_id: Int64 | None = None  # may be set on a refusal too: success alone decides


# -- request bodies ---------------------------------------------------------------


class LoginKeyRequest(Request, frozen=True, kw_only=True):
    user_name: str
    api_key: str

    def __repr__(self) -> str:
        return "LoginKeyRequest(...)"


class AccountSearchRequest(Request, frozen=True, kw_only=True):
    only_active_accounts: bool


class ContractSearchRequest(Request, frozen=True, kw_only=True):
    search_text: str
    live: bool


class ContractAvailableRequest(Request, frozen=True, kw_only=True):
    live: bool


class ContractByIdRequest(Request, frozen=True, kw_only=True):
    contract_id: str


class RetrieveBarsRequest(Request, frozen=True, kw_only=True):
    contract_id: str
    live: bool
    start_time: str
    end_time: str
    unit: int
    unit_number: int
    limit: int
    include_partial_bar: bool


class Bracket(Request, frozen=True, kw_only=True):
    ticks: int  # signed, relative to the entry: a long stop is negative
    type: int


class PlaceOrderRequest(Request, frozen=True, kw_only=True):
    account_id: int
    contract_id: str
    type: int
    side: int
    size: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None  # an absolute level, not a distance
    custom_tag: str | None = None
    stop_loss_bracket: Bracket | None = None
    take_profit_bracket: Bracket | None = None


class ModifyOrderRequest(Request, frozen=True, kw_only=True):
    account_id: int
    order_id: int
    size: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None


class OrderKeyRequest(Request, frozen=True, kw_only=True):
    """`Order/cancel` and `Order/searchById`."""

    account_id: int
    order_id: int


class SinceRequest(Request, frozen=True, kw_only=True):
    """`Order/search` and `Trade/search`; without a start the answer is HTTP 400."""

    account_id: int
    start_timestamp: str
    end_timestamp: str | None = None


class AccountKeyRequest(Request, frozen=True, kw_only=True):
    account_id: int


class OrderQueryFilter(Request, frozen=True, kw_only=True):
    account_id: int
    statuses: list[int] | None = None
    contract_id: str | None = None
    created_after: str | None = None
    created_before: str | None = None


class OrderQueryRequest(Request, frozen=True, kw_only=True):
    filter: OrderQueryFilter
    page_size: int | None = None
    page_offset: int | None = None
    sort_by: int | None = None
    sort_direction: int | None = None
    include_total_count: bool | None = None


class ClosePositionRequest(Request, frozen=True, kw_only=True):
    account_id: int
    contract_id: str


class PartialCloseRequest(Request, frozen=True, kw_only=True):
    account_id: int
    contract_id: str
    size: int
