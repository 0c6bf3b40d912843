"""What a failure does not need goes away; what it needs stays."""

from __future__ import annotations

from proof.simulation.plan import Kill, Plan, Stop, Wire
from proof.simulation.shrink import SHORTEST_S, least, words


def full() -> Plan:
    plan = Plan(seed=7, workers=2, tags="ignored", search_lag_s=1.0)
    plan.wire = Wire(late=0.5, reply_lost=0.3)
    plan.kills = [Kill(1.0, "execution"), Kill(2.0, "worker")]
    plan.stops = [Stop(3.0, "execution", 2.0)]
    return plan


def test_only_what_the_failure_needs_is_left() -> None:
    def fails(plan: Plan) -> bool:
        return plan.wire.late > 0 and any(kill.process == "worker" for kill in plan.kills)

    smallest = least(full(), fails)
    assert smallest.wire == Wire(late=0.5)
    assert smallest.kills == [Kill(2.0, "worker")]
    assert not smallest.stops
    assert (smallest.workers, smallest.tags, smallest.search_lag_s) == (1, "enforced", 0.0)
    assert smallest.faults_s == SHORTEST_S
    named = {line.partition(":")[0] for line in words(smallest)}
    assert {"wire.late", "kills"} <= named
    assert not {"stops", "wire.reply_lost", "workers"} & named


def test_the_plan_itself_stays_as_it_was() -> None:
    plan = full()
    least(plan, lambda one: bool(one.kills))
    assert plan == full()
