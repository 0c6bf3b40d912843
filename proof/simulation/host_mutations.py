"""Planted bugs of the strategy hosts; see `planting`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from proof.simulation.bus_mutations import lua
from proof.simulation.planting import Patches, bug
from services.strategy import shell, supervision
from services.strategy.supervision import (
    AskStop,
    Command,
    Event,
    Exited,
    Looked,
    Phase,
    Release,
    Seat,
    State,
)
from shared.bus.bus import RedisBus
from shared.bus.port import Lease


def _decide(changed: Any) -> Patches:
    return [patch.object(shell, "decide", changed)]


@bug(caught_in=44)
def host_starts_workers_without_the_lease() -> Patches:
    """Who asks for a lease takes it for his, whatever the answer was."""
    ask = RedisBus.lease

    async def taken(self: RedisBus, key: str, holder: str, ttl_s: float) -> Lease | str:
        lease = await ask(self, key, holder, ttl_s)
        return lease if isinstance(lease, Lease) else Lease(key, holder, 1)

    return [patch.object(RedisBus, "lease", taken)]


@bug(caught_in=323)
def lost_lease_not_noticed() -> Patches:
    """A host that was frozen goes on with what others hold by now."""

    async def kept(self: RedisBus, lease: Lease, ttl_s: float) -> bool:
        await renew(self, lease, ttl_s)
        return True

    renew = RedisBus.renew
    return [patch.object(RedisBus, "renew", kept)]


@bug(caught_in=44)
def lease_granted_without_a_new_epoch() -> Patches:
    return lua(
        ("  epoch = next_epoch(epoch, args[3])\n  redis.call('HSET', keys[1], 'epoch'",
         "  if epoch == 0 then epoch = 1 end\n  redis.call('HSET', keys[1], 'epoch'"),
    )  # fmt: skip


@bug(caught_in=64)
def stuck_strategy_not_killed() -> Patches:
    decide = supervision.decide

    def patient(event: Event, state: State) -> list[Command]:
        stuck = isinstance(event, Looked) and event.seen.busy
        return [] if stuck else decide(event, state)

    return _decide(patient)


@bug(caught_in=52)
def failed_strategy_not_restarted() -> Patches:
    """Once it has failed it waits for somebody who never comes."""
    decide = supervision.decide

    def forgetful(event: Event, state: State) -> list[Command]:
        commands = decide(event, state)
        if isinstance(event, Exited) and state.seats[event.instance].phase is Phase.WAITING:
            state.seats[event.instance].start_at_ns = 1 << 62
        return commands

    return _decide(forgetful)


@bug(caught_in=12)
def lease_given_back_before_its_worker_has_ended() -> Patches:
    """It is asked to stop, and will."""

    def at_once(seat: Seat, now_ns: int) -> list[Command]:
        commands = give_up(seat, now_ns)
        ends = any(isinstance(one, AskStop) for one in commands)
        return [*commands, Release(seat.instance, seat.epoch)] if ends else commands

    give_up = supervision._give_up
    return [patch.object(supervision, "_give_up", at_once)]


@bug(caught_in=4)
def lease_of_a_dead_predecessor_left_alone() -> Patches:
    """What stands under its own name it takes for its own already."""
    place = supervision._place

    def unseeing(event: Any, state: State) -> list[Command]:
        return [] if state.host in event.holders.values() else place(event, state)

    return [patch.object(supervision, "_place", unseeing)]
