"""What a strategy writes, made into what an order is; what no order can be is refused with the remedy."""

from __future__ import annotations

from decimal import Decimal

from shared.domain.order import Bracket, OrderType, Side, StopPlan
from shared.strategy.view import Ticks


class ActionRefused(ValueError):
    """The strategy asked for something that no order can be: a bug in the strategy."""


def count(name: str, distance: Ticks | None) -> int | None:
    """Return how many ticks, None where no distance is wished."""
    if distance is None:
        return None
    if not isinstance(distance, Ticks) or distance.count < 1:
        raise ActionRefused(
            f"{name}={distance!r}: write {name}=self.ticks(8), a distance of at least one tick"
        )
    return distance.count


def bracket(stop: Ticks | None, target: Ticks | None, plan: StopPlan | None) -> Bracket | None:
    """Return what travels with an entry."""
    stop_ticks, target_ticks = count("stop", stop), count("target", target)
    if stop_ticks is None:
        if target is not None or plan is not None:
            raise ActionRefused("a target or a plan needs a stop beside it: stop=self.ticks(8)")
        return None
    if plan is not None and plan.problem:
        raise ActionRefused(f"plan={plan}: {plan.problem}")
    return Bracket(stop_loss_ticks=stop_ticks, take_profit_ticks=target_ticks, plan=plan)


def order_type(
    side: Side,
    limit_price: Decimal | None,
    stop_price: Decimal | None,
    trail_ticks: int | None,
    *,
    join: bool,
) -> OrderType:
    """Return the type that has exactly these prices."""
    priced = limit_price is not None or stop_price is not None
    if (join or trail_ticks is not None) and (priced or (join and trail_ticks is not None)):
        raise ActionRefused("join and trail each make the price themselves: no limit or trigger beside them")
    if join:
        return OrderType.JOIN_BID if side is Side.BUY else OrderType.JOIN_ASK
    if trail_ticks is not None:
        return OrderType.TRAILING_STOP
    if limit_price is not None:
        return OrderType.LIMIT if stop_price is None else OrderType.STOP_LIMIT
    return OrderType.MARKET if stop_price is None else OrderType.STOP
