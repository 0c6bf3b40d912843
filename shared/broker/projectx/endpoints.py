"""Every REST endpoint in use: path, the shape of its answer, its error codes, its budget.

Routes that circulate but do not exist (`/api/Position/search`, `GET /api/Position`,
`/api/Position/closeContractPartial`, `/trades/search`) are not here on purpose: one
client took their 404 for "flat".
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Generic, TypeVar

from shared.broker.port import LimitKind
from shared.broker.projectx import enums, payloads

E_co = TypeVar("E_co", bound=payloads.Envelope, covariant=True)

DEFAULT_WITHIN_S: Final = 10.0
BARS_WITHIN_S: Final = 30.0  # 20,000 bars take their time


class Endpoint(Generic[E_co]):
    """Attributes: within_s: for the whole exchange, connecting and reading included."""

    __slots__ = ("codes", "envelope", "kind", "path", "within_s")

    def __init__(
        self,
        path: str,
        envelope: type[E_co],
        codes: type[IntEnum],
        *,
        kind: LimitKind = "general",
        within_s: float = DEFAULT_WITHIN_S,
    ) -> None:
        self.path = path
        self.envelope = envelope
        self.codes = codes
        self.kind = kind
        self.within_s = within_s

    def code_name(self, code: int) -> str:
        """Return the code in words for a person, also when it is not documented."""
        try:
            return self.codes(code).name.lower().replace("_", " ")
        except ValueError:
            return "undocumented code"


LOGIN_KEY: Final = Endpoint("/api/Auth/loginKey", payloads.TokenEnvelope, enums.LoginErrorCode)
VALIDATE: Final = Endpoint("/api/Auth/validate", payloads.NewTokenEnvelope, enums.ValidateErrorCode)
LOGOUT: Final = Endpoint("/api/Auth/logout", payloads.Envelope, enums.LogoutErrorCode)
ACCOUNT_SEARCH: Final = Endpoint(
    "/api/Account/search", payloads.AccountsEnvelope, enums.AccountSearchErrorCode
)
CONTRACT_SEARCH: Final = Endpoint(
    "/api/Contract/search", payloads.ContractsEnvelope, enums.ContractSearchErrorCode
)
CONTRACT_AVAILABLE: Final = Endpoint(
    "/api/Contract/available", payloads.ContractsEnvelope, enums.ContractSearchErrorCode
)
CONTRACT_BY_ID: Final = Endpoint(
    "/api/Contract/searchById", payloads.ContractEnvelope, enums.ContractByIdErrorCode
)
RETRIEVE_BARS: Final = Endpoint(
    "/api/History/retrieveBars",
    payloads.BarsEnvelope,
    enums.RetrieveBarsErrorCode,
    kind="history",
    within_s=BARS_WITHIN_S,
)
ORDER_PLACE: Final = Endpoint("/api/Order/place", payloads.PlaceEnvelope, enums.PlaceOrderErrorCode)
ORDER_MODIFY: Final = Endpoint("/api/Order/modify", payloads.Envelope, enums.ModifyOrderErrorCode)
ORDER_CANCEL: Final = Endpoint("/api/Order/cancel", payloads.Envelope, enums.CancelOrderErrorCode)
ORDER_SEARCH: Final = Endpoint("/api/Order/search", payloads.OrdersEnvelope, enums.OrderSearchErrorCode)
ORDER_SEARCH_OPEN: Final = Endpoint(
    "/api/Order/searchOpen", payloads.OrdersEnvelope, enums.OrderSearchErrorCode
)
ORDER_BY_ID: Final = Endpoint("/api/Order/searchById", payloads.OrderEnvelope, enums.OrderByIdErrorCode)
ORDER_QUERY: Final = Endpoint("/api/Order/v2/query", payloads.OrdersEnvelope, enums.OrderSearchErrorCode)
POSITION_SEARCH_OPEN: Final = Endpoint(
    "/api/Position/searchOpen", payloads.PositionsEnvelope, enums.PositionSearchErrorCode
)
POSITION_CLOSE: Final = Endpoint(
    "/api/Position/closeContract", payloads.Envelope, enums.ClosePositionErrorCode
)
POSITION_PARTIAL_CLOSE: Final = Endpoint(
    "/api/Position/partialCloseContract", payloads.Envelope, enums.PartialClosePositionErrorCode
)
TRADE_SEARCH: Final = Endpoint("/api/Trade/search", payloads.TradesEnvelope, enums.TradeSearchErrorCode)
