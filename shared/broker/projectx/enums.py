"""Every integer the gateway speaks, by name: wire enums and error codes.

The same error integer means different things on different endpoints (Swagger
v1), so each endpoint has its own enum and nothing here is shared between them.
Values the documentation does not list are not members: turning one into an enum
raises, and `translate` makes a refusal of it. Nothing guesses.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class OrderSide(IntEnum):
    BID = 0  # buy
    ASK = 1  # sell


class OrderType(IntEnum):
    UNKNOWN = 0
    LIMIT = 1
    MARKET = 2
    STOP_LIMIT = 3  # in the Swagger enum, absent from the documented list of placeable types
    STOP = 4  # stop-market
    TRAILING_STOP = 5
    JOIN_BID = 6
    JOIN_ASK = 7


class OrderStatus(IntEnum):
    """There is no "partially filled": that is OPEN with 0 < fillVolume < size."""

    NONE = 0
    OPEN = 1
    FILLED = 2
    CANCELLED = 3
    EXPIRED = 4
    REJECTED = 5
    PENDING = 6
    PENDING_CANCELLATION = 7  # Swagger only
    SUSPENDED = 8  # Swagger only: a bracket child before its parent's fill


TERMINAL_STATUSES: Final = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED}
)


class PositionType(IntEnum):
    UNDEFINED = 0
    LONG = 1
    SHORT = 2


class TradeLogType(IntEnum):
    """Aggressor of a market trade."""

    BUY = 0
    SELL = 1


class DomType(IntEnum):
    UNKNOWN = 0
    ASK = 1
    BID = 2
    BEST_ASK = 3
    BEST_BID = 4
    TRADE = 5
    RESET = 6
    LOW = 7
    HIGH = 8
    NEW_BEST_BID = 9
    NEW_BEST_ASK = 10
    FILL = 11


class AggregateBarUnit(IntEnum):
    UNSPECIFIED = 0
    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    WEEK = 5
    MONTH = 6
    TICK = 7  # Swagger only; what it does is not documented


class OrderSortField(IntEnum):
    CREATED_AT = 0
    ID = 1


class SortDirection(IntEnum):
    ASC = 0
    DESC = 1


class LoginErrorCode(IntEnum):
    SUCCESS = 0
    USER_NOT_FOUND = 1
    PASSWORD_VERIFICATION_FAILED = 2
    INVALID_CREDENTIALS = 3
    APP_NOT_FOUND = 4
    APP_VERIFICATION_FAILED = 5
    INVALID_DEVICE = 6
    AGREEMENTS_NOT_SIGNED = 7
    UNKNOWN_ERROR = 8
    API_SUBSCRIPTION_NOT_FOUND = 9
    API_KEY_AUTHENTICATION_DISABLED = 10


class ValidateErrorCode(IntEnum):
    SUCCESS = 0
    INVALID_SESSION = 1
    SESSION_NOT_FOUND = 2
    EXPIRED_TOKEN = 3
    UNKNOWN_ERROR = 4


class LogoutErrorCode(IntEnum):
    SUCCESS = 0
    INVALID_SESSION = 1
    UNKNOWN_ERROR = 2


class AccountSearchErrorCode(IntEnum):
    SUCCESS = 0


class ContractSearchErrorCode(IntEnum):
    """`Contract/search` and `Contract/available`."""

    SUCCESS = 0


class ContractByIdErrorCode(IntEnum):
    SUCCESS = 0
    CONTRACT_NOT_FOUND = 1


class RetrieveBarsErrorCode(IntEnum):
    SUCCESS = 0
    CONTRACT_NOT_FOUND = 1
    UNIT_INVALID = 2
    UNIT_NUMBER_INVALID = 3
    LIMIT_INVALID = 4


class PlaceOrderErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1
    ORDER_REJECTED = 2  # all validation; the reason is in errorMessage
    INSUFFICIENT_FUNDS = 3
    ACCOUNT_VIOLATION = 4
    OUTSIDE_TRADING_HOURS = 5
    ORDER_PENDING = 6
    UNKNOWN_ERROR = 7
    CONTRACT_NOT_FOUND = 8
    CONTRACT_NOT_ACTIVE = 9
    ACCOUNT_REJECTED = 10


class ModifyOrderErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1
    ORDER_NOT_FOUND = 2
    REJECTED = 3
    PENDING = 4
    UNKNOWN_ERROR = 5
    ACCOUNT_REJECTED = 6
    CONTRACT_NOT_FOUND = 7


class CancelOrderErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1
    ORDER_NOT_FOUND = 2
    REJECTED = 3
    PENDING = 4
    UNKNOWN_ERROR = 5
    ACCOUNT_REJECTED = 6  # live or follower accounts cannot cancel through the API


class OrderSearchErrorCode(IntEnum):
    """`Order/search`, `Order/searchOpen` and `Order/v2/query`."""

    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1


class OrderByIdErrorCode(IntEnum):
    SUCCESS = 0
    ORDER_NOT_FOUND = 1


class PositionSearchErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1


class ClosePositionErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1
    POSITION_NOT_FOUND = 2
    CONTRACT_NOT_FOUND = 3
    CONTRACT_NOT_ACTIVE = 4
    ORDER_REJECTED = 5
    ORDER_PENDING = 6
    UNKNOWN_ERROR = 7
    ACCOUNT_REJECTED = 8


class PartialClosePositionErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1
    POSITION_NOT_FOUND = 2
    CONTRACT_NOT_FOUND = 3
    CONTRACT_NOT_ACTIVE = 4
    INVALID_CLOSE_SIZE = 5
    ORDER_REJECTED = 6  # with a null message: market closed or halted, or no price
    ORDER_PENDING = 7
    UNKNOWN_ERROR = 8
    ACCOUNT_REJECTED = 9


class TradeSearchErrorCode(IntEnum):
    SUCCESS = 0
    ACCOUNT_NOT_FOUND = 1


AMBIGUOUS_CODES: Final[dict[type[IntEnum], frozenset[int]]] = {
    # The broker itself does not say whether the thing happened: never "rejected".
    PlaceOrderErrorCode: frozenset({PlaceOrderErrorCode.ORDER_PENDING, PlaceOrderErrorCode.UNKNOWN_ERROR}),
    ModifyOrderErrorCode: frozenset({ModifyOrderErrorCode.PENDING, ModifyOrderErrorCode.UNKNOWN_ERROR}),
    CancelOrderErrorCode: frozenset({CancelOrderErrorCode.PENDING, CancelOrderErrorCode.UNKNOWN_ERROR}),
    ClosePositionErrorCode: frozenset(
        {ClosePositionErrorCode.ORDER_PENDING, ClosePositionErrorCode.UNKNOWN_ERROR}
    ),
    PartialClosePositionErrorCode: frozenset(
        {PartialClosePositionErrorCode.ORDER_PENDING, PartialClosePositionErrorCode.UNKNOWN_ERROR}
    ),
}


class LoginAdvice(NamedTuple):
    """What a login code means to the person who reads it.

    Attributes:
        sentence: What happened.
        remedy: What to do about it.
        fatal: True when trying again without a change by a person is useless (and
            spends the rate limit); False when a later attempt may succeed.
    """

    sentence: str
    remedy: str
    fatal: bool


LOGIN_ADVICE: Final[dict[LoginErrorCode, LoginAdvice]] = {
    LoginErrorCode.USER_NOT_FOUND: LoginAdvice(
        "The broker does not know this user name.",
        "Set the platform login (not the e-mail address, not an account name) as the user name.",
        True,
    ),
    LoginErrorCode.PASSWORD_VERIFICATION_FAILED: LoginAdvice(
        "The broker could not verify the password.",
        "Use the platform user name with an API key; password login is not supported here.",
        True,
    ),
    LoginErrorCode.INVALID_CREDENTIALS: LoginAdvice(
        "The broker refused the user name and API key.",
        "Check both: the user name is the platform login, the API key is created under Settings > API.",
        True,
    ),
    LoginErrorCode.APP_NOT_FOUND: LoginAdvice(
        "The broker does not know this application.",
        "Log in with user name and API key; application login is not supported here.",
        True,
    ),
    LoginErrorCode.APP_VERIFICATION_FAILED: LoginAdvice(
        "The broker could not verify this application.",
        "Log in with user name and API key; application login is not supported here.",
        True,
    ),
    LoginErrorCode.INVALID_DEVICE: LoginAdvice(
        "The broker refused this device.",
        "Log in to the platform once from this machine, then try again.",
        True,
    ),
    LoginErrorCode.AGREEMENTS_NOT_SIGNED: LoginAdvice(
        "There are agreements that have not been signed.",
        "Log in to the platform in a browser, accept the agreements, then start again.",
        True,
    ),
    LoginErrorCode.UNKNOWN_ERROR: LoginAdvice(
        "The broker failed to log in and does not say why.",
        "It is tried again with growing pauses. If it lasts, look at the broker's status page.",
        False,
    ),
    LoginErrorCode.API_SUBSCRIPTION_NOT_FOUND: LoginAdvice(
        "This user has no API subscription, or it is not linked to the trading profile.",
        "Buy the API add-on and link it to the platform profile, then start again.",
        True,
    ),
    LoginErrorCode.API_KEY_AUTHENTICATION_DISABLED: LoginAdvice(
        "Logging in with API keys is disabled for this user.",
        "Enable API access in the platform's settings or create a new key, then start again.",
        True,
    ),
}


def login_advice(code: int) -> LoginAdvice:
    """Return what to tell the operator about login error `code`, known or not."""
    try:
        return LOGIN_ADVICE[LoginErrorCode(code)]
    except (ValueError, KeyError):
        return LoginAdvice(
            f"The broker refused the login with code {code}, which its documentation does not list.",
            "It is tried again with growing pauses. If it lasts, ask the broker's support about the code.",
            False,
        )
