"""What is still known of orders and fills that have left memory: that they were, and what they came to.

Nothing is ever taken out, so an entry has to be small: sorted arrays, 12 bytes where a dictionary takes 130.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from decimal import Decimal
from hashlib import blake2b


class Numbers:
    """Small numbers by large ones."""

    def __init__(self) -> None:
        self._keys = array("q")
        self._values = array("i")

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: int) -> int | None:
        at = bisect_left(self._keys, key)
        return self._values[at] if at < len(self._keys) and self._keys[at] == key else None

    def put(self, key: int, value: int) -> None:
        """Set one. Keys mostly rise; one in the middle moves those behind it, which takes microseconds."""
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            self._values[at] = value
        else:
            self._keys.insert(at, key)
            self._values.insert(at, value)


class Settled:
    """See the module.

    Of our ids 64 bits of a hash are kept: among a million of them two are alike once in 30 million times.
    """

    def __init__(self) -> None:
        self._by_number = Numbers()
        self._by_name = Numbers()
        self._fees = Numbers()
        self._each_fee: list[Decimal] = []  # few different ones, each a number here
        self._number_of_fee: dict[Decimal, int] = {}

    def put_order(self, client_order_id: str, broker_order_id: int | None, cum_qty: int) -> None:
        self._by_name.put(_hash(client_order_id), cum_qty)
        if broker_order_id is not None:
            self._by_number.put(broker_order_id, cum_qty)

    def put_fill(self, fill_id: int, fees: Decimal) -> None:
        number = self._number_of_fee.get(fees)
        if number is None:
            number = self._number_of_fee[fees] = len(self._each_fee)
            self._each_fee.append(fees)
        self._fees.put(fill_id, number)

    def has(self, client_order_id: str) -> bool:
        return self.filled_by_name(client_order_id) is not None

    def filled(self, broker_order_id: int) -> int | None:
        """Return the contracts that an order of the broker's id filled, None if it is not here."""
        return self._by_number.get(broker_order_id)

    def filled_by_name(self, client_order_id: str) -> int | None:
        """Return the contracts that an order of ours filled, None if it is not here."""
        return self._by_name.get(_hash(client_order_id))

    def fees(self, fill_id: int) -> Decimal | None:
        number = self._fees.get(fill_id)
        return self._each_fee[number] if number is not None else None


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
