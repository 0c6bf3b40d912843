"""What a Redis server answers to the commands that the bus uses: each case begins with an empty server."""

from __future__ import annotations

from tests.support.redis_cases.functions import FUNCTIONS, TRANSACTIONS
from tests.support.redis_cases.keys import HASHES, LISTS, SETS, STRINGS
from tests.support.redis_cases.streams import STREAMS
from tests.support.redis_cases.words import Steps

CASES: dict[str, Steps] = {
    f"{kind}: {name}": steps
    for kind, cases in {
        "strings": STRINGS,
        "hashes": HASHES,
        "lists": LISTS,
        "sorted sets": SETS,
        "streams": STREAMS,
        "transactions": TRANSACTIONS,
        "functions": FUNCTIONS,
    }.items()
    for name, steps in cases.items()
}
